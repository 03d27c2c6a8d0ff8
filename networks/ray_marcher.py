"""The networks of one video, their sizes, and rays through them: what training needs of the model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from networks.activation_checkpointing import ActivationCheckpointing
from networks.canonical import CanonicalVolume
from networks.model_config import ModelConfig
from networks.rendering import density_to_alpha, mask_near_samples, points_on_rays, render_weights, sample_depths
from networks.warp import FrameMaps, Warp

# Share of the nearest samples that `mask_near` switches off early in training (released constant).
NEAR_SHARE = 0.2


@dataclass(frozen=True)
class Rendering:
    """Everything along P×N rays of K samples: canonical points, alphas, weights and colours per sample."""

    x_canonical: Tensor  # [P,N,K,3]
    alphas: Tensor  # [P,N,K]
    weights: Tensor  # [P,N,K]
    rgbs: Tensor  # [P,N,K,3]


class RayMarcher(nn.Module):
    """The warp between frames and canonical volume, the volume, and rays of frames marched through it."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.warp = Warp(
            config.num_frames,
            config.axes,
            code_size=config.code_size,
            code_width=config.code_width,
            code_depth=config.code_depth,
            coupling_width=config.coupling_width,
            coupling_depth=config.coupling_depth,
            use_affine=config.use_affine,
            affine_width=config.affine_width,
            affine_depth=config.affine_depth,
            num_freqs=config.pe_freq,
            plane_size=config.plane_size,
            plane_channels=config.plane_channels,
            plane_interval=config.plane_interval,
            soft_bound=config.soft_bound,
        )
        self.volume = CanonicalVolume(
            config.volume_width, config.volume_depth, config.volume_plane_size, config.volume_plane_channels
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def checkpoint_activations(self) -> None:
        """From here on compute hidden layers again for the gradient instead of keeping them."""
        for module in self.modules():
            if isinstance(module, ActivationCheckpointing):
                module.checkpoint_activations = True

    def compile_networks(self) -> None:
        """From here on run the networks as kernels of torch.compile, made when each is first called.

        For any number of points (`dynamic`): batches and queries differ in it. What lies between the networks stays as
        it is, so that recomputing and parts of a batch work as before.
        """
        # The layers share one function, which torch counts the kernels of: with and without gradient, for one frame
        # and for many, each layer has its own.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 8 * len(self.warp.layers))
        self.volume.net.compile(dynamic=True)
        for part in (*self.warp.layers, *filter(None, [self.warp.affine])):
            part._network = torch.compile(part._network, dynamic=True)

    def named_parameter_groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Parameters by name in the three groups with learning rates of their own: `feature`, `deform`, `color`.

        The released names: feature is the code net, deform the couplings and the affine net, color the volume.
        """
        groups: dict[str, dict[str, nn.Parameter]] = {"feature": {}, "deform": {}, "color": {}}
        for name, parameter in self.named_parameters():
            is_code = name.startswith("warp.code_net.")
            group = "color" if name.startswith("volume.") else "feature" if is_code else "deform"
            groups[group][name] = parameter
        return groups

    def coupling_matrices(self) -> list[nn.Parameter]:
        """Matrices of the coupling nets, of their codes and inputs too; not what writes s and t, which has two rows."""
        return [p for p in self.warp.layers.parameters() if p.dim() == 2 and len(p) > 2]

    def depths(self) -> Tensor:
        """The unjittered sample depths [K] of every ray."""
        config = self.config
        return sample_depths(config.num_samples_ray, config.min_depth, config.max_depth, self.device)

    def render_rays(self, x_local: Tensor, frame_ids: Tensor, mask_near: bool = False) -> Rendering:
        """March the rays given by their samples x_local [P,N,K,3] of frames [P] through the canonical volume."""
        return self.march(self.warp.at(frame_ids), x_local, mask_near)

    def march(self, maps: FrameMaps, x_local: Tensor, mask_near: bool = False) -> Rendering:
        """`render_rays` for frames whose maps are made."""
        x_canonical = maps.to_canonical(x_local)
        rgbs, sigmas = self.volume(x_canonical)
        alphas = density_to_alpha(sigmas)
        if mask_near:
            alphas = mask_near_samples(alphas, NEAR_SHARE)
        return Rendering(x_canonical, alphas, render_weights(alphas), rgbs)

    def rays(self, px: Tensor) -> Tensor:
        """Pixels [*,2] → their ray samples [*,K,3] in local coordinates."""
        return points_on_rays(px, self.depths(), self.config.height, self.config.width)
