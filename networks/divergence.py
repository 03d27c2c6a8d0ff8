"""Which term of which pair of frames made a training step come out as nonsense."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from loaders.batches import Batch


class TrainingDiverged(Exception):
    """A loss or a gradient stopped being finite; the message names step, term and pair of frames."""


def rank_nonfinite_terms(
    model: nn.Module, batch: Batch, names: Sequence[str], weighted_terms: Callable[[int], dict[str, Tensor]]
) -> list[tuple[float, str]]:
    """How large every term of every pair is, infinite where it is not finite, and what there is to say about it.

    Args:
        names: of the clip's frames.
        weighted_terms: of the pair with that number in the batch, alone.
    """
    found: list[tuple[float, str]] = []
    for p in range(len(batch.src_ids)):
        src, tgt = names[batch.src_ids[p]], names[batch.tgt_ids[p]]
        for name, term in weighted_terms(p).items():
            value, gradient = _magnitudes(term, model)
            what, size = ("value", value) if value >= gradient else ("gradient", gradient)
            problem = "overflows in the sum" if size < math.inf else "is not finite"
            found.append((size, f"the {what} of loss_{name} {problem} for the pair {src} → {tgt}"))
    return found


def _magnitudes(term: Tensor, model: nn.Module) -> tuple[float, float]:
    """|term| and the largest entry of its gradient; infinite where it is not a number."""
    entries = [term]
    if term.requires_grad:
        entries += torch.autograd.grad(term, list(model.parameters()), retain_graph=True, allow_unused=True)
    value, *gradients = (e.abs().max().nan_to_num(math.inf, math.inf).item() for e in entries if e is not None)
    return value, max(gradients, default=0.0)
