"""The bijection between every frame's local volume and the one canonical volume (paper, section 4.2).

Local coordinates: normalised x, y in [−1, 1] over the image, depth z in [0, 2] (near 0), orthographic rays.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from networks.coupling import CouplingLayer, FrameConditioning
from networks.encoding import join_coordinates, split_coordinates
from networks.frame_affine import FrameAffine
from networks.gabor import GaborNet
from networks.planes import SpaceTimePlanes
from utils.coords import time_code
from utils.device import index_on, to_device

CODE_ALPHA = 4.5  # shape of the Gamma prior of the code net's envelopes, released value


class Warp(nn.Module):
    """Maps points between frame i and the canonical volume; invertible in closed form.

    Args:
        num_frames: N of the clip; frame i has time code (i+1)/N.
        axes: the coordinate each coupling layer changes.
        code_size, code_width, code_depth: ψ's length, the code net's hidden width and depth.
        coupling_width, coupling_depth: hidden layers of every coupling net.
        affine_width, affine_depth: hidden layers of the affine net; without `use_affine` there is none.
        num_freqs: octaves of the positional encodings.
        plane_size, plane_channels, plane_interval: cells along x and y (half as many along depth), features and frames
            between two of the planes that every coupling net reads; size 0: none (released).
        soft_bound: what a coupling layer's log-scale, and its shift in images, approach smoothly; 0: the log-scale is
            cut off at ±8.
    """

    def __init__(
        self,
        num_frames: int,
        axes: list[int],
        *,
        code_size: int,
        code_width: int,
        code_depth: int,
        coupling_width: int,
        coupling_depth: int,
        use_affine: bool,
        affine_width: int,
        affine_depth: int,
        num_freqs: int,
        plane_size: int = 0,
        plane_channels: int = 16,
        plane_interval: int = 2,
        soft_bound: float = 0.0,
    ):
        super().__init__()
        self.num_frames, self.num_freqs = num_frames, num_freqs

        def planes(axis: int) -> SpaceTimePlanes | None:
            rows = plane_size if axis == 2 else max(2, plane_size // 2)  # the second kept coordinate is y, else depth
            grid = num_frames, plane_interval, plane_channels, rows, plane_size
            return SpaceTimePlanes(*grid) if plane_size else None

        self.code_net = GaborNet(1, code_width, code_size, code_depth, CODE_ALPHA)
        sizes = code_size, coupling_width, coupling_depth, num_freqs
        self.layers = nn.ModuleList(CouplingLayer(axis, *sizes, planes(axis), soft_bound) for axis in axes)
        self.affine = FrameAffine(affine_width, affine_depth, num_freqs) if use_affine else None

    def at(self, frame_ids: Tensor) -> "FrameMaps":
        """The maps of frames [P], ids on any device."""
        weight = self.code_net.output.weight
        time = to_device(time_code(frame_ids, self.num_frames).to(weight.dtype), weight.device)
        code = self.code_net(time.unsqueeze(-1))
        return FrameMaps(self, time, [layer.condition_on(code, time) for layer in self.layers])

    def to_canonical(self, x_local: Tensor, frame_ids: Tensor) -> Tensor:
        """Points [P,*,3] of frames [P] → canonical points [P,*,3]."""
        return self.at(frame_ids).to_canonical(x_local)

    def to_local(self, x_canonical: Tensor, frame_ids: Tensor) -> Tensor:
        """Canonical points [P,*,3] → points [P,*,3] of frames [P]; the inverse of `to_canonical`."""
        return self.at(frame_ids).to_local(x_canonical)


@dataclass(frozen=True)
class FrameMaps:
    """The maps of P frames, with what depends on the frame alone computed once for all points and both directions."""

    warp: Warp
    time: Tensor  # [P] time codes
    shares: list[FrameConditioning]  # of every coupling layer

    def pick(self, rows: list[int]) -> "FrameMaps":
        """The maps of some of the frames, in any order and number."""
        index = index_on(rows, self.time.device)
        return FrameMaps(self.warp, self.time[index], [share[index] for share in self.shares])

    def to_canonical(self, x_local: Tensor) -> Tensor:
        """Points [P,*,3] of the frames → canonical points [P,*,3]."""
        x = split_coordinates(x_local.flatten(1, -2), self.warp.num_freqs)
        if self.warp.affine is not None:
            x = self.warp.affine.to_canonical(x, self.time)
        for layer, share in zip(self.warp.layers, self.shares, strict=True):
            x = layer.to_canonical(x, share)
        return join_coordinates(x).reshape(x_local.shape)

    def to_local(self, x_canonical: Tensor) -> Tensor:
        """Canonical points [P,*,3] → points [P,*,3] of the frames; the inverse of `to_canonical`."""
        x = split_coordinates(x_canonical.flatten(1, -2), self.warp.num_freqs)
        for layer, share in zip(reversed(self.warp.layers), reversed(self.shares), strict=True):
            x = layer.to_local(x, share)
        if self.warp.affine is not None:
            x = self.warp.affine.to_local(x, self.time)
        return join_coordinates(x).reshape(x_canonical.shape)


def random_axes(num_layers: int, generator: torch.Generator) -> list[int]:
    """Two random permutations of (x, y, z) one after the other, repeated for `num_layers` layers.

    Every coordinate thus changes once in any three consecutive layers.
    """
    two_turns = torch.cat([torch.randperm(3, generator=generator) for _ in range(2)]).tolist()
    return [two_turns[i % 6] for i in range(num_layers)]
