"""The bijection between every frame's local volume and the one canonical volume (paper, section 4.2).

Local coordinates: normalised x, y in [−1, 1] over the image, depth z in [0, 2] (near 0), orthographic rays.
"""

import torch
from torch import Tensor, nn

from networks.coupling import CouplingLayer
from networks.frame_affine import FrameAffine
from networks.gabor import GaborNet
from utils.coords import time_code

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
    ):
        super().__init__()
        self.num_frames = num_frames
        self.code_net = GaborNet(1, code_width, code_size, code_depth, CODE_ALPHA)
        self.layers = nn.ModuleList(
            CouplingLayer(axis, code_size, coupling_width, coupling_depth, num_freqs) for axis in axes
        )
        self.affine = FrameAffine(affine_width, affine_depth, num_freqs) if use_affine else None

    def to_canonical(self, x_local: Tensor, frame_ids: Tensor) -> Tensor:
        """Points [P,*,3] of frames [P] → canonical points [P,*,3]."""
        x, time, code = self._points_and_codes(x_local, frame_ids)
        if self.affine is not None:
            x = self.affine.to_canonical(x, time)
        for layer in self.layers:
            x = layer.to_canonical(x, code)
        return x.reshape(x_local.shape)

    def to_local(self, x_canonical: Tensor, frame_ids: Tensor) -> Tensor:
        """Canonical points [P,*,3] → points [P,*,3] of frames [P]; the inverse of `to_canonical`."""
        x, time, code = self._points_and_codes(x_canonical, frame_ids)
        for layer in reversed(self.layers):
            x = layer.to_local(x, code)
        if self.affine is not None:
            x = self.affine.to_local(x, time)
        return x.reshape(x_canonical.shape)

    def _points_and_codes(self, x: Tensor, frame_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x as [P,M,3], time codes [P], ψ [P,C]."""
        time = time_code(frame_ids, self.num_frames).to(x.dtype)
        return x.flatten(1, -2), time, self.code_net(time.unsqueeze(-1))


def random_axes(num_layers: int, generator: torch.Generator) -> list[int]:
    """Two random permutations of (x, y, z) one after the other, repeated for `num_layers` layers.

    Every coordinate thus changes once in any three consecutive layers.
    """
    two_turns = torch.cat([torch.randperm(3, generator=generator) for _ in range(2)]).tolist()
    return [two_turns[i % 6] for i in range(num_layers)]
