"""A per-frame, per-depth affine map of x and y (the released code's `use_affine`; not in the paper)."""

import torch
from torch import Tensor, nn

from networks.encoding import fourier_features
from networks.mlp import mlp


class FrameAffine(nn.Module):
    """Rotation, row scales and shift of (x, y), decided by time and depth; depth itself stays as it is.

    x' = e^θ1·(cos θ0·x − sin θ0·y) + θ2,  y' = e^θ3·(sin θ0·x + cos θ0·y) + θ4,  θ = network(time, z).
    """

    def __init__(self, width: int, depth: int, num_freqs: int):
        super().__init__()
        self.num_freqs = num_freqs
        self.theta = mlp([2 * num_freqs + 2] + [width] * depth + [5], nn.ReLU)

    def to_canonical(self, x: Tensor, time: Tensor) -> Tensor:
        """Apply the map to points x [P,M,3] of the frames with time codes [P]."""
        cos, sin, scale_x, shift_x, scale_y, shift_y = self._affine(x[..., 2], time)
        u = scale_x * (cos * x[..., 0] - sin * x[..., 1]) + shift_x
        v = scale_y * (sin * x[..., 0] + cos * x[..., 1]) + shift_y
        return torch.stack([u, v, x[..., 2]], -1)

    def to_local(self, y: Tensor, time: Tensor) -> Tensor:
        """The analytic inverse of `to_canonical`."""
        cos, sin, scale_x, shift_x, scale_y, shift_y = self._affine(y[..., 2], time)
        u = (y[..., 0] - shift_x) / scale_x
        v = (y[..., 1] - shift_y) / scale_y
        return torch.stack([cos * u + sin * v, cos * v - sin * u, y[..., 2]], -1)

    def _affine(self, z: Tensor, time: Tensor) -> tuple[Tensor, ...]:
        waves = fourier_features(z, self.num_freqs).mT.flatten(-2)  # sin, cos of each octave side by side
        time = time.to(z.dtype).unsqueeze(-1).expand_as(z)
        features = torch.cat([waves, torch.stack([time, z], -1)], -1)
        angle, log_scale_x, shift_x, log_scale_y, shift_y = self.theta(features).unbind(-1)
        return angle.cos(), angle.sin(), log_scale_x.exp(), shift_x, log_scale_y.exp(), shift_y
