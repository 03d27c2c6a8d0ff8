"""Predict pairs of frames: march the rays of source points, map them to the target frames and composite them."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from networks.omnimotion import OmniMotion
from networks.rendering import composite, points_on_rays, project
from networks.warp import FrameWarp
from utils.device import index_on

# The scene-flow smoothness term uses the first N // 4 points of every pair (released constant).
SCENE_FLOW_SUBSAMPLE = 4


@dataclass(frozen=True)
class Prediction:
    """Input of the loss terms for P pairs with N points and K samples per ray; small compared with the hidden layers.

    P' of the pairs start in an inner frame, one with a frame before and after it; n = N // SCENE_FLOW_SUBSAMPLE.
    """

    pred_px: Tensor  # [P,N,2] pixels of the points in the target frames
    rgb: Tensor  # [P,N,3] composited colours
    x_canonical: Tensor  # [P,N,K,3]
    z_tgt: Tensor  # [P,N,K] depths of the samples in the target frames
    weights: Tensor  # [P,N,K] of the samples, 0 where they lie outside the target frame's depth range
    x_inner: Tensor  # [P',n,K,3] samples in inner source frames
    x_previous: Tensor  # the same samples mapped to the frame before
    x_next: Tensor  # the same samples mapped to the frame after

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all fields in order."""
        return tuple(getattr(self, field.name) for field in fields(self))


def predict_pairs(
    model: OmniMotion,
    src_ids: Tensor,
    tgt_ids: Tensor,
    src_px: Tensor,
    depths: Tensor,
    mask_near: bool = False,
    micro_batch: int = 0,
) -> Prediction:
    """Predict the target positions and colours of source points.

    With a micro-batch, predictions are computed without keeping hidden layers, and once more in the backward pass, one
    micro-batch after the other. Values and gradients are those of the undivided batch, even where loss terms take means
    and maxima over the whole batch.

    Args:
        model: The networks.
        src_ids: Source frames [P], on the CPU: they drive Python control flow.
        tgt_ids: Target frames [P], on the CPU.
        src_px: Points [P,N,2] in the source frames, pixels.
        depths: Depths [P,N,K] of the samples on their rays.
        mask_near: Switch off the nearest samples of each ray.
        micro_batch: Pairs whose hidden layers are in memory at a time (0: all).

    Returns:
        The prediction, differentiable with respect to the model's parameters.
    """
    src, tgt = src_ids.tolist(), tgt_ids.tolist()

    def predict_part(start: int, stop: int) -> tuple[Tensor, ...]:
        rows = slice(start, stop)
        return _predict(model, src[rows], tgt[rows], src_px[rows], depths[rows], mask_near).tensors()

    if not 0 < micro_batch < len(src):
        return Prediction(*predict_part(0, len(src)))
    starts = range(0, len(src), micro_batch)
    parts = [checkpoint(predict_part, k, k + micro_batch, use_reentrant=False) for k in starts]
    return Prediction(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _predict(
    model: OmniMotion, src: list[int], tgt: list[int], src_px: Tensor, depths: Tensor, mask_near: bool
) -> Prediction:
    """Predict all pairs at once; each frame's map is built once, and no point is mapped to a frame twice."""
    config = model.config
    frames = mapped_frames(src, tgt, config.num_frames)
    row_of, maps = {frame: row for row, frame in enumerate(frames)}, model.warp.at(torch.tensor(frames))
    x_src = points_on_rays(src_px, depths, config.height, config.width)
    rays = model.march(maps.select([row_of[i] for i in src]), x_src, mask_near)
    x_tgt = maps.select([row_of[j] for j in tgt]).to_local(rays.x_canonical)
    z_tgt = x_tgt[..., 2]
    # Released behaviour: samples outside the target frame's depth range do not count.
    weights = rays.weights * ((z_tgt >= config.min_depth) & (z_tgt <= config.max_depth))
    return Prediction(
        project(composite(weights, x_tgt), config.height, config.width),
        composite(rays.weights, rays.rgbs),
        rays.x_canonical,
        z_tgt,
        weights,
        *_inner_points(maps, row_of, src, tgt, config.num_frames, x_src, rays.x_canonical, x_tgt),
    )


def inner_pairs(src: list[int], num_frames: int) -> list[int]:
    """Return the pairs whose source frame has a frame before and after it."""
    return [pair for pair, i in enumerate(src) if 1 <= i < num_frames - 1]


def missing_neighbours(src: list[int], tgt: list[int], num_frames: int) -> list[tuple[int, int]]:
    """Return (pair, neighbour of its source frame) for inner pairs, except neighbours that are the pair's target.

    The pair's points are already mapped to its target frame.
    """
    return [
        (pair, j) for pair in inner_pairs(src, num_frames) for j in (src[pair] - 1, src[pair] + 1) if j != tgt[pair]
    ]


def mapped_frames(src: list[int], tgt: list[int], num_frames: int) -> list[int]:
    """Return the frames from or to which points of the pairs are mapped, each once, ascending."""
    return sorted({*src, *tgt, *(frame for _, frame in missing_neighbours(src, tgt, num_frames))})


def _inner_points(
    maps: FrameWarp,
    row_of: dict[int, int],
    src: list[int],
    tgt: list[int],
    num_frames: int,
    x_src: Tensor,
    x_canonical: Tensor,
    x_tgt: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `x_inner`, `x_previous` and `x_next` of a prediction."""
    num_pts = x_src.shape[1] // SCENE_FLOW_SUBSAMPLE
    inner = inner_pairs(src, num_frames) if num_pts else []
    missing = missing_neighbours(src, tgt, num_frames) if num_pts else []
    known, keys = x_tgt[:, :num_pts], [*enumerate(tgt), *missing]
    if missing:
        pairs, frames = zip(*missing, strict=True)
        mapped = maps.select([row_of[j] for j in frames]).to_local(_rows(x_canonical[:, :num_pts], list(pairs)))
        known = torch.cat([known, mapped])
    row_in_known = {key: row for row, key in enumerate(keys)}  # by pair and frame
    previous, following = ([row_in_known[pair, src[pair] + step] for pair in inner] for step in (-1, 1))
    return _rows(x_src[:, :num_pts], inner), _rows(known, previous), _rows(known, following)


def _rows(x: Tensor, index: list[int]) -> Tensor:
    return x.index_select(0, index_on(index, x.device))
