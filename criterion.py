"""The loss: the table `TERMS` holds every term and its weight at every step.

Terms are pure, unweighted functions of tensors. Axes: P pairs of frames, N points, K samples on a ray; M = P·N. Pixels
are those of the training resolution. A term is finite, with finite gradient, for any number of valid entries; with none
it is 0. Invalid entries are masked, not removed: sizes that depend on values would make the host wait for a GPU.

Schedules are written for a run of 100,000 steps; `Schedule.scale` adapts them to shorter and longer ones.

To add a term, write its function and append a `Term` to `TERMS`: it is then computed, weighted, logged and named when
training diverges.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from networks.model_config import ModelConfig
from networks.prediction import Prediction
from utils.coords import is_inside_image

MASK_NEAR_STEPS = 4000  # steps with `mask_near`, released constant
DEPTH_PRIOR_SHARE = 0.2  # share of a run, from its start, in which the depth prior has a weight


class TrainingDiverged(Exception):
    """A loss, a gradient or a parameter is no longer finite; the message names the step and what was not finite."""


@dataclass(frozen=True)
class Schedule:
    """A training step and the settings on which the weights of the loss terms depend."""

    step: int
    num_iters: int = 100_000
    scale: float = 1.0  # length of the run over the released 100,000 steps
    depth_prior: float = 0.0  # weight of the depth prior at step 0

    @property
    def released_step(self) -> float:
        """The step of a run of 100,000 steps that corresponds to this one."""
        return self.step / self.scale

    @property
    def masks_near(self) -> bool:
        """Whether the step is early enough for the flag `mask_near` to switch off the nearest samples of each ray."""
        return self.released_step < MASK_NEAR_STEPS


@dataclass(frozen=True)
class LossInputs:
    """Input of the loss terms of one batch."""

    prediction: Prediction
    depths: Tensor  # [P,N,K] of the samples on the source rays
    src_px: Tensor  # [P,N,2]
    tgt_px: Tensor  # [P,N,2] where the points are observed in the target frames
    src_rgb: Tensor  # [P,N,3] in [0,1]
    flow_weights: Tensor  # [P,N]
    prior_depth: Tensor | None  # [P,N] expected at the source points, NaN where unknown; None: no depth prior
    config: ModelConfig  # image size and depth range
    max_padding: float = 0.0  # pixels outside the image within which predicted points count

    @cached_property
    def flow_points(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predicted and observed pixels [M,2], weights [M], and which points are predicted inside the image [M]."""
        pred_px = self.prediction.pred_px.flatten(0, 1)
        inside = is_inside_image(pred_px, self.config.height, self.config.width, self.max_padding)
        return pred_px, self.tgt_px.flatten(0, 1), self.flow_weights.flatten(), inside

    @cached_property
    def rgb_points(self) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted and observed colours [M,3], and which source points lie inside the image [M]."""
        inside = is_inside_image(self.src_px.flatten(0, 1), self.config.height, self.config.width)
        return self.prediction.rgb.flatten(0, 1), self.src_rgb.flatten(0, 1), inside


@dataclass(frozen=True)
class Term:
    """A loss term: its name, its value for a batch, and its weight at a step."""

    name: str
    value: Callable[[LossInputs], Tensor]
    weight: Callable[[Schedule], float]
    has_inputs: Callable[[LossInputs], bool] = lambda x: True  # whether a batch has what it needs


def mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of `values` [*] where `valid` [*]; 0, still attached to the graph, where nothing is."""
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)


def mean_or_zero(values: Tensor) -> Tensor:
    """Return the mean of all entries; 0, still attached to the graph, of an empty tensor."""
    return values.sum() / max(values.numel(), 1)


def without_largest(residuals: Tensor, valid: Tensor) -> Tensor:
    """Return which valid residuals [M] lie strictly below the largest; all of them if none would be left.

    The released code compares with the quantile 1 of the residuals, which drops the largest one.
    """
    if residuals.numel() == 0:
        return valid
    below = valid & (residuals.detach() < torch.where(valid, residuals.detach(), -torch.inf).max())
    return below | (valid & ~below.any())


