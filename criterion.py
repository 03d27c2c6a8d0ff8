"""Loss terms: pure functions of tensors, unweighted; weights and schedules live in `utils.schedules` and the trainer.

Axes: P pairs, N points, K samples. Pixels of the training resolution. Every term is finite, with finite gradient,
for any number of valid entries, zero included (it is then 0). What does not count is masked, not cut out: sizes that
depend on values would make the host wait for a GPU.
"""

import torch
from torch import Tensor


def mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of `values` [*] where `valid` [*]; 0, still attached to the graph, where nothing is."""
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)


def mean_or_zero(values: Tensor) -> Tensor:
    """Mean of all entries; 0, still attached to the graph, of an empty tensor."""
    return values.sum() / max(values.numel(), 1)


def without_largest(residuals: Tensor, valid: Tensor) -> Tensor:
    """Which valid residuals [M] lie strictly below the largest; all of them where nothing else would be left.

    The released code compares with the quantile 1 of the residuals, which drops the largest one.
    """
    if residuals.numel() == 0:
        return valid
    below = valid & (residuals.detach() < torch.where(valid, residuals.detach(), -torch.inf).max())
    return below | (valid & ~below.any())


def consecutive_differences(errors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Differences of each valid entry to the valid one before it.

    Args:
        errors: [M,C].
        valid: bool [M].

    Returns:
        Mean over C of the magnitudes of the differences [M], which entries have one [M], the index of the other [M].
    """
    here = torch.arange(len(errors), device=errors.device)
    last = torch.where(valid, here, -1).cummax(0).values  # the last valid entry up to each
    before = torch.cat([last.new_full((min(1, len(last)),), -1), last[:-1]])
    other = before.clamp(min=0)
    return (errors - errors.index_select(0, other)).abs().mean(-1), valid & (before >= 0), other


def flow_loss(pred_px: Tensor, tgt_px: Tensor, weights: Tensor, valid: Tensor) -> Tensor:
    """Mean of weight · mean_xy |pred − tgt| over the valid points but the one with the largest residual.

    Args:
        pred_px, tgt_px: [M,2] pixels.
        weights: [M] of their pairs.
        valid: bool [M], the points predicted inside the image.
    """
    residuals = (pred_px - tgt_px).abs().mean(-1)
    return mean_where(residuals * weights, without_largest(residuals, valid))


def flow_gradient_loss(pred_px: Tensor, tgt_px: Tensor, weights: Tensor, valid: Tensor) -> Tensor:
    """L1 on differences of consecutive valid points, the largest dropped: Σ w·mean_xy|Δ| / (Σ w + 1e−8).

    w is the product of the two points' weights. Args as `flow_loss`.
    """
    residuals, has_one, other = consecutive_differences(pred_px - tgt_px, valid)
    keep = without_largest(residuals, has_one)
    weights = torch.where(keep, weights * weights[other], 0)
    return (residuals * weights).sum() / (weights.sum() + 1e-8)


def rgb_loss(pred_rgb: Tensor, gt_rgb: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error of colours [M,3] in [0,1] where `valid` [M]."""
    return mean_where((pred_rgb - gt_rgb).square().mean(-1), valid)


def rgb_gradient_loss(pred_rgb: Tensor, gt_rgb: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error of the differences of consecutive valid colours [M,3], the largest residual dropped."""
    residuals, has_one, _ = consecutive_differences(pred_rgb - gt_rgb, valid)
    return mean_where(residuals, without_largest(residuals, has_one))


def depth_range_loss(depths: Tensor, near: float, far: float) -> Tensor:
    """Σ (distance of the mapped depths [*] from [near, far])² / number of samples."""
    return mean_or_zero((near - depths).clamp(min=0).square() + (depths - far).clamp(min=0).square())


def depth_prior_loss(depths: Tensor, weights: Tensor, expected: Tensor) -> Tensor:
    """Mean |rendered − expected depth| of rays with samples at `depths` and of `weights` [*,K], 0 where none counts.

    `expected` [*] is NaN where nothing is expected. A ray that holds nothing is rendered at depth 0.
    """
    rendered = (weights * depths).sum(-1) / (weights.sum(-1) + 1e-3)
    known = ~expected.isnan()
    return mean_where((rendered - torch.where(known, expected, 0)).abs(), known)


def distortion_loss(depths: Tensor, weights: Tensor) -> Tensor:
    """mip-NeRF 360's distortion of each ray, averaged: Σ_ij w_i w_j |u_i − u_j| + ⅓ Σ_i w_i² δ_i.

    The intervals run from each depth to the next, the last one is empty; u are their middles, δ their lengths.
    Computed in O(K) by cumulative sums, u being sorted.

    Args:
        depths: [*,K], ascending.
        weights: [*,K].
    """
    ends = torch.cat([depths, depths[..., -1:]], -1)
    middles = (ends[..., 1:] + ends[..., :-1]) / 2
    before, moment_before = weights.cumsum(-1) - weights, (weights * middles).cumsum(-1) - weights * middles
    between = 2 * (weights * (middles * before - moment_before)).sum(-1)
    within = (weights.square() * ends.diff(dim=-1)).sum(-1) / 3
    return mean_or_zero(between + within)


def scene_flow_smoothness_loss(x: Tensor, x_previous: Tensor, x_next: Tensor) -> Tensor:
    """Mean |(x − x₋₁) − (x₊₁ − x)| of local points [*,3], the point with the largest mean over xyz dropped."""
    # Differences of neighbours are exact in floating point where 2x − x₋₁ − x₊₁ would lose the last digits.
    residuals = ((x - x_previous) - (x_next - x)).abs().mean(-1).flatten()
    return mean_where(residuals, without_largest(residuals, torch.ones_like(residuals, dtype=torch.bool)))


def canonical_unit_sphere_loss(x_canonical: Tensor) -> Tensor:
    """Mean (‖x‖² − 1)² of the canonical points [*,3] outside the unit sphere (its released weight is 0)."""
    excess = x_canonical.square().sum(-1) - 1
    return mean_where(excess.square(), excess >= 0)
