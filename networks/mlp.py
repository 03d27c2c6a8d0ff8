"""A plain multi-layer perceptron with torch's default initialisation."""

from itertools import pairwise

from torch import nn

from networks.linear import Linear


def mlp(
    sizes: list[int], activation: type[nn.LeakyReLU] | type[nn.ReLU], ends: type[nn.Linear] = Linear
) -> nn.Sequential:
    """Linears between consecutive `sizes` with an activation between them, none after the last.

    `mlp([3, 8, 8, 1], nn.ReLU)` maps [*,3] to [*,1] through two hidden layers; its linears are items 0, 2, 4, of which
    the first and the last are `ends`.
    """
    layers: list[nn.Module] = []
    for k, (size_in, size_out) in enumerate(pairwise(sizes)):
        kind = ends if k in (0, len(sizes) - 2) else Linear
        layers += [kind(size_in, size_out), activation(inplace=True)]  # a linear does not need its output again
    return nn.Sequential(*layers[:-1])
