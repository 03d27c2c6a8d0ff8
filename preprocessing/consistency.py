"""Checks of flow by cycle consistency and appearance, as pure functions of tensors.

Flows are [*,H,W,2] in pixels, points `px` [*,2] in pixels (x, y) with integer = pixel centre. Lookups are bilinear with
aligned corners. A point outside the image is never valid, so the value of a lookup there does not matter.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.coords import is_inside_image, pixel_grid, sample_bilinear

CYCLE_THRESHOLD = 3.0  # pixels, as released
# A pixel is rescued as occluded if its first cycle misses by more than this factor times the threshold, and the second
# cycle closes: then its target shows its occluder. As released.
OCCLUSION_FACTOR = 1.5
# From this frame gap on, appearance is compared; at smaller gaps, pixels may be rescued. As released.
NEAR_GAP = 3
RGB_THRESHOLD = 0.3  # Euclidean distance of colours in [0, 1], for chained points, as released
MASK_ONE = 1 - 1e-5  # bilinear lookups in a mask of ones may give 0.99999994
# Cosine that corresponding points must exceed, by kind of feature. dino: as released. sift: measured on scenes with
# exact tracks (docs/preprocessing.md): at least 88 % of the right points on moving objects are kept, and 40 to 85 % of
# the wrong ones are removed.
COSINE_THRESHOLD = {"dino": 0.5, "sift": 0.85}
MIN_SQUARES = 1e-16  # keeps the cosine of a flat patch (zeros) at 0, far below the squares of other features

# Number of products of cells that take about as long as looking up the features of a point; affects only the time.
PRODUCTS_PER_POINT = 64
# Points compared at a time: their features fit into a processor's cache, while a GPU needs many.
CHUNK, GPU_CHUNK = 2**14, 2**18


def lookup(maps: Tensor, px: Tensor) -> Tensor:
    """Look up maps bilinearly.

    Args:
        maps: [*,H,W,C].
        px: [*,H',W',2] with the same leading dimensions.

    Returns:
        [*,H',W',C].
    """
    flat_maps = maps.reshape(-1, *maps.shape[-3:])
    flat_px = px.reshape(-1, *px.shape[-3:])
    return sample_bilinear(flat_maps, flat_px).reshape(*px.shape[:-1], -1)


def targets(flow: Tensor) -> Tensor:
    """Return the target of each pixel, p + f(p), [*,H,W,2]."""
    height, width = flow.shape[-3:-1]
    return pixel_grid(height, width, flow.device) + flow


def cycle_masks(flow: Tensor, back: Tensor, rescue: bool = True) -> tuple[Tensor, Tensor]:
    """Check cycle consistency of a pair, and find pixels to rescue as occluded.

    Both masks are False where the target lies outside the image.

    Args:
        flow: source→target [*,H,W,2].
        back: target→source [*,H,W,2].
        rescue: Whether to look for pixels to rescue; otherwise there are none.

    Returns:
        consistent [*,H,W]: The first cycle closes: |f(p) + b(p + f(p))| stays below `CYCLE_THRESHOLD`.
        rescued [*,H,W]: The first cycle ends elsewhere, but a second one from there returns to the same target. So p is
            occluded at its target, by the point that is visible there.
    """
    target = targets(flow)
    inside = is_inside_image(target, *flow.shape[-3:-1])
    step_back = lookup(back, target)
    first = _length(flow + step_back)
    consistent = inside & (first < CYCLE_THRESHOLD)
    if not rescue:
        return consistent, torch.zeros_like(consistent)
    second = _length(step_back + lookup(flow, target + step_back))
    rescued = inside & (first > OCCLUSION_FACTOR * CYCLE_THRESHOLD) & (second < CYCLE_THRESHOLD)
    return consistent, rescued


def _length(vectors: Tensor) -> Tensor:
    """Return the lengths [*] of vectors [*,2]; torch's norm is slow where the components are separate in memory."""
    x, y = vectors.unbind(-1)
    return (x * x + y * y).sqrt_()


