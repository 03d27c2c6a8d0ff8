"""The loss terms of a batch: rays through the model, the results to `criterion`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import criterion
from loaders.batches import Batch
from networks.omnimotion import OmniMotion
from networks.rendering import composite, points_on_rays, project
from networks.warp import FrameMaps
from utils.coords import is_inside_image
from utils.device import index_on
from utils.distributed import SINGLE_PROCESS, Context

# The scene-flow term looks at this share of the points (released: the first quarter).
SCENE_FLOW_SUBSAMPLE = 4

TERMS = (
    *("flow", "rgb", "rgb_gradient", "depth_range", "distortion"),
    *("scene_flow_smoothness", "canonical_unit_sphere", "flow_gradient"),
)


@dataclass(frozen=True)
class Prediction:
    """What the terms need of a batch of P pairs: little beside the hidden layers behind it.

    P' pairs start in a frame with both neighbours; n is the number of points that the smoothness term looks at.
    """

    pred_px: Tensor  # [P,N,2] where the points are in the target frames
    rgb: Tensor  # [P,N,3]
    x_canonical: Tensor  # [P,N,K,3]
    z_tgt: Tensor  # [P,N,K] depths in the target frames
    weights: Tensor  # [P,N,K] of the samples, 0 where they have no place in the target frame
    x_inner: Tensor  # [P',n,K,3] samples in their own frames, and where they are one frame earlier and later
    x_previous: Tensor
    x_next: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in order."""
        return tuple(getattr(self, f.name) for f in fields(self))


def compute_losses(
    model: OmniMotion,
    batch: Batch,
    depths: Tensor,
    *,
    max_padding: float = 0.0,
    mask_near: bool = False,
    wanted: Collection[str] = TERMS,
    micro_batch: int = 0,
    context: Context = SINGLE_PROCESS,
    expected_depth: Tensor | None = None,
) -> dict[str, Tensor]:
    """The unweighted loss terms `wanted` of a batch, for rays sampled at `depths` [P,N,K].

    With `expected_depth` [P,N] of the source points (see `loaders.depth_prior`) `depth_prior` is one of them, always.

    With `micro_batch` the gradient passes through so many pairs at a time: what they predict is computed first without
    hidden layers, and again, one part after the other, when the gradient of the whole batch's terms is known. So the
    result is that of the undivided batch, whatever the terms' means and maxima range over.

    So it is with the processes of `context`, each of which has a part of the batch: all compute the terms of all parts, a
    process's gradient is what passes through its own, and the sum over the processes is that of the whole batch.
    """

    def predict_pairs(start: int, stop: int) -> tuple[Tensor, ...]:
        return predict(model, batch.pairs(start, stop), depths[start:stop], mask_near).tensors()

    num_pairs = len(batch.src_ids)
    if 0 < micro_batch < num_pairs:
        starts = range(0, num_pairs, micro_batch)
        parts = [checkpoint(predict_pairs, k, k + micro_batch, use_reentrant=False) for k in starts]
        predicted = Prediction(*(torch.cat(values) for values in zip(*parts, strict=True)))
    else:
        predicted = Prediction(*predict_pairs(0, num_pairs))
    # Not under the same names: what is computed again for the gradient is this process's part.
    of_all = (batch, depths, predicted) if context.size == 1 else _gather_batch(context, batch, depths, predicted)
    terms = terms_of(model, *of_all, max_padding, wanted)
    if expected_depth is not None:
        expected = expected_depth if context.size == 1 else context.all_gather([expected_depth])[0]
        terms["depth_prior"] = criterion.depth_prior_loss(of_all[1], of_all[2].weights, expected)
    return terms


def _gather_batch(
    context: Context, batch: Batch, depths: Tensor, found: Prediction
) -> tuple[Batch, Tensor, Prediction]:
    """The batches, depths and predictions of all processes; the frames' numbers, which no term asks for, stay."""
    given = {name: getattr(batch, name) for name in ("src_px", "tgt_px", "src_rgb", "weights")}
    *values, depths = context.all_gather([*found.tensors(), *given.values(), depths])
    count = len(found.tensors())
    return replace(batch, **dict(zip(given, values[count:], strict=True))), depths, Prediction(*values[:count])


