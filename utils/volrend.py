"""Volume rendering of tensors (NeRF, Mildenhall et al. 2020); no network is known here.

Samples lie along the last axis K, near to far: α = 1 − e^(−σ) (the released model has no interval length),
T_k = Π_{l<k} (1 − α_l), w = T·α.
"""

import torch
from torch import Tensor

# Keeps T > 0 behind an opaque sample, so that its gradient does not vanish for good (released constant).
TRANSMITTANCE_EPS = 1e-10


def density_to_alpha(sigmas: Tensor) -> Tensor:
    """α = 1 − e^(−σ), [*,K] → [*,K]."""
    return -torch.expm1(-sigmas)


def render_weights(alphas: Tensor) -> Tensor:
    """w_k = α_k·Π_{l<k}(1 − α_l + ε), [*,K] → [*,K]."""
    through = torch.cumprod(1 - alphas + TRANSMITTANCE_EPS, -1)
    trans = torch.cat([torch.ones_like(through[..., :1]), through[..., :-1]], -1)
    return trans * alphas


def composite(weights: Tensor, values: Tensor) -> Tensor:
    """Σ_k w_k·values_k: [*,K] and [*,K,C] → [*,C]."""
    return (weights.unsqueeze(-1) * values).sum(-2)


def take_heaviest(weights: Tensor, values: Tensor) -> Tensor:
    """The values of the one sample with the largest weight: [*,K] and [*,K,C] → [*,C]."""
    index = weights.argmax(-1, keepdim=True).unsqueeze(-1).expand(*values.shape[:-2], 1, values.shape[-1])
    return values.gather(-2, index).squeeze(-2)


def hide_nearest(alphas: Tensor, share: float) -> Tensor:
    """Alphas with the nearest `share` of the samples set to 0 (the released `mask_near`)."""
    num_hidden = int(alphas.shape[-1] * share)
    return torch.cat([torch.zeros_like(alphas[..., :num_hidden]), alphas[..., num_hidden:]], -1)
