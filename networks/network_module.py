"""Base class of modules that wrap one network: torch.compile and activation checkpointing."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHECKPOINT_ROWS = 2048  # rows per checkpointed piece: recomputing the widest network then takes 0.1 GB


class NetworkModule(nn.Module):
    """A module whose network can be compiled, and can recompute its hidden layers in the backward pass.

    Subclasses define `network` and call it by `run_network`. With `checkpoint_activations` set, the network's inputs
    are kept for the backward pass instead of its hidden layers; the gradient then costs a third more.
    """

    network: Callable[..., Tensor]
    checkpoint_activations = False
    _compiled: Callable[..., Tensor] | None = None

    def compile_network(self) -> None:
        """Compile `network` with torch.compile, at its next call and for any number of rows."""
        self._compiled = torch.compile(self.network, dynamic=True, mode=self.compile_mode)

    @property
    def compile_mode(self) -> str | None:
        """Mode of torch.compile: on a GPU it times several kernels; CUDA graphs are left to the training step."""
        return "max-autotune-no-cudagraphs" if next(self.parameters()).is_cuda else None

    def run_network(self, x: Tensor, *shared: Tensor | None) -> Tensor:
        """Call the network.

        Args:
            x: The network's first input [*,M,C], whose M rows are processed independently.
            shared: Its other inputs, without the axis M.

        Returns:
            The network's output [*,M,D].
        """
        network = self._compiled or self.network
        if not (self.checkpoint_activations and torch.is_grad_enabled()):
            return network(x, *shared)
        pieces = x.split(max(1, CHECKPOINT_ROWS // math.prod(x.shape[:-2])), -2)
        # Contiguous: other strides would make torch.compile build further kernels.
        outputs = [checkpoint(network, piece.contiguous(), *shared, use_reentrant=False) for piece in pieces]
        return torch.cat(outputs, -2)