def appearance_similarity(
    features_a: Tensor, features_b: Tensor, px_a: Tensor, px_b: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return the cosine between the features of corresponding points.

    Args:
        features_a: Features of frame a [h,w,C], corners aligned with the image's.
        features_b: Features of frame b, likewise.
        px_a: Points [M,2] of frame a, pixels.
        px_b: Points [M,2] of frame b, pixels.
        size: (H, W) of the frames.

    Returns:
        [M] in [−1, 1].
    """
    if not len(px_a):
        return px_a.new_zeros(0)  # grid_sample accepts no empty grid
    # Plain numbers: a GPU would have to wait for a copy of a tensor.
    scale_a, scale_b = (
        [(cells - 1) / max(px - 1, 1) for cells, px in zip(maps.shape[1::-1], size[::-1], strict=True)]
        for maps in (features_a, features_b)
    )
    # If many points share few cells, multiply each pair of cells once: a point then mixes 16 products, not 8 vectors.
    few_cells = features_a[..., 0].numel() * features_b[..., 0].numel() < PRODUCTS_PER_POINT * len(px_a)
    cosine = (_cosine_by_cells if few_cells else _cosine_by_points)(features_a, features_b)
    chunk = CHUNK if px_a.device.type == "cpu" else GPU_CHUNK
    chunks = zip(px_a.split(chunk), px_b.split(chunk), strict=True)
    return torch.cat([cosine(_scale(a, scale_a), _scale(b, scale_b)) for a, b in chunks])


def _scale(px: Tensor, factors: list[float]) -> Tensor:
    """Multiply x and y of points [M,2] by a factor each."""
    return torch.stack([part * factor for part, factor in zip(px.unbind(-1), factors, strict=True)], -1)


def _cosine_by_points(features_a: Tensor, features_b: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function from points [M,2] of both maps, in cells, to the cosines [M] of their looked-up features."""

    def at_points(maps: Tensor, px: Tensor) -> Tensor:
        # A third of the time of grid_sample: it reads the channels of a cell together.
        cells, mix = _corners(px, *maps.shape[:2])
        return F.embedding_bag(cells, maps.flatten(0, 1), mode="sum", per_sample_weights=mix)

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        at_a, at_b = at_points(features_a, a), at_points(features_b, b)
        # Three times as fast as torch's cosine_similarity, which normalises copies of both first.
        square_a, square_b = (torch.linalg.vector_norm(at, dim=-1).square() for at in (at_a, at_b))
        return _quotient(at_a.mul_(at_b).sum(-1), square_a, square_b)

    return cosine


def _quotient(dot: Tensor, square_a: Tensor, square_b: Tensor) -> Tensor:
    return dot / (square_a * square_b).clamp_min(MIN_SQUARES).sqrt()


def _cosine_by_cells(features_a: Tensor, features_b: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the same function, using inner products of cells: <Σ u_k a_k, Σ v_l b_l> = Σ u_k v_l <a_k, b_l>."""
    products = features_a.flatten(0, 1) @ features_b.flatten(0, 1).T
    squares_a, squares_b = (_corner_products(maps) for maps in (features_a, features_b))

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        (cells_a, u), (cells_b, v) = (_corners(px, *maps.shape[:2]) for px, maps in ((a, features_a), (b, features_b)))
        dot = torch.einsum("mk,ml,mkl->m", u, v, products[cells_a[:, :, None], cells_b[:, None, :]])
        square_a = torch.einsum("mk,ml,mkl->m", u, u, squares_a[cells_a[:, 0]])
        square_b = torch.einsum("mk,ml,mkl->m", v, v, squares_b[cells_b[:, 0]])
        return _quotient(dot, square_a, square_b)

    return cosine


def _corners(px: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the four cells around points [M,2] of a map, as indices [M,4], and their bilinear weights [M,4]."""
    x, y = px[:, 0].clamp(0, width - 1), px[:, 1].clamp(0, height - 1)
    x0, y0 = (t.floor().clamp_max(max(n - 2, 0)) for t, n in ((x, width), (y, height)))
    fx, fy, first = x - x0, y - y0, (y0 * width + x0).int()
    gx, gy, right, down = 1 - fx, 1 - fy, int(width > 1), width * int(height > 1)
    cells = _columns(first, first + right, first + down, first + down + right)
    return cells, _columns(gx * gy, fx * gy, gx * fy, fx * fy)


def _columns(*columns: Tensor) -> Tensor:
    """Stack columns [M] to [M,n], in half the time of `torch.stack`."""
    stacked = columns[0].new_empty(len(columns[0]), len(columns))
    for k, column in enumerate(columns):
        stacked[:, k] = column
    return stacked


def _corner_products(maps: Tensor) -> Tensor:
    """Return inner products [h·w,4,4] of each cell [h,w,C] and its right, lower and lower right neighbours."""
    right, down = (maps.roll(-1, axis) for axis in (1, 0))  # what wraps around has weight 0 or is never used
    corners = torch.stack([maps, right, down, right.roll(-1, 0)], -2).flatten(0, 1)
    return corners @ corners.mT


def keep_similar(mask: Tensor, flow: Tensor, features_a: Tensor, features_b: Tensor, threshold: float) -> Tensor:
    """Remove from a mask the pixels whose features differ from those of their targets.

    Args:
        mask: Pixels of frame a to check, bool [H,W].
        flow: a→b [H,W,2].
        features_a: Features of frame a [h,w,C].
        features_b: Features of frame b.
        threshold: Cosine to exceed.

    Returns:
        bool [H,W].
    """
    height, width = mask.shape
    _, px, target = _masked_points(mask, flow)
    similarity = appearance_similarity(features_a, features_b, px, target, (height, width))
    return _keep(mask, similarity > threshold)


def keep_similar_colour(mask: Tensor, flow: Tensor, image_a: Tensor, image_b: Tensor) -> Tensor:
    """Remove from a mask the pixels whose colour differs from that of their targets by `RGB_THRESHOLD` or more.

    Args:
        mask: Pixels of frame a to check, bool [H,W].
        flow: a→b [H,W,2].
        image_a: Frame a [H,W,3] in [0, 1].
        image_b: Frame b, likewise.

    Returns:
        bool [H,W].
    """
    index, _, target = _masked_points(mask, flow)
    difference = _select(image_a, index) - _at_points(image_b, target)
    return _keep(mask, difference.norm(dim=-1) < RGB_THRESHOLD)


def extend_chain(flow: Tensor, mask: Tensor, step: Tensor, step_valid: Tensor) -> tuple[Tensor, Tensor]:
    """Continue chained flow i→k by a flow k→j.

    Args:
        flow: i→k [H,W,2].
        mask: Where to continue it, bool [H,W].
        step: k→j [H,W,2].
        step_valid: Where `step` may be used, bool [H,W].

    Returns:
        The flow i→j [H,W,2], NaN outside `mask`, and the part of `mask` where it is valid, bool [H,W]: every pixel that
        its lookup mixes is valid, and its target lies inside the image.
    """
    height, width = mask.shape
    index, px, middle = _masked_points(mask, flow)
    chained = _select(flow, index) + _at_points(step, middle)
    step_ok = _at_points(step_valid[..., None].to(step), middle)[:, 0] >= MASK_ONE
    inside = is_inside_image(middle, height, width) & is_inside_image(px + chained, height, width)
    extended = torch.full_like(flow, torch.nan, memory_format=torch.contiguous_format)
    extended.view(-1, 2)[index] = chained
    return extended, _keep(mask, step_ok & inside)


def _masked_points(mask: Tensor, flow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the flat indices [M] of the pixels of a mask [H,W], their centres [M,2], and their targets [M,2]."""
    index = mask.flatten().nonzero()[:, 0]
    rows = index.div(mask.shape[1], rounding_mode="floor")
    px = torch.stack([index - rows * mask.shape[1], rows], -1).to(flow)
    return index, px, px + _select(flow, index)


def _select(maps: Tensor, index: Tensor) -> Tensor:
    """Return the values [M,C] of a map [H,W,C] at flat indices [M]."""
    # By channel: they are separate in memory, as in packed flow, and rows across them would be copied one by one.
    return torch.stack([maps[..., k].flatten().index_select(0, index) for k in range(maps.shape[-1])], -1)


def _at_points(maps: Tensor, px: Tensor) -> Tensor:
    """Look up a map [H,W,C] at points [M,2]: [M,C]."""
    if not len(px):
        return maps.new_zeros(0, maps.shape[-1])  # grid_sample accepts no empty grid
    return sample_bilinear(maps[None], px[None])[0]


def _keep(mask: Tensor, kept: Tensor) -> Tensor:
    """Return a mask [H,W] without those of its M pixels, in raster order, that are not `kept` [M]."""
    return mask.masked_scatter(mask, kept)
