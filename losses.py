"""The loss terms of a batch: rays through the model, the results to `criterion`."""

from torch import Tensor

import criterion
from loaders.batches import Batch
from networks.omnimotion import OmniMotion
from utils.coords import inside_image
from utils.rays import points_on_rays, project
from utils.volrend import composite

# The scene-flow term looks at this share of the points (released: the first quarter).
SMOOTHNESS_SHARE = 4


def compute_losses(
    model: OmniMotion, batch: Batch, depths: Tensor, *, max_padding: float = 0.0, mask_near: bool = False
) -> dict[str, Tensor]:
    """All unweighted loss terms of a batch, for rays sampled at `depths` [P,N,K]."""
    config = model.config
    height, width = config.height, config.width
    x_src = points_on_rays(batch.src_px, depths, height, width)
    rays = model.render_rays(x_src, batch.src_ids, mask_near)
    x_tgt = model.warp.to_local(rays.x_canonical, batch.tgt_ids)
    z_tgt = x_tgt[..., 2]
    # What leaves the target frame's depth range has no place there (released behaviour).
    weights = rays.weights * ((z_tgt >= config.min_depth) & (z_tgt <= config.max_depth))
    pred_px = project(composite(weights, x_tgt), height, width)
    counts = inside_image(pred_px, height, width, max_padding)
    flow = pred_px[counts], batch.tgt_px[counts], batch.weights[counts]
    in_source = inside_image(batch.src_px, height, width)
    rgb = composite(rays.weights, rays.rgbs)[in_source], batch.src_rgb[in_source]
    return {
        "flow": criterion.flow_loss(*flow),
        "rgb": criterion.rgb_loss(*rgb),
        "rgb_gradient": criterion.rgb_gradient_loss(*rgb),
        "depth_range": criterion.depth_range_loss(z_tgt, config.min_depth, config.max_depth),
        "distortion": criterion.distortion_loss(depths, weights),
        "scene_flow_smoothness": _scene_flow_smoothness(model, batch.src_ids, x_src, rays.x_canonical),
        "canonical_unit_sphere": criterion.canonical_unit_sphere_loss(rays.x_canonical),
        "flow_gradient": criterion.flow_gradient_loss(*flow),
    }


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The total loss."""
    return sum(weights[name] * term for name, term in terms.items())


def _scene_flow_smoothness(model: OmniMotion, ids: Tensor, x_local: Tensor, x_canonical: Tensor) -> Tensor:
    """Smoothness of the scene flow at the first quarter of the points of frames that have both neighbours."""
    inner = (ids >= 1) & (ids < model.config.num_frames - 1)
    num_pts = x_local.shape[1] // SMOOTHNESS_SHARE
    if num_pts == 0 or not inner.any():
        return x_local.new_zeros(())
    ids, x_local, x_canonical = ids[inner], x_local[inner, :num_pts], x_canonical[inner, :num_pts]
    x_previous, x_next = model.warp.to_local(x_canonical, ids - 1), model.warp.to_local(x_canonical, ids + 1)
    return criterion.scene_flow_smoothness_loss(x_local, x_previous, x_next)
