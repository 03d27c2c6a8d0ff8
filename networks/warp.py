"""The bijection between every frame's local volume and the one canonical volume (paper, section 4.2).

Local coordinates: normalised x, y in [−1, 1] over the image, depth z in [0, 2] (near 0), orthographic rays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from networks.coupling import CouplingLayer, FrameConditioning
from networks.encoding import join_coordinates, split_coordinates
from networks.frame_affine import FrameAffine
from networks.gabor import GaborNet
from networks.model_config import ModelConfig
from networks.planes import SpaceTimePlanes
from utils.coords import time_code
from utils.device import index_on, to_device

CODE_ALPHA = 4.5  # shape of the Gamma prior of the code net's envelopes, released value


class Warp(nn.Module):
    """Maps between frames and the canonical volume, invertible in closed form.

    Args:
        config: Sizes; `axes` holds the coordinate that each coupling layer changes.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.num_frames, self.num_freqs = config.num_frames, config.pe_freq

        def planes(axis: int) -> SpaceTimePlanes | None:
            if config.plane_size == 0:
                return None
            # Rows span the second kept coordinate: y, or depth, which needs fewer cells.
            rows = config.plane_size if axis == 2 else max(2, config.plane_size // 2)
            return SpaceTimePlanes(
                config.num_frames, config.plane_interval, config.plane_channels, rows, config.plane_size
            )

        self.code_net = GaborNet(1, config.code_width, config.code_size, config.code_depth, CODE_ALPHA)
        sizes = config.code_size, config.coupling_width, config.coupling_depth, config.pe_freq
        layers = [CouplingLayer(axis, *sizes, planes(axis), config.soft_bound) for axis in config.axes]
        self.layers = cast(Sequence[CouplingLayer], nn.ModuleList(layers))  # torch does not type a ModuleList's items
        affine = config.affine_width, config.affine_depth, config.pe_freq
        self.affine = FrameAffine(*affine) if config.use_affine else None

    def at(self, frame_ids: Tensor) -> "FrameWarp":
        """Return the maps of frames [P], ids on any device."""
        weight = self.code_net.output.weight
        time = to_device(time_code(frame_ids, self.num_frames).to(weight.dtype), weight.device)
        code = self.code_net(time.unsqueeze(-1))
        planes = self.layers[0].planes  # those of the other layers are stored for the same frames
        spline_weights = None if planes is None else planes.weights_at(time)
        return FrameWarp(self, time, [layer.condition_on(code, spline_weights) for layer in self.layers])

    def to_canonical(self, x_local: Tensor, frame_ids: Tensor) -> Tensor:
        """Map points [P,*,3] of frames [P] to canonical points [P,*,3]."""
        return self.at(frame_ids).to_canonical(x_local)

    def to_local(self, x_canonical: Tensor, frame_ids: Tensor) -> Tensor:
        """Map canonical points [P,*,3] to points [P,*,3] of frames [P], the inverse of `to_canonical`."""
        return self.at(frame_ids).to_local(x_canonical)


@dataclass(frozen=True)
class FrameWarp:
    """The maps of P frames; what depends only on the frame is computed once for all points and both directions."""

    warp: Warp
    time: Tensor  # [P] time codes
    conditionings: list[FrameConditioning]  # for each coupling layer

    def select(self, rows: list[int]) -> "FrameWarp":
        """Return the maps of some of the P frames, in any order and number."""
        index = index_on(rows, self.time.device)
        return FrameWarp(self.warp, self.time[index], [each[index] for each in self.conditionings])

    def split(self, sizes: list[int]) -> list["FrameWarp"]:
        """Return the maps of consecutive frames, `sizes[k]` in the k-th part."""
        parts = zip(self.time.split(sizes), *(each.split(sizes) for each in self.conditionings), strict=True)
        return [FrameWarp(self.warp, time, list(conditionings)) for time, *conditionings in parts]

    def to_canonical(self, x_local: Tensor) -> Tensor:
        """Map points [P,*,3] of the frames to canonical points [P,*,3]."""
        x = split_coordinates(x_local.flatten(1, -2), self.warp.num_freqs)
        if self.warp.affine is not None:
            x = self.warp.affine.to_canonical(x, self.time)
        for layer, conditioning in zip(self.warp.layers, self.conditionings, strict=True):
            x = layer.to_canonical(x, conditioning)
        return join_coordinates(x).reshape(x_local.shape)

    def to_local(self, x_canonical: Tensor) -> Tensor:
        """Map canonical points [P,*,3] to points [P,*,3] of the frames, the inverse of `to_canonical`."""
        x = split_coordinates(x_canonical.flatten(1, -2), self.warp.num_freqs)
        for layer, conditioning in zip(reversed(self.warp.layers), reversed(self.conditionings), strict=True):
            x = layer.to_local(x, conditioning)
        if self.warp.affine is not None:
            x = self.warp.affine.to_local(x, self.time)
        return join_coordinates(x).reshape(x_canonical.shape)


def random_axes(num_layers: int, generator: torch.Generator) -> list[int]:
    """Return the coordinate that each layer changes: two random permutations of (x, y, z), repeated every 6 layers.

    So each run of three layers changes every coordinate once.
    """
    two_turns = torch.cat([torch.randperm(3, generator=generator) for _ in range(2)]).tolist()
    return [two_turns[i % 6] for i in range(num_layers)]
