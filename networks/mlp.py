"""A plain multi-layer perceptron with torch's default initialisation."""

from itertools import pairwise

from torch import nn

from networks.linear import ExactLinear, HiddenLinear


def mlp(sizes: list[int], activation: type[nn.LeakyReLU] | type[nn.ReLU]) -> nn.Sequential:
    """Linears between consecutive `sizes` with an activation between them, none after the last.

    `mlp([3, 8, 8, 1], nn.ReLU)` maps [*,3] to [*,1] through two hidden layers; its linears are items 0, 2, 4. Those
    between hidden layers alone may be computed in bfloat16.
    """
    layers: list[nn.Module] = []
    last = len(sizes) - 2
    for i, (size_in, size_out) in enumerate(pairwise(sizes)):
        linear = HiddenLinear if 0 < i < last else ExactLinear
        layers += [linear(size_in, size_out), activation(inplace=True)]  # a linear does not need its output again
    return nn.Sequential(*layers[:-1])
