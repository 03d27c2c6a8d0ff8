"""Linear maps: where mixed precision may touch them, and which library multiplies on a CPU.

Only the volume ever runs under autocast (`--amp`), the warp never: the inverse map gets coordinates that differ in
their last bits from those of the forward map. Where bfloat16 rounds them to different values, the inverse no longer
undoes the forward map (after 60 steps of training, `python -m benchmarks.precision`: 5e-2, many pixels; float32:
1e-6). TF32 is off without `--tf32` for the same reason (factors rounded to its ten bits: 4e-4, 0.2 pixels). It cannot
be had for the volume alone: PyTorch has one switch for all products, which the backward pass reads much later than the
forward pass.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """`nn.Linear` that runs in bfloat16 under autocast: for hidden layers, which need few bits."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x·Wᵀ + b, [M,size_in] → [M,size_out]."""
        return linear(x, self.weight, self.bias)


class ExactLinear(nn.Linear):
    """`nn.Linear` that keeps its precision under autocast: for layers that read coordinates or write results."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x·Wᵀ + b, [M,size_in] → [M,size_out], in the precision of the weights."""
        return exact_linear(x, self.weight, self.bias)


def exact_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `linear` in the precision of the weights, with or without autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return linear(x.to(weight.dtype), weight, bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x·Wᵀ + b.

    In float32 on a CPU oneDNN multiplies: torch's own product is MKL's, which is slow on processors of other makers
    than Intel. Under torch.compile torch's own is used: it supports oneDNN's product of constant weights only.

    Args:
        x: [M,size_in]. Rows, not more axes: the result is then no view, and what follows can work in place.
        weight: W [size_out,size_in].
        bias: b [size_out] or None.

    Returns:
        [M,size_out].
    """
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return F.linear(x, weight, bias)
    plain_float = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if plain_float and torch.backends.mkldnn.is_available():
        # Contiguous: a part of a larger matrix it multiplies a hundred times slower.
        return _OneDnnLinear.apply(x.contiguous(), weight.contiguous(), bias)
    return F.linear(x, weight, bias)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _OneDnnLinear(torch.autograd.Function):
    """The product and its first derivatives; the operator itself has none."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_x = _multiply(gradient, weight.T) if ctx.needs_input_grad[0] else None
        to_weight = gradient.T @ x if ctx.needs_input_grad[1] else None
        return to_x, to_weight, gradient.sum(0) if ctx.needs_input_grad[2] else None
