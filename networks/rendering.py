"""Orthographic rays and volume rendering (NeRF, Mildenhall et al., 2020), as functions of tensors without networks.

A pixel's ray is its normalised (x, y) at every depth z. Its K samples lie along the axis K, near to far.
Alphas α = 1 − e^(−σ) (the released model has no interval length), transmittances T_k = Π_{l<k} (1 − α_l), weights
w = T·α.
"""

from typing import Any

import torch
from torch import Tensor

from utils.coords import denormalize_px, normalize_px

# Keeps T > 0 behind an opaque sample, so that gradients still reach what lies behind it (released constant).
TRANSMITTANCE_EPS = 1e-10


def sample_depths(num_samples: int, near: float, far: float, device: torch.device | str = "cpu") -> Tensor:
    """Return evenly spaced depths [K] from near to far, ends included."""
    return torch.linspace(near, far, num_samples, device=device)


def jitter_depths(depths: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw stratified depths, each uniform in the interval between the mid-points beside its unjittered depth.

    Args:
        depths: Unjittered depths [K].
        shape: Shape * of the rays.
        generator: Source of the random numbers, drawn on its own device: a seed gives the same rays on all devices.

    Returns:
        [*,K], on the device of `depths`.
    """
    mid = (depths[1:] + depths[:-1]) / 2
    lower, upper = torch.cat([depths[:1], mid]), torch.cat([mid, depths[-1:]])
    uniform = torch.rand(*shape, len(depths), generator=generator).to(depths.device)
    return lower + (upper - lower) * uniform


def points_on_rays(px: Tensor, depths: Tensor, height: int, width: int) -> Tensor:
    """Return the local points [*,K,3] on the rays of pixels [*,2] at depths [*,K] or [K]."""
    depths = depths.expand(*px.shape[:-1], depths.shape[-1])
    xy = normalize_px(px, height, width).unsqueeze(-2).expand(*depths.shape, 2)
    return torch.cat([xy, depths.unsqueeze(-1)], -1)


def project(x_local: Tensor, height: int, width: int) -> Tensor:
    """Return the pixels [*,2] of local points [*,3]; orthographic, so depth has no effect."""
    return denormalize_px(x_local[..., :2], height, width)


def density_to_alpha(sigmas: Tensor) -> Tensor:
    """Return α = 1 − e^(−σ), [*,K] → [*,K]."""
    return -torch.expm1(-sigmas)


def mask_near_samples(alphas: Tensor, fraction: float) -> Tensor:
    """Return alphas [*,K] with the nearest `fraction` of the samples set to 0 (the released `mask_near`)."""
    num_masked = int(alphas.shape[-1] * fraction)
    return torch.cat([torch.zeros_like(alphas[..., :num_masked]), alphas[..., num_masked:]], -1)


class _PositiveCumprod(torch.autograd.Function):
    """Products of all factors [*,K] up to each, for factors above 0.

    The gradient of torch's cumprod looks for zeros on the host, which then waits for a GPU.
    """

    @staticmethod
    def forward(ctx: Any, factors: Tensor) -> Tensor:
        products = torch.cumprod(factors, -1)
        ctx.save_for_backward(factors, products)
        return products

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        factors, products = ctx.saved_tensors
        return (grad * products).flip(-1).cumsum(-1).flip(-1) / factors


def render_weights(alphas: Tensor) -> Tensor:
    """Return w_k = α_k·Π_{l<k}(1 − α_l + ε), [*,K] → [*,K]."""
    through = _PositiveCumprod.apply(1 - alphas + TRANSMITTANCE_EPS)
    trans = torch.cat([torch.ones_like(through[..., :1]), through[..., :-1]], -1)
    return trans * alphas


def composite(weights: Tensor, values: Tensor) -> Tensor:
    """Return Σ_k w_k·values_k (paper, equation 3): [*,K] and [*,K,C] → [*,C]."""
    return (weights.unsqueeze(-1) * values).sum(-2)


def gather_max_weight(weights: Tensor, values: Tensor) -> Tensor:
    """Return the values of the one sample with the largest weight: [*,K] and [*,K,C] → [*,C]."""
    index = weights.argmax(-1, keepdim=True).unsqueeze(-1).expand(*values.shape[:-2], 1, values.shape[-1])
    return values.gather(-2, index).squeeze(-2)
