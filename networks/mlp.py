"""A plain multi-layer perceptron with torch's default initialization."""

from itertools import islice, pairwise
from typing import cast

from torch import Tensor, nn

from networks.linear import Linear


class MLP(nn.Sequential):
    """Linear layers between consecutive sizes, an activation between them, none after the last.

    `MLP([3, 8, 8, 1], nn.ReLU)` maps [M,3] to [M,1] through two hidden layers. Linear layers are items 0, 2, 4, …

    Args:
        sizes: Input size, hidden sizes, output size.
        activation: Class of the activations.
        ends: Class of the first and the last linear layer.
    """

    def __init__(
        self, sizes: list[int], activation: type[nn.LeakyReLU] | type[nn.ReLU], ends: type[nn.Linear] = Linear
    ):
        layers: list[nn.Module] = []
        for k, (size_in, size_out) in enumerate(pairwise(sizes)):
            kind = ends if k in (0, len(sizes) - 2) else Linear
            layers += [kind(size_in, size_out), activation(inplace=True)]  # a linear does not need its output again
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