def terms_of(
    model: OmniMotion, batch: Batch, depths: Tensor, found: Prediction, max_padding: float, wanted: Collection[str]
) -> dict[str, Tensor]:
    """The terms `wanted` of what was predicted."""
    config = model.config
    pred_px, src_px = found.pred_px.flatten(0, 1), batch.src_px.flatten(0, 1)
    counts = is_inside_image(pred_px, config.height, config.width, max_padding)
    flow = pred_px, batch.tgt_px.flatten(0, 1), batch.weights.flatten(), counts
    rgb = found.rgb.flatten(0, 1), batch.src_rgb.flatten(0, 1), is_inside_image(src_px, config.height, config.width)
    smooth = found.x_inner, found.x_previous, found.x_next
    terms: dict[str, Callable[[], Tensor]] = {
        "flow": lambda: criterion.flow_loss(*flow),
        "rgb": lambda: criterion.rgb_loss(*rgb),
        "rgb_gradient": lambda: criterion.rgb_gradient_loss(*rgb),
        "depth_range": lambda: criterion.depth_range_loss(found.z_tgt, config.min_depth, config.max_depth),
        "distortion": lambda: criterion.distortion_loss(depths, found.weights),
        "scene_flow_smoothness": lambda: criterion.scene_flow_smoothness_loss(*smooth),
        "canonical_unit_sphere": lambda: criterion.canonical_unit_sphere_loss(found.x_canonical),
        "flow_gradient": lambda: criterion.flow_gradient_loss(*flow),
    }
    return {name: term() for name, term in terms.items() if name in wanted}


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The total loss; terms of weight 0 leave no trace in the graph."""
    return sum(weights[name] * term for name, term in terms.items() if weights[name] != 0)


def predict(model: OmniMotion, batch: Batch, depths: Tensor, mask_near: bool) -> Prediction:
    """Send the rays of a batch through the model, every map of a frame made once and no point mapped twice."""
    config = model.config
    frames = frames_of(batch, config.num_frames)
    row, maps = {frame: k for k, frame in enumerate(frames)}, model.warp.at(torch.tensor(frames))
    src_ids, tgt_ids = batch.src_ids.tolist(), batch.tgt_ids.tolist()
    x_src = points_on_rays(batch.src_px, depths, config.height, config.width)
    rays = model.march(maps.pick([row[i] for i in src_ids]), x_src, mask_near)
    x_tgt = maps.pick([row[j] for j in tgt_ids]).to_local(rays.x_canonical)
    z_tgt = x_tgt[..., 2]
    # What leaves the target frame's depth range has no place there (released behaviour).
    weights = rays.weights * ((z_tgt >= config.min_depth) & (z_tgt <= config.max_depth))
    return Prediction(
        project(composite(weights, x_tgt), config.height, config.width),
        composite(rays.weights, rays.rgbs),
        rays.x_canonical,
        z_tgt,
        weights,
        *_with_neighbours(maps, row, batch, config.num_frames, x_src, rays.x_canonical, x_tgt),
    )


def inner_pairs(batch: Batch, num_frames: int) -> list[int]:
    """The pairs whose source frame has a frame before and after it."""
    return [p for p, i in enumerate(batch.src_ids.tolist()) if 1 <= i < num_frames - 1]


def missing_neighbours(batch: Batch, num_frames: int) -> list[tuple[int, int]]:
    """(pair, frame next to its source frame) where that is not the pair's target: there its points are known."""
    src, tgt = batch.src_ids.tolist(), batch.tgt_ids.tolist()
    return [(p, j) for p in inner_pairs(batch, num_frames) for j in (src[p] - 1, src[p] + 1) if j != tgt[p]]


def frames_of(batch: Batch, num_frames: int) -> list[int]:
    """All frames that a batch's points are mapped from or to, each once."""
    neighbours = {frame for _, frame in missing_neighbours(batch, num_frames)}
    return sorted({*batch.src_ids.tolist(), *batch.tgt_ids.tolist()} | neighbours)


def _with_neighbours(
    maps: FrameMaps,
    row: dict[int, int],
    batch: Batch,
    num_frames: int,
    x_src: Tensor,
    x_canonical: Tensor,
    x_tgt: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The first quarter of the inner pairs' points in their own frame, the one before and the one after."""
    num_pts, src_ids = x_src.shape[1] // SCENE_FLOW_SUBSAMPLE, batch.src_ids.tolist()
    inner = inner_pairs(batch, num_frames) if num_pts else []
    missing = missing_neighbours(batch, num_frames) if num_pts else []
    known, keys = x_tgt[:, :num_pts], [*enumerate(batch.tgt_ids.tolist()), *missing]
    if missing:
        pairs, frames = zip(*missing, strict=True)
        mapped = maps.pick([row[j] for j in frames]).to_local(_rows(x_canonical[:, :num_pts], list(pairs)))
        known = torch.cat([known, mapped])
    places = {key: place for place, key in enumerate(keys)}  # of each pair and frame in `known`
    before, after = ([places[p, src_ids[p] + step] for p in inner] for step in (-1, 1))
    return _rows(x_src[:, :num_pts], inner), _rows(known, before), _rows(known, after)


def _rows(x: Tensor, index: list[int]) -> Tensor:
    return x.index_select(0, index_on(index, x.device))
