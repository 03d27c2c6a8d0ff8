"""Base class of the modules around one network: how the network runs, whatever it computes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHECKPOINT_ROWS = 2048  # checkpointed at a time: recomputing the widest network then takes 0.1 GB


class NetworkModule(nn.Module):
    """A module whose network can be compiled, and can recompute its hidden layers in the backward pass.

    Subclasses define `network` and call it by `run_network`. With `checkpoint_activations` set, the network's inputs
    are kept for the backward pass instead of its hidden layers; the gradient then costs a third more.
    """

    network: Callable[..., Tensor]
    checkpoint_activations = False
    _compiled: Callable[..., Tensor] | None = None

    def compile_network(self) -> None:
        """From here on run `network` as kernels of torch.compile, built at the first call, for any number of rows."""
        self._compiled = torch.compile(self.network, dynamic=True)

    def run_network(self, x: Tensor, *shared: Tensor | None) -> Tensor:
        """Call the network.

        Args:
            x: The network's first input, with rows [*,M,C] that do not depend on one another.
            shared: Its other inputs, without the axis M.

        Returns:
            The network's output [*,M,D].
        """
        network = self._compiled or self.network
        if not (self.checkpoint_activations and torch.is_grad_enabled()):
            return network(x, *shared)
        pieces = x.split(max(1, CHECKPOINT_ROWS // math.prod(x.shape[:-2])), -2)
        # Contiguous: compiled networks have kernels of their own for other strides.
        outputs = [checkpoint(network, piece.contiguous(), *shared, use_reentrant=False) for piece in pieces]
        return torch.cat(outputs, -2)
