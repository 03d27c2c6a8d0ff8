"""Volume rendering of tensors (NeRF, Mildenhall et al. 2020); no network is known here.

Samples lie along the last axis K, near to far: α = 1 − e^(−σ) (the released model has no interval length),
T_k = Π_{l<k} (1 − α_l), w = T·α.


Orthographic rays: a pixel's ray is its normalised (x, y) at every depth z in [near, far].
"""

import torch
from torch import Tensor

from utils.coords import denormalize_px, normalize_px
from utils.device import to_device

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


def gather_max_weight(weights: Tensor, values: Tensor) -> Tensor:
    """The values of the one sample with the largest weight: [*,K] and [*,K,C] → [*,C]."""
    index = weights.argmax(-1, keepdim=True).unsqueeze(-1).expand(*values.shape[:-2], 1, values.shape[-1])
    return values.gather(-2, index).squeeze(-2)


def mask_near_samples(alphas: Tensor, share: float) -> Tensor:
    """Alphas with the nearest `share` of the samples set to 0 (the released `mask_near`)."""
    num_hidden = int(alphas.shape[-1] * share)
    return torch.cat([torch.zeros_like(alphas[..., :num_hidden]), alphas[..., num_hidden:]], -1)


def sample_depths(num_samples: int, near: float, far: float, device: torch.device | str = "cpu") -> Tensor:
    """Evenly spaced depths [K] from near to far, ends included."""
    return torch.linspace(near, far, num_samples, device=device)


def jitter_depths(depths: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Stratified depths [*shape,K]: each uniform in the interval between the mid-points beside its `depths` [K].

    Drawn on the generator's device, so that one seed gives the same rays whatever device trains.
    """
    mid = (depths[1:] + depths[:-1]) / 2
    lower, upper = torch.cat([depths[:1], mid]), torch.cat([mid, depths[-1:]])
    uniform = to_device(torch.rand(*shape, len(depths), generator=generator), depths.device)
    return lower + (upper - lower) * uniform


def points_on_rays(px: Tensor, depths: Tensor, height: int, width: int) -> Tensor:
    """Pixels [*,2] and depths [*,K] (or [K]) → local points [*,K,3]."""
    depths = depths.expand(*px.shape[:-1], depths.shape[-1])
    xy = normalize_px(px, height, width).unsqueeze(-2).expand(*depths.shape, 2)
    return torch.cat([xy, depths.unsqueeze(-1)], -1)


def project(x_local: Tensor, height: int, width: int) -> Tensor:
    """Local points [*,3] → pixels [*,2]; orthographic, so depth plays no part."""
    return denormalize_px(x_local[..., :2], height, width)