def consecutive_differences(errors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Subtract from each valid entry the valid one before it.

    Args:
        errors: [M,C].
        valid: bool [M].

    Returns:
        Mean over C of the differences' magnitudes [M], which entries have a predecessor [M], and its index [M], 0
        without one.
    """
    index = torch.arange(len(errors), device=errors.device)
    last = torch.where(valid, index, -1).cummax(0).values  # the last valid entry up to each
    before = torch.cat([last.new_full((min(1, len(last)),), -1), last[:-1]])
    previous = before.clamp(min=0)
    return (errors - errors.index_select(0, previous)).abs().mean(-1), valid & (before >= 0), previous


def flow_loss(pred_px: Tensor, tgt_px: Tensor, weights: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of weight · mean_xy |pred − tgt| over the valid points, the largest residual dropped.

    Args:
        pred_px: Predicted pixels [M,2].
        tgt_px: Observed pixels [M,2].
        weights: [M].
        valid: bool [M], points predicted inside the image.
    """
    residuals = (pred_px - tgt_px).abs().mean(-1)
    return mean_where(residuals * weights, without_largest(residuals, valid))


def flow_gradient_loss(pred_px: Tensor, tgt_px: Tensor, weights: Tensor, valid: Tensor) -> Tensor:
    """Return Σ w·mean_xy|Δ| / (Σ w + 1e−8) of differences Δ between consecutive valid points, the largest dropped.

    w is the product of the two points' weights. Arguments as in `flow_loss`.
    """
    residuals, has_previous, previous = consecutive_differences(pred_px - tgt_px, valid)
    keep = without_largest(residuals, has_previous)
    weights = torch.where(keep, weights * weights[previous], 0)
    return (residuals * weights).sum() / (weights.sum() + 1e-8)


def rgb_loss(pred_rgb: Tensor, gt_rgb: Tensor, valid: Tensor) -> Tensor:
    """Return the mean squared error of colours [M,3] in [0,1] where `valid` [M]."""
    return mean_where((pred_rgb - gt_rgb).square().mean(-1), valid)


def rgb_gradient_loss(pred_rgb: Tensor, gt_rgb: Tensor, valid: Tensor) -> Tensor:
    """Return the L1 error of differences between consecutive valid colours [M,3], the largest residual dropped."""
    residuals, has_previous, _ = consecutive_differences(pred_rgb - gt_rgb, valid)
    return mean_where(residuals, without_largest(residuals, has_previous))


def depth_range_loss(depths: Tensor, near: float, far: float) -> Tensor:
    """Return Σ (distance of the mapped depths [*] from [near, far])² / number of samples."""
    return mean_or_zero((near - depths).clamp(min=0).square() + (depths - far).clamp(min=0).square())


def depth_prior_loss(depths: Tensor, weights: Tensor, prior_depth: Tensor) -> Tensor:
    """Return the mean |rendered − prior depth| of the rays whose prior depth is known.

    Args:
        depths: Depths [*,K] of the samples.
        weights: Their rendering weights [*,K], 0 where a sample does not count. An empty ray is rendered at depth 0.
        prior_depth: [*], NaN where unknown.
    """
    rendered = (weights * depths).sum(-1) / (weights.sum(-1) + 1e-3)
    known = ~prior_depth.isnan()
    return mean_where((rendered - torch.where(known, prior_depth, 0)).abs(), known)


def distortion_loss(depths: Tensor, weights: Tensor) -> Tensor:
    """Return mip-NeRF 360's distortion, averaged over rays: Σ_ij w_i w_j |u_i − u_j| + ⅓ Σ_i w_i² δ_i.

    Intervals run from each depth to the next, the last one is empty; u are their middles, δ their lengths. As u is
    sorted, cumulative sums give the double sum in O(K).

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


def scene_flow_smoothness_loss(x: Tensor, x_previous: Tensor, x_next: Tensor, inner: Tensor) -> Tensor:
    """Return the mean |(x − x₋₁) − (x₊₁ − x)| of local points [P,*,3], the largest mean over xyz dropped.

    Args:
        x: Points in frames of P pairs.
        x_previous: The same points in the frames before.
        x_next: The same points in the frames after.
        inner: bool [P], pairs whose points count.
    """
    # Differences of neighbours are exact in floating point where 2x − x₋₁ − x₊₁ would lose the last digits.
    residuals = ((x - x_previous) - (x_next - x)).abs().mean(-1)
    valid = inner.view(-1, *[1] * (residuals.ndim - 1)).expand_as(residuals).flatten()
    return mean_where(residuals.flatten(), without_largest(residuals.flatten(), valid))


def canonical_unit_sphere_loss(x_canonical: Tensor) -> Tensor:
    """Return the mean (‖x‖² − 1)² of the canonical points [*,3] outside the unit sphere."""
    excess = x_canonical.square().sum(-1) - 1
    return mean_where(excess.square(), excess >= 0)


def _rgb_weight(s: Schedule) -> float:
    return min(s.released_step / 5000, 10.0)


# In the order of summation, on which rounding depends. All weights but that of `depth_prior` are the released ones.
TERMS = (
    Term("flow", lambda x: flow_loss(*x.flow_points), lambda s: 1.0),
    Term("rgb", lambda x: rgb_loss(*x.rgb_points), _rgb_weight),
    Term("rgb_gradient", lambda x: rgb_gradient_loss(*x.rgb_points), _rgb_weight),
    Term(
        "depth_range",
        lambda x: depth_range_loss(x.prediction.z_tgt, x.config.min_depth, x.config.max_depth),
        lambda s: 10.0,
    ),
    Term(
        "distortion",
        lambda x: distortion_loss(x.depths, x.prediction.weights),
        lambda s: min(max(s.released_step - 40_000, 0) / 2000, 10.0),
    ),
    Term(
        "scene_flow_smoothness",
        lambda x: scene_flow_smoothness_loss(
            x.prediction.x_src, x.prediction.x_previous, x.prediction.x_next, x.prediction.inner
        ),
        lambda s: 20.0,
    ),
    Term("canonical_unit_sphere", lambda x: canonical_unit_sphere_loss(x.prediction.x_canonical), lambda s: 0.0),
    Term(
        "flow_gradient",
        lambda x: flow_gradient_loss(*x.flow_points),
        lambda s: min(s.released_step / 500_000, 0.1),
    ),
    Term(  # only early in a run: later the flow decides the order in depth
        "depth_prior",
        lambda x: depth_prior_loss(x.depths, x.prediction.weights, cast(Tensor, x.prior_depth)),
        lambda s: s.depth_prior * max(0.0, 1 - s.step / (DEPTH_PRIOR_SHARE * s.num_iters)),
        has_inputs=lambda x: x.prior_depth is not None,
    ),
)


def loss_weights(schedule: Schedule) -> dict[str, float]:
    """Return the weights of the terms that count at a step, those of weight 0 left out."""
    weights = {term.name: term.weight(schedule) for term in TERMS}
    return {name: weight for name, weight in weights.items() if weight != 0}


def compute_losses(inputs: LossInputs) -> dict[str, Tensor]:
    """Return the unweighted terms by name; the depth prior only where the inputs hold one."""
    return {term.name: term.value(inputs) for term in TERMS if term.has_inputs(inputs)}


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]) -> Tensor:
    """Return the total loss of the terms that have a weight; others leave no trace in the graph."""
    return torch.as_tensor(sum(weight * terms[name] for name, weight in weights.items()))


def rank_nonfinite_terms(
    terms: Mapping[str, Tensor], weights: Mapping[str, float], parameters: Iterable[Tensor], pair: str
) -> list[tuple[float, str]]:
    """Return (magnitude, description) of every weighted term of one pair, infinite for a term that is not finite.

    Args:
        terms: Unweighted terms of this pair only.
        weights: Weights of the terms that count.
        parameters: Parameters with respect to which the loss is differentiated.
        pair: Name of the pair of frames for the descriptions.
    """
    parameters, ranked = list(parameters), []
    for name, weight in weights.items():
        value, gradient = _magnitudes(weight * terms[name], parameters)
        what, size = ("value", value) if value >= gradient else ("gradient", gradient)
        problem = "overflows in the sum" if size < math.inf else "is not finite"
        ranked.append((size, f"the {what} of loss_{name} {problem} for the pair {pair}"))
    return ranked


def _magnitudes(term: Tensor, parameters: list[Tensor]) -> tuple[float, float]:
    """Return |term| and the largest magnitude in its gradient; infinite for what is not finite."""
    entries: list[Tensor | None] = [term]
    if term.requires_grad:
        entries += torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    value, *gradients = (e.abs().max().nan_to_num(math.inf, math.inf).item() for e in entries if e is not None)
    return value, max(gradients, default=0.0)


def describe_divergence(step: int, ranked: Iterable[tuple[float, str]]) -> str:
    """Return a message that names the step and the worst of the `ranked` terms."""
    return f"step {step}: " + max(ranked, key=lambda item: item[0])[1]
