"""The networks of one video, and ray marching through them: the part of the model that training needs."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from networks.canonical import CanonicalVolume
from networks.model_config import ModelConfig
from networks.network_module import NetworkModule
from networks.rendering import density_to_alpha, mask_near_samples, points_on_rays, render_weights, sample_depths
from networks.warp import FrameWarp, Warp

# Fraction of the samples, the nearest ones, that `mask_near` switches off early in training (released constant).
NEAR_FRACTION = 0.2


@dataclass(frozen=True)
class RaySamples:
    """The K samples of P×N rays after marching."""

    x_canonical: Tensor  # [P,N,K,3]
    alphas: Tensor  # [P,N,K]
    weights: Tensor  # [P,N,K]
    rgbs: Tensor  # [P,N,K,3]


class RayMarcher(nn.Module):
    """The warp between frames and canonical volume, the volume, and marching of rays through it."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.warp = Warp(config)
        self.volume = CanonicalVolume(
            config.volume_width, config.volume_depth, config.volume_plane_size, config.volume_plane_channels
        )

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return next(self.parameters()).device

    def checkpoint_activations(self) -> None:
        """Enable activation checkpointing: the backward pass recomputes hidden layers instead of keeping them."""
        for module in self._network_modules():
            module.checkpoint_activations = True

    @property
    def recomputes(self) -> bool:
        """Whether activation checkpointing is enabled."""
        return any(module.checkpoint_activations for module in self._network_modules())

    def compile_networks(self) -> None:
        """Compile the networks with torch.compile.

        The code between the networks stays as it is, so that activation checkpointing and micro-batches work as before.
        """
        for module in self._network_modules():
            module.compile_network()

    def _network_modules(self) -> Iterator[NetworkModule]:
        return (module for module in self.modules() if isinstance(module, NetworkModule))

    def named_parameter_groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return parameters by name in the three groups that have separate learning rates.

        The groups have the released names: `feature` is the code net, `deform` the couplings and the affine net,
        `color` the volume.
        """
        groups: dict[str, dict[str, nn.Parameter]] = {"feature": {}, "deform": {}, "color": {}}
        for name, parameter in self.named_parameters():
            is_code = name.startswith("warp.code_net.")
            group = "color" if name.startswith("volume.") else "feature" if is_code else "deform"
            groups[group][name] = parameter
        return groups

    def coupling_matrices(self) -> list[nn.Parameter]:
        """Return the coupling layers' matrices except each output matrix, whose two rows give s and t."""
        parameters = (p for layer in self.warp.layers for p in layer.parameters())
        return [p for p in parameters if p.dim() == 2 and len(p) > 2]

    def depths(self) -> Tensor:
        """Return the unjittered sample depths [K] of every ray."""
        config = self.config
        return sample_depths(config.num_samples_ray, config.min_depth, config.max_depth, self.device)

    def rays(self, px: Tensor) -> Tensor:
        """Return the unjittered samples [*,K,3], in local coordinates, on the rays of pixels [*,2]."""
        return points_on_rays(px, self.depths(), self.config.height, self.config.width)

    def march(self, frames: FrameWarp, x_local: Tensor, mask_near: bool = False) -> RaySamples:
        """March rays through the canonical volume.

        Args:
            frames: The maps of the P frames.
            x_local: The rays' samples [P,N,K,3] in the frames' local coordinates.
            mask_near: Switch the nearest samples off.
        """
        x_canonical = frames.to_canonical(x_local)
        rgbs, sigmas = self.volume(x_canonical)
        alphas = density_to_alpha(sigmas)
        if mask_near:
            alphas = mask_near_samples(alphas, NEAR_FRACTION)
        return RaySamples(x_canonical, alphas, render_weights(alphas), rgbs)

    def render_rays(self, x_local: Tensor, frame_ids: Tensor) -> RaySamples:
        """March rays of frames given by their ids [P]; otherwise as `march`."""
        return self.march(self.warp.at(frame_ids), x_local)
