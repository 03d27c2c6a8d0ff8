"""Multi-layer perceptrons with torch's default initialisation, and linear layers that mixed precision must not touch.

Only the volume runs under autocast (`--amp`), never the warp. The inverse map reads coordinates that differ in their
last bits from those of the forward map. Where bfloat16 rounds the two to different values, the inverse no longer undoes
the forward map (after 60 training steps, `python -m benchmarks.precision`: 5e-2, many pixels; float32: 1e-6). TF32 is
off without `--tf32` for the same reason (factors rounded to its ten bits: 4e-4, 0.2 pixels). It cannot be enabled for
the volume only: PyTorch has one switch for all products, which the backward pass reads long after the forward pass.
"""

from itertools import islice, pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ExactLinear(nn.Linear):
    """`nn.Linear` that keeps its precision under autocast: for layers that read coordinates or write results."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x·Wᵀ + b, [M,size_in] → [M,size_out], in the precision of the weights."""
        return exact_linear(x, self.weight, self.bias)


def exact_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x·Wᵀ + b, [M,size_in] → [M,size_out], in the precision of the weights, with or without autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(weight.dtype), weight, bias)


class MLP(nn.Sequential):
    """Linear layers between consecutive sizes, an activation between them, none after the last.

    `MLP([3, 8, 8, 1], nn.ReLU)` maps [M,3] to [M,1] through two hidden layers. Linear layers are items 0, 2, 4, …
    Inputs are rows [M,size_in] without further axes: outputs are then no views, and activations can work in place.

    Args:
        sizes: Input size, hidden sizes, output size.
        activation: Class of the activations.
        ends: Class of the first and the last linear layer.
    """

    def __init__(
        self, sizes: list[int], activation: type[nn.LeakyReLU] | type[nn.ReLU], ends: type[nn.Linear] = nn.Linear
    ):
        layers: list[nn.Module] = []
        for k, (size_in, size_out) in enumerate(pairwise(sizes)):
            kind = ends if k in (0, len(sizes) - 2) else nn.Linear
            # In place, because the backward pass of a linear layer does not need its output.
            layers += [kind(size_in, size_out), activation(inplace=True)]
        super().__init__(*layers[:-1])

    @property
    def first(self) -> nn.Linear:
        """The first linear layer."""
        return cast(nn.Linear, self[0])

    @property
    def last(self) -> nn.Linear:
        """The last linear layer."""
        return cast(nn.Linear, self[-1])

    def after_first(self, hidden: Tensor) -> Tensor:
        """Apply the layers behind the first linear layer and its activation."""
        for layer in islice(self, 2, None):
            hidden = layer(hidden)
        return hidden
