"""A per-frame, per-depth affine map of x and y (the released code's `use_affine`; not in the paper)."""

import torch
from torch import Tensor, nn

from networks.encoding import Coordinate
from networks.mlp import MLP
from networks.network_module import NetworkModule


class FrameAffine(NetworkModule):
    """Rotation, row scales and shift of (x, y) that depend on time and depth; depth is kept.

    x' = e^θ1·(cos θ0·x − sin θ0·y) + θ2,  y' = e^θ3·(sin θ0·x + cos θ0·y) + θ4,  θ = network(time, z).
    """

    def __init__(self, width: int, depth: int, num_freqs: int):
        super().__init__()
        self.num_freqs = num_freqs
        self.theta = MLP([2 * num_freqs + 2] + [width] * depth + [5], nn.ReLU)

    def to_canonical(self, x: list[Coordinate], time: Tensor) -> list[Coordinate]:
        """Apply the map to points, given as three coordinates [P,M,1], of the frames with time codes [P]."""
        cos, sin, scale_x, shift_x, scale_y, shift_y = self._affine(x[2], time)
        u = scale_x * (cos * x[0].value - sin * x[1].value) + shift_x
        v = scale_y * (sin * x[0].value + cos * x[1].value) + shift_y
        return [Coordinate(u, self.num_freqs), Coordinate(v, self.num_freqs), x[2]]

    def to_local(self, y: list[Coordinate], time: Tensor) -> list[Coordinate]:
        """Apply the analytic inverse of `to_canonical`."""
        cos, sin, scale_x, shift_x, scale_y, shift_y = self._affine(y[2], time)
        u = (y[0].value - shift_x) / scale_x
        v = (y[1].value - shift_y) / scale_y
        return [
            Coordinate(cos * u + sin * v, self.num_freqs),
            Coordinate(cos * v - sin * u, self.num_freqs),
            y[2],
        ]

    def _affine(self, z: Coordinate, time: Tensor) -> tuple[Tensor, ...]:
        """Return cos θ0, sin θ0, e^θ1, θ2, e^θ3, θ4, each [P,M,1]."""
        fourier = z.fourier.unflatten(-1, (2, self.num_freqs)).mT.flatten(-2)  # sine and cosine of each octave adjacent
        time = time.to(z.value.dtype)[:, None, None].expand_as(z.value)
        theta = self.run_network(torch.cat([fourier, time, z.value], -1))
        angle, log_scale_x, shift_x, log_scale_y, shift_y = theta.split(1, -1)
        return angle.cos(), angle.sin(), log_scale_x.exp(), shift_x, log_scale_y.exp(), shift_y

    def network(self, x: Tensor) -> Tensor:
        """Return θ [P,M,5] of encoded depth and time [P,M,2F+2]."""
        return self.theta(x.flatten(0, 1)).unflatten(0, x.shape[:-1])
