"""Predict pairs of frames: march the rays of source points, map them to the target frames and composite them."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from networks.omnimotion import OmniMotion
from networks.rendering import composite, points_on_rays, project

# The scene-flow smoothness term uses the first N // 4 points of every pair (released constant).
SCENE_FLOW_SUBSAMPLE = 4


@dataclass(frozen=True)
class Prediction:
    """Input of the loss terms for P pairs with N points and K samples per ray; small compared with the hidden layers.

    The smoothness term uses the first n = N // SCENE_FLOW_SUBSAMPLE points of the pairs whose source is an inner frame.
    """

    pred_px: Tensor  # [P,N,2] pixels of the points in the target frames
    rgb: Tensor  # [P,N,3] composited colours
    x_canonical: Tensor  # [P,N,K,3]
    z_tgt: Tensor  # [P,N,K] depths of the samples in the target frames
    weights: Tensor  # [P,N,K] of the samples, 0 where they lie outside the target frame's depth range
    x_src: Tensor  # [P,n,K,3] samples in the source frames
    x_previous: Tensor  # the same samples mapped to the frame before
    x_next: Tensor  # the same samples mapped to the frame after
    inner: Tensor  # bool [P]: there is a frame before and after the source frame

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
        src_ids: Source frames [P].
        tgt_ids: Target frames [P].
        src_px: Points [P,N,2] in the source frames, pixels.
        depths: Depths [P,N,K] of the samples on their rays.
        mask_near: Switch off the nearest samples of each ray.
        micro_batch: Pairs whose hidden layers are in memory at a time (0: all).

    Returns:
        The prediction, differentiable with respect to the model's parameters.
    """

    def predict_part(start: int, stop: int) -> tuple[Tensor, ...]:
        rows = slice(start, stop)
        return _predict(model, src_ids[rows], tgt_ids[rows], src_px[rows], depths[rows], mask_near).tensors()

    if not 0 < micro_batch < len(src_ids):
        return Prediction(*predict_part(0, len(src_ids)))
    starts = range(0, len(src_ids), micro_batch)
    parts = [checkpoint(predict_part, k, k + micro_batch, use_reentrant=False) for k in starts]
    return Prediction(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _predict(
    model: OmniMotion, src_ids: Tensor, tgt_ids: Tensor, src_px: Tensor, depths: Tensor, mask_near: bool
) -> Prediction:
    """Predict all pairs at once; the maps of a pair's four frames are built once for all its points.

    Shapes depend on the numbers of pairs, points and samples alone: at the ends of a clip, a frame stands in for the
    missing one, and `inner` masks its points.
    """
    config, num_pairs = model.config, len(src_ids)
    last, num_pts = config.num_frames - 1, src_px.shape[1] // SCENE_FLOW_SUBSAMPLE
    neighbours = torch.cat([(src_ids - 1).clamp(min=0), (src_ids + 1).clamp(max=last)])
    maps = model.warp.at(torch.cat([src_ids, tgt_ids, neighbours]))
    at_src, at_tgt, at_neighbours = maps.split([num_pairs, num_pairs, 2 * num_pairs])
    x_src = points_on_rays(src_px, depths, config.height, config.width)
    rays = model.march(at_src, x_src, mask_near)
    x_tgt = at_tgt.to_local(rays.x_canonical)
    x_previous, x_next = at_neighbours.to_local(rays.x_canonical[:, :num_pts].repeat(2, 1, 1, 1)).chunk(2)
    z_tgt = x_tgt[..., 2]
    # Released behaviour: samples outside the target frame's depth range do not count.
    weights = rays.weights * ((z_tgt >= config.min_depth) & (z_tgt <= config.max_depth))
    return Prediction(
        project(composite(weights, x_tgt), config.height, config.width),
        composite(rays.weights, rays.rgbs),
        rays.x_canonical,
        z_tgt,
        weights,
        x_src[:, :num_pts],
        x_previous,
        x_next,
        (src_ids > 0) & (src_ids < last),
    )
