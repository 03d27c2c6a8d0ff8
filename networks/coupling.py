"""Affine coupling layers of a Real-NVP (Dinh et al., 2017), conditioned on a frame's code.

One coordinate of three changes, the two others decide how: v ← (v − t)·e^(−s) towards the canonical volume and
v ← v·e^s + t back, with (s, t) a network of the two kept coordinates and the code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.encoding import fourier_features
from networks.mlp import mlp

# e^±8 is the largest stretch one layer may apply: keeps e^s finite and the inverse accurate in float32.
MAX_LOG_SCALE = 8.0


class CouplingLayer(nn.Module):
    """Changes coordinate `axis` of points [P,M,3], given the codes [P,C] of their frames."""

    def __init__(self, axis: int, code_size: int, width: int, depth: int, num_freqs: int):
        super().__init__()
        self.axis = axis
        self.kept = [i for i in range(3) if i != axis]
        self.num_freqs = num_freqs
        self.code_mlp = mlp([code_size, code_size, code_size], nn.LeakyReLU)
        self.encode = nn.Linear(2 + 4 * num_freqs, width)
        self.scale_shift = mlp([code_size + width] + [width] * depth + [2], nn.LeakyReLU)

    def to_canonical(self, x: Tensor, code: Tensor) -> Tensor:
        """v ← (v − t)·e^(−s)."""
        log_scale, shift = self._log_scale_and_shift(x, code)
        return self._replace(x, (x[..., self.axis] - shift) * (-log_scale).exp())

    def to_local(self, y: Tensor, code: Tensor) -> Tensor:
        """v ← v·e^s + t, the inverse of `to_canonical`."""
        log_scale, shift = self._log_scale_and_shift(y, code)
        return self._replace(y, y[..., self.axis] * log_scale.exp() + shift)

    def _log_scale_and_shift(self, x: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """(s, t), each [P,M], from the kept coordinates of x [P,M,3] and code [P,C]."""
        kept = x[..., self.kept]
        features = torch.cat([kept, fourier_features(kept, self.num_freqs).flatten(-3)], -1)
        encoding = F.leaky_relu(self.encode(features))
        # The first linear sees [code, encoding]; the code's share is the same for every point of a frame.
        first, rest = self.scale_shift[0], self.scale_shift[1:]
        weight_code, weight_encoding = first.weight.split([code.shape[-1], encoding.shape[-1]], -1)
        from_code = F.linear(self.code_mlp(code), weight_code, first.bias)
        log_scale, shift = rest(F.linear(encoding, weight_encoding) + from_code.unsqueeze(-2)).unbind(-1)
        return log_scale.clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE), shift

    def _replace(self, x: Tensor, value: Tensor) -> Tensor:
        coordinates = list(x.unbind(-1))
        coordinates[self.axis] = value
        return torch.stack(coordinates, -1)
