"""Run a function over a long axis piece by piece, so that memory does not grow with the number of points."""

from collections.abc import Callable

import torch
from torch import Tensor


def chunked(function: Callable[..., tuple[Tensor, ...]], chunk_size: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Apply `function` to pieces of at most `chunk_size` rows of `inputs` [N,*]; outputs joined along axis 0."""
    pieces = [
        function(*(x[start : start + chunk_size] for x in inputs)) for start in range(0, len(inputs[0]), chunk_size)
    ]
    return tuple(torch.cat(outputs) for outputs in zip(*pieces, strict=True))
