"""Networks that can forget their hidden layers and compute them again for the gradient."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

ROWS = 2048  # checkpointed at a time: the widest network then holds 0.1 GB


class ActivationCheckpointing(nn.Module):
    """A module whose networks keep their inputs alone where `checkpoint_activations` is set.

    Of a sample that is the encoding of two coordinates instead of all hidden layers; the gradient costs a third more.
    """

    checkpoint_activations = False

    def checkpointed(self, network: Callable[..., Tensor], x: Tensor, *shared: Tensor) -> Tensor:
        """network(x [*,M,C], *shared), its hidden layers kept for the gradient or not."""
        if not (self.checkpoint_activations and torch.is_grad_enabled()):
            return network(x, *shared)
        pieces = x.split(max(1, ROWS // math.prod(x.shape[:-2])), -2)
        return torch.cat([checkpoint(network, piece, *shared, use_reentrant=False) for piece in pieces], -2)
