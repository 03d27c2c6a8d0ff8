"""GaborNet, a multiplicative filter network (Fathony et al., ICLR 2021).

z_0 = g_0(x), z_k = g_k(x) · L_k(z_{k−1}), output = L_out(z_n), with filters
g(x) = sin(Wx + b) · exp(−½ γ ‖x − μ‖²).
"""

import math

import torch
from torch import Tensor, nn

from networks.linear import ExactLinear, Linear, exact_linear


class GaborFilter(nn.Module):
    """One bank of Gabor filters [*,size_in] → [*,size_out].

    γ ~ Gamma(alpha, 1), μ ~ U(−1, 1), W = torch's Linear initialisation · scale · √γ, b ~ U(−π, π).
    """

    def __init__(self, size_in: int, size_out: int, scale: float, alpha: float):
        super().__init__()
        self.linear = ExactLinear(size_in, size_out)  # its output is a phase, of many turns
        self.mu = nn.Parameter(2 * torch.rand(size_out, size_in) - 1)
        gamma = torch.distributions.Gamma(alpha, 1.0, validate_args=False)
        # Without memory there is nothing to draw, and torch 2.11 cannot.
        self.gamma = nn.Parameter(torch.empty(size_out) if self.mu.is_meta else gamma.sample((size_out,)))
        with torch.no_grad():
            self.linear.weight *= scale * self.gamma.sqrt().unsqueeze(-1)
            self.linear.bias.uniform_(-math.pi, math.pi)

    def forward(self, x: Tensor) -> Tensor:
        # −½γ‖x−μ‖² as one linear map of (x, ‖x‖²): a matrix product instead of a [*,size_out,size_in] tensor.
        weight = torch.cat([self.gamma.unsqueeze(-1) * self.mu, -0.5 * self.gamma.unsqueeze(-1)], -1)
        bias = -0.5 * self.gamma * self.mu.square().sum(-1)
        # Exact: the terms are large and cancel.
        log_envelope = exact_linear(torch.cat([x, x.square().sum(-1, keepdim=True)], -1), weight, bias)
        return self.linear(x).sin() * log_envelope.exp_()


class GaborNet(nn.Module):
    """`num_layers` + 1 filters and `num_layers` linears between them; [*,size_in] → [*,size_out]."""

    def __init__(
        self,
        size_in: int,
        width: int,
        size_out: int,
        num_layers: int,
        alpha: float,
        input_scale: float = 256.0,
    ):
        super().__init__()
        num_filters = num_layers + 1
        # Made in the order of the released code, so that a seed draws the same numbers (see official_checkpoint).
        self.linears = nn.ModuleList(Linear(width, width) for _ in range(num_layers))
        self.output = ExactLinear(width, size_out)
        for layer in self.linears:
            nn.init.uniform_(layer.weight, -math.sqrt(1 / width), math.sqrt(1 / width))
        self.filters = nn.ModuleList(
            GaborFilter(size_in, width, input_scale / math.sqrt(num_filters), alpha / num_filters)
            for _ in range(num_filters)
        )

    def forward(self, x: Tensor) -> Tensor:
        leading, x = x.shape[:-1], x.flatten(0, -2)
        z = self.filters[0](x)
        for gabor, layer in zip(self.filters[1:], self.linears, strict=True):
            z = gabor(x) * layer(z)
        return self.output(z).unflatten(0, leading)
