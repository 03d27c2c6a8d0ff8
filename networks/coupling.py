"""Affine coupling layers of a Real-NVP (Dinh et al., 2017), conditioned on a frame's code (paper, section 4.2).

A layer changes one coordinate v of three: v ← (v − t)·e^(−s) towards the canonical volume and v ← v·e^s + t back. The
log-scale s and the shift t are a network's outputs for the two kept coordinates and the frame's code.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.encoding import Coordinate
from networks.mlp import MLP
from networks.network_module import NetworkModule
from networks.planes import PLANE_EXTENT, SpaceTimePlanes, sample_planes

# The largest |s| without a soft bound: e^±8 keeps e^s finite and the inverse accurate in float32.
MAX_LOG_SCALE = 8.0

IMAGE_SIZE = 2.0  # extent of x, y and depth, the unit in which a soft bound limits shifts

# Factor of the output layer's initial weights if there are planes, so that initial maps are near identity.
NEAR_IDENTITY = 0.1


@dataclass(frozen=True)
class FrameConditioning:
    """A coupling network's inputs that depend only on the frame, for P frames."""

    hidden: Tensor  # [P,width]: the code's part of the first hidden layer
    plane: Tensor | None  # [P,C,h,w]: features over the two kept coordinates

    def __getitem__(self, index: Tensor) -> "FrameConditioning":
        """Return the inputs of the frames `index`."""
        return FrameConditioning(self.hidden[index], None if self.plane is None else self.plane[index])

    def split(self, sizes: list[int]) -> list["FrameConditioning"]:
        """Return the inputs of consecutive frames, `sizes[k]` in the k-th part."""
        planes = [None] * len(sizes) if self.plane is None else self.plane.split(sizes)
        return [FrameConditioning(*part) for part in zip(self.hidden.split(sizes), planes, strict=True)]


class CouplingLayer(NetworkModule):
    """One coupling layer, on points given as three coordinates [P,M,1].

    Args:
        axis: The coordinate that changes.
        code_size: Length of a frame's code ψ.
        width: Hidden width of the network.
        depth: Hidden layers of the network.
        num_freqs: Octaves F of the encoding of the kept coordinates.
        planes: If given, features of the frame at the two kept coordinates are added to their encoding.
        soft_bound: B > 0 bounds s and t smoothly by B·tanh(s/B) and 2B·tanh(t/2B); 0: s is clamped to ±8.
    """

    def __init__(
        self,
        axis: int,
        code_size: int,
        width: int,
        depth: int,
        num_freqs: int,
        planes: SpaceTimePlanes | None = None,
        soft_bound: float = 0.0,
    ):
        super().__init__()
        self.axis = axis
        self.kept = [i for i in range(3) if i != axis]
        self.num_freqs, self.soft_bound = num_freqs, soft_bound
        self.middle = 1.0 if 2 in self.kept else 0.0  # of the second kept coordinate: y in [−1, 1], depth in [0, 2]
        self.code_mlp = MLP([code_size, code_size, code_size], nn.LeakyReLU)
        self.encode = nn.Linear(2 + 4 * num_freqs, width)
        self.scale_shift = MLP([code_size + width] + [width] * depth + [2], nn.LeakyReLU)
        self.planes = planes
        if planes is not None:
            self.look_up = nn.Linear(planes.channels, width, bias=False)
            with torch.no_grad():
                self.scale_shift.last.weight *= NEAR_IDENTITY
                self.scale_shift.last.bias.zero_()

    def condition_on(self, code: Tensor, spline_weights: Tensor | None) -> FrameConditioning:
        """Return the network's inputs for frames with codes [P,C] and, with planes, the weights [P,S] of these.

        The first linear layer maps [code, encoding]. Its product with the code is the same for all points of a frame.
        """
        first = self.scale_shift.first
        hidden = F.linear(self.code_mlp(code), first.weight[:, : code.shape[-1]], first.bias)
        return FrameConditioning(
            hidden, None if self.planes is None or spline_weights is None else self.planes.interpolate(spline_weights)
        )

    def to_canonical(self, x: list[Coordinate], conditioning: FrameConditioning) -> list[Coordinate]:
        """Apply v ← (v − t)·e^(−s)."""
        log_scale, shift = self._log_scale_and_shift(x, conditioning)
        return self._replace(x, (x[self.axis].value - shift) * (-log_scale).exp())

    def to_local(self, y: list[Coordinate], conditioning: FrameConditioning) -> list[Coordinate]:
        """Apply v ← v·e^s + t, the inverse of `to_canonical`."""
        log_scale, shift = self._log_scale_and_shift(y, conditioning)
        return self._replace(y, y[self.axis].value * log_scale.exp() + shift)

    def _log_scale_and_shift(self, x: list[Coordinate], conditioning: FrameConditioning) -> tuple[Tensor, Tensor]:
        """Return s and t, each [P,M,1], which depend only on the kept coordinates and the frame."""
        a, b = (x[i] for i in self.kept)
        features = torch.cat([a.value, b.value, a.fourier, b.fourier], -1)
        log_scale, shift = self.run_network(features, conditioning.hidden, conditioning.plane).split(1, -1)
        if self.soft_bound > 0:
            return soften(log_scale, self.soft_bound), soften(shift, IMAGE_SIZE * self.soft_bound)
        return log_scale.clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE), shift

    def _replace(self, x: list[Coordinate], value: Tensor) -> list[Coordinate]:
        return [*x[: self.axis], Coordinate(value, self.num_freqs), *x[self.axis + 1 :]]

    def network(self, x: Tensor, code_hidden: Tensor, plane: Tensor | None) -> Tensor:
        """Return s and t [P,M,2], unbounded.

        Args:
            x: Values and Fourier features of the kept coordinates [P,M,2+4F].
            code_hidden: `FrameConditioning.hidden`.
            plane: `FrameConditioning.plane`.
        """
        weight = self.encode.weight
        if plane is not None:  # one product for both: narrow ones take almost as long as wide ones
            points = torch.stack([x[..., 0], x[..., 1] - self.middle], -1) / PLANE_EXTENT
            x = torch.cat([x, sample_planes(plane, points)], -1)
            weight = torch.cat([weight, self.look_up.weight], 1)
        encoding = F.leaky_relu(F.linear(x.flatten(0, 1), weight, self.encode.bias), inplace=True)
        first = self.scale_shift.first
        hidden = F.linear(encoding, first.weight[:, -encoding.shape[-1] :]).unflatten(0, x.shape[:-1])
        hidden = F.leaky_relu(hidden + code_hidden.unsqueeze(-2), inplace=True)
        return self.scale_shift.after_first(hidden.flatten(0, 1)).unflatten(0, x.shape[:-1])


def soften(x: Tensor, bound: float) -> Tensor:
    """Return bound·tanh(x/bound): near x where |x| is small, never beyond ±bound."""
    return bound * (x / bound).tanh()
