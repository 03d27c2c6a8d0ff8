"""GaborNet, a multiplicative filter network (Fathony et al., ICLR 2021).

z_0 = g_0(x), z_k = g_k(x) · L_k(z_{k−1}), output = L_out(z_n), with filters
g(x) = sin(Wx + b) · exp(−½ γ ‖x − μ‖²).
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from networks.mlp import ExactLinear, exact_linear

FREQUENCY_SCALE = 256.0  # of the filters' frequencies, shared among the filters, as released


class GaborFilter(nn.Module):
    """A bank of Gabor filters.

    Initially γ ~ Gamma(alpha, 1), μ ~ U(−1, 1), W = torch's initialisation · scale · √γ, b ~ U(−π, π).
    """

    def __init__(self, size_in: int, size_out: int, scale: float, alpha: float):
        super().__init__()
        self.linear = ExactLinear(size_in, size_out)  # its output is a phase of many turns, so it must be exact
        self.mu = nn.Parameter(2 * torch.rand(size_out, size_in) - 1)
        gamma = torch.distributions.Gamma(alpha, 1.0, validate_args=False)
        # On the meta device there is nothing to draw, and torch 2.11 raises an error.
        self.gamma = nn.Parameter(torch.empty(size_out) if self.mu.is_meta else gamma.sample((size_out,)))
        with torch.no_grad():
            self.linear.weight *= scale * self.gamma.sqrt().unsqueeze(-1)
            self.linear.bias.uniform_(-math.pi, math.pi)

    def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
        """Return g(x), or g(x) · factor, [M,size_out], of x [M,size_in]."""
        # −½γ‖x−μ‖² as one linear map of (x, ‖x‖²): a matrix product instead of a [M,size_out,size_in] tensor.
        weight = torch.cat([self.gamma.unsqueeze(-1) * self.mu, -0.5 * self.gamma.unsqueeze(-1)], -1)
        bias = -0.5 * self.gamma * self.mu.square().sum(-1)
        # Exact: the terms are large and cancel.
        log_envelope = exact_linear(torch.cat([x, x.square().sum(-1, keepdim=True)], -1), weight, bias)
        return GaborProduct.apply(self.linear(x), log_envelope, factor)


class GaborProduct(torch.autograd.Function):
    """sin(phase) · exp(log_envelope), times a factor if there is one, all [M,C].

    Of the intermediate results, only the envelope is kept for the gradient, which computes the sine again.
    """

    @staticmethod
    def forward(ctx: Any, phase: Tensor, log_envelope: Tensor, factor: Tensor | None) -> Tensor:
        """Return the product [M,C]."""
        envelope = log_envelope.exp()
        ctx.save_for_backward(phase, envelope, factor)
        product = phase.sin().mul_(envelope)
        return product if factor is None else product * factor

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the gradients of the three inputs [M,C]."""
        phase, envelope, factor = ctx.saved_tensors
        of_product, sine = grad * envelope, phase.sin()
        of_wave = of_product if factor is None else of_product * factor
        of_factor = None if factor is None else (of_product * sine).to(factor.dtype)
        return of_wave * phase.cos(), of_wave * sine, of_factor


class GaborNet(nn.Module):
    """`num_layers` hidden linear layers between `num_layers` + 1 filters.

    Args:
        size_in: Input size.
        width: Hidden size.
        size_out: Output size.
        num_layers: Number n of hidden linear layers.
        alpha: Shape of γ's Gamma distribution, shared among the filters.
    """

    def __init__(self, size_in: int, width: int, size_out: int, num_layers: int, alpha: float):
        super().__init__()
        num_filters = num_layers + 1
        # Created in the released order, so that a seed draws the same weights (`released_checkpoint` relies on it).
        linears = [nn.Linear(width, width) for _ in range(num_layers)]
        self.linears = cast(Sequence[nn.Linear], nn.ModuleList(linears))  # torch does not type a ModuleList's items
        self.output = ExactLinear(width, size_out)
        for layer in self.linears:
            nn.init.uniform_(layer.weight, -math.sqrt(1 / width), math.sqrt(1 / width))
        filters = [
            GaborFilter(size_in, width, FREQUENCY_SCALE / math.sqrt(num_filters), alpha / num_filters)
            for _ in range(num_filters)
        ]
        self.filters = cast(Sequence[GaborFilter], nn.ModuleList(filters))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output [*,size_out] of x [*,size_in]."""
        leading, x = x.shape[:-1], x.flatten(0, -2)
        z = self.filters[0](x)
        for gabor, layer in zip(self.filters[1:], self.linears, strict=True):
            z = gabor(x, layer(z))
        return self.output(z).unflatten(0, leading)
