"""Affine coupling layers of a Real-NVP (Dinh et al., 2017), conditioned on a frame's code.

One coordinate of three changes, the two others decide how: v ← (v − t)·e^(−s) towards the canonical volume and
v ← v·e^s + t back, with (s, t) a network of the two kept coordinates and the code.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.activation_checkpointing import ActivationCheckpointing
from networks.encoding import Coordinate
from networks.linear import Linear, linear
from networks.mlp import mlp
from networks.planes import REACH, SpaceTimePlanes, look_up

# Without a soft bound e^±8 is the largest stretch one layer may apply: it keeps e^s finite and the inverse accurate in
# float32.
MAX_LOG_SCALE = 8.0

IMAGE_SIZE = 2.0  # of x and y in [−1, 1], and of depth: the unit in which a soft bound counts shifts

# With planes the first maps are near the identity: a layer's output is this share of what torch's initialisation gives.
NEAR_IDENTITY = 0.1


@dataclass(frozen=True)
class FrameConditioning:
    """What a coupling network gets of P frames, whatever the point."""

    hidden: Tensor  # [P,width]: what the code adds to the first hidden layer
    plane: Tensor | None  # [P,C,h,w]: features over the two kept coordinates

    def __getitem__(self, index: Tensor) -> "FrameConditioning":
        """That of the frames `index`."""
        return FrameConditioning(self.hidden[index], None if self.plane is None else self.plane[index])


class CouplingLayer(ActivationCheckpointing):
    """Changes coordinate `axis` of points given as three coordinates [P,M,1], conditioned on their frames' codes.

    With `planes`, features of the frame at the two kept coordinates are added to their encoding. `soft_bound` B > 0
    bounds s and t smoothly, B·tanh(s/B) and 2B·tanh(t/2B), in place of cutting s off at ±8.
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
        self.middle = 1.0 if 2 in self.kept else 0.0  # of the second kept coordinate: y is in [−1, 1], depth in [0, 2]
        self.code_mlp = mlp([code_size, code_size, code_size], nn.LeakyReLU)
        self.encode = Linear(2 + 4 * num_freqs, width)
        self.scale_shift = mlp([code_size + width] + [width] * depth + [2], nn.LeakyReLU)
        self.planes = planes
        if planes is not None:
            self.look_up = Linear(planes.channels, width, bias=False)
            with torch.no_grad():
                self.scale_shift[-1].weight *= NEAR_IDENTITY
                self.scale_shift[-1].bias.zero_()

    def condition_on(self, code: Tensor, time: Tensor) -> FrameConditioning:
        """What the network gets of frames with codes [P,C] and time codes [P].

        The first linear sees [code, encoding]; the code's share of it is the same for every point of a frame.
        """
        first = self.scale_shift[0]
        hidden = F.linear(self.code_mlp(code), first.weight[:, : code.shape[-1]], first.bias)
        return FrameConditioning(hidden, None if self.planes is None else self.planes.at(time))

    def to_canonical(self, x: list[Coordinate], share: FrameConditioning) -> list[Coordinate]:
        """v ← (v − t)·e^(−s)."""
        log_scale, shift = self._log_scale_and_shift(x, share)
        return self._replace(x, (x[self.axis].value - shift) * (-log_scale).exp())

    def to_local(self, y: list[Coordinate], share: FrameConditioning) -> list[Coordinate]:
        """v ← v·e^s + t, the inverse of `to_canonical`."""
        log_scale, shift = self._log_scale_and_shift(y, share)
        return self._replace(y, y[self.axis].value * log_scale.exp() + shift)

    def _log_scale_and_shift(self, x: list[Coordinate], share: FrameConditioning) -> tuple[Tensor, Tensor]:
        """(s, t), each [P,M,1], from the kept coordinates and the frames."""
        a, b = (x[i] for i in self.kept)
        features = torch.cat([a.value, b.value, a.waves, b.waves], -1)
        log_scale, shift = self.checkpointed(self._network, features, share.hidden, share.plane).split(1, -1)
        if self.soft_bound > 0:
            return soften(log_scale, self.soft_bound), soften(shift, IMAGE_SIZE * self.soft_bound)
        return log_scale.clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE), shift

    def _network(self, features: Tensor, share: Tensor, plane: Tensor | None) -> Tensor:
        """The coupling network: encoded kept coordinates [P,M,2+4F] → s and t [P,M,2], s unbounded."""
        leading = features.shape[:-1]
        encoding = self.encode(features.flatten(0, 1))
        if plane is not None:
            where = torch.stack([features[..., 0], features[..., 1] - self.middle], -1) / REACH
            local = look_up(plane, where)
            encoding = encoding + self.look_up(local.flatten(0, 1))
        encoding = F.leaky_relu(encoding, inplace=True)
        first, activation, rest = self.scale_shift[0], self.scale_shift[1], self.scale_shift[2:]
        hidden = linear(encoding, first.weight[:, -encoding.shape[-1] :]).unflatten(0, leading)
        hidden = activation(hidden + share.unsqueeze(-2))
        return rest(hidden.flatten(0, 1)).unflatten(0, leading)

    def _replace(self, x: list[Coordinate], value: Tensor) -> list[Coordinate]:
        return [*x[: self.axis], Coordinate(value, self.num_freqs), *x[self.axis + 1 :]]


def soften(x: Tensor, bound: float) -> Tensor:
    """bound·tanh(x/bound): x where it is small, never beyond ±bound."""
    return bound * (x / bound).tanh()
