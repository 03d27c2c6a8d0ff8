"""Orthographic rays: a pixel's ray is its normalised (x, y) at every depth z in [near, far]."""

import torch
from torch import Tensor

from utils.coords import denormalize_px, normalize_px
from utils.transfer import to_device


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
