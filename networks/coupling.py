"""Affine coupling layers of a Real-NVP (Dinh et al., 2017), conditioned on a frame's code.

One coordinate of three changes, the two others decide how: v ← (v − t)·e^(−s) towards the canonical volume and
v ← v·e^s + t back, with (s, t) a network of the two kept coordinates and the code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.encoding import Coordinate
from networks.linear import Linear, linear
from networks.mlp import mlp
from networks.recompute import Recomputed

# e^±8 is the largest stretch one layer may apply: keeps e^s finite and the inverse accurate in float32.
MAX_LOG_SCALE = 8.0


class CouplingLayer(Recomputed):
    """Changes coordinate `axis` of points given as three coordinates [P,M,1], conditioned on their frames' codes."""

    def __init__(self, axis: int, code_size: int, width: int, depth: int, num_freqs: int):
        super().__init__()
        self.axis = axis
        self.kept = [i for i in range(3) if i != axis]
        self.num_freqs = num_freqs
        self.code_mlp = mlp([code_size, code_size, code_size], nn.LeakyReLU)
        self.encode = Linear(2 + 4 * num_freqs, width)
        self.scale_shift = mlp([code_size + width] + [width] * depth + [2], nn.LeakyReLU)

    def code_share(self, code: Tensor) -> Tensor:
        """What codes [P,C] add to the first hidden layer [P,width].

        Its linear sees [code, encoding]; the code's share is the same for every point of a frame.
        """
        first = self.scale_shift[0]
        return F.linear(self.code_mlp(code), first.weight[:, : code.shape[-1]], first.bias)

    def to_canonical(self, x: list[Coordinate], share: Tensor) -> list[Coordinate]:
        """v ← (v − t)·e^(−s)."""
        log_scale, shift = self._log_scale_and_shift(x, share)
        return self._replace(x, (x[self.axis].value - shift) * (-log_scale).exp())

    def to_local(self, y: list[Coordinate], share: Tensor) -> list[Coordinate]:
        """v ← v·e^s + t, the inverse of `to_canonical`."""
        log_scale, shift = self._log_scale_and_shift(y, share)
        return self._replace(y, y[self.axis].value * log_scale.exp() + shift)

    def _log_scale_and_shift(self, x: list[Coordinate], share: Tensor) -> tuple[Tensor, Tensor]:
        """(s, t), each [P,M,1], from the kept coordinates and `code_share` [P,width]."""
        a, b = (x[i] for i in self.kept)
        features = torch.cat([a.value, b.value, a.waves, b.waves], -1)
        log_scale, shift = self.recomputed(self._network, features, share).split(1, -1)
        return log_scale.clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE), shift

    def _network(self, features: Tensor, share: Tensor) -> Tensor:
        """The coupling network: encoded kept coordinates [P,M,2+4F] → s and t [P,M,2], s unbounded."""
        leading = features.shape[:-1]
        encoding = F.leaky_relu(self.encode(features.flatten(0, 1)), inplace=True)
        first, activation, rest = self.scale_shift[0], self.scale_shift[1], self.scale_shift[2:]
        hidden = linear(encoding, first.weight[:, -encoding.shape[-1] :]).unflatten(0, leading)
        hidden = activation(hidden + share.unsqueeze(-2))
        return rest(hidden.flatten(0, 1)).unflatten(0, leading)

    def _replace(self, x: list[Coordinate], value: Tensor) -> list[Coordinate]:
        return [*x[: self.axis], Coordinate(value, self.num_freqs), *x[self.axis + 1 :]]
