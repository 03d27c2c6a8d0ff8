"""Which flow vectors to trust: pure functions of tensors.

Flows are [*,H,W,2] in pixels, points `px` [*,2] in pixels (x, y) with integer = pixel centre. Lookups are
bilinear with aligned corners; a point outside the image is never valid, so what a lookup returns there does
not matter.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.coords import is_inside_image, pixel_grid, sample_bilinear

CYCLE_THRESHOLD = 3.0  # pixels, as released
# A first cycle that fails clearly, by 1.5 times the threshold, while the second closes: the pixel lands on
# its occluder.
OCCLUSION_FACTOR = 1.5
# Frames further apart than this have their appearance compared; nearer ones may have pixels rescued as
# occluded.
NEAR_GAP = 3
RGB_THRESHOLD = 0.3  # Euclidean distance of colours in [0, 1], for chained points, as released
# A mask of ones sampled bilinearly gives 0.99999994 at times.
MASK_ONE = 1 - 1e-5
# Cosine that corresponding points must exceed, by kind of feature. dino: as released. sift: measured on scenes with
# exact tracks (README.md): 88 % and more of the right points of moving objects stay, 40 to 85 % of the wrong ones go.
COSINE_THRESHOLD = {"dino": 0.5, "sift": 0.85}

# Products of cells that cost as much as looking up the features of a point: a rough
# figure, on which only the time depends.
PRODUCTS_PER_POINT = 64
# Points compared at a time: their features stay in a processor's cache, and a frame's would not fit beside the rest.
PIECE = 8192


def lookup(maps: Tensor, px: Tensor) -> Tensor:
    """Bilinear lookup of `maps` [*,H,W,C] at `px` [*,H',W',2], the same leading dimensions → [*,H',W',C]."""
    flat_maps = maps.reshape(-1, *maps.shape[-3:])
    flat_px = px.reshape(-1, *px.shape[-3:])
    return sample_bilinear(flat_maps, flat_px).reshape(*px.shape[:-1], -1)


def targets(flow: Tensor) -> Tensor:
    """Where each pixel of the source lands: p + f(p), [*,H,W,2]."""
    return pixel_grid(*flow.shape[-3:-1], device=flow.device) + flow


def cycle_masks(flow: Tensor, back: Tensor, threshold: float = CYCLE_THRESHOLD) -> tuple[Tensor, Tensor]:
    """Cycle consistency and occlusion rescue of a pair.

    Args:
        flow: source→target [*,H,W,2].
        back: target→source [*,H,W,2].
        threshold: pixels.

    Returns:
        consistent [*,H,W]: the first cycle |f(p) + b(p + f(p))| stays below the threshold.
        rescued [*,H,W]: the first cycle ends elsewhere, but going on from there the second one returns to the
            same target, so p lands behind what is seen there. Both are False where the target lies outside
            the image.
    """
    height, width = flow.shape[-3:-1]
    landing = targets(flow)
    inside = is_inside_image(landing, height, width)
    returned = landing + lookup(back, landing)
    first = (returned - pixel_grid(height, width, flow.device)).norm(dim=-1)
    second = (returned + lookup(flow, returned) - landing).norm(dim=-1)
    consistent = inside & (first < threshold)
    rescued = inside & (first > OCCLUSION_FACTOR * threshold) & (second < threshold)
    return consistent, rescued


def appearance_similarity(
    features_a: Tensor, features_b: Tensor, px_a: Tensor, px_b: Tensor, size: tuple[int, int]
) -> Tensor:
    """Cosine between the features of corresponding points.

    Args:
        features_a, features_b: [h,w,C], corners aligned with the image's.
        px_a, px_b: [M,2] pixels of images of `size` (H, W).

    Returns:
        [M] in [−1, 1].
    """
    if not len(px_a):
        return px_a.new_zeros(0)  # grid_sample cannot take nothing
    image = px_a.new_tensor([size[1] - 1, size[0] - 1])
    px_a, px_b = (
        px * (px.new_tensor([maps.shape[1] - 1, maps.shape[0] - 1]) / image)
        for px, maps in ((px_a, features_a), (px_b, features_b))
    )
    # Many points share few cells: each pair of cells is multiplied once, and a point mixes 16 products instead of 8
    # vectors.
    few_cells = features_a[..., 0].numel() * features_b[..., 0].numel() < PRODUCTS_PER_POINT * len(px_a)
    cosine = _products_of_cells(features_a, features_b) if few_cells else _products_of_points(features_a, features_b)
    return torch.cat([cosine(a, b) for a, b in zip(px_a.split(PIECE), px_b.split(PIECE), strict=True)])


def _products_of_points(features_a: Tensor, features_b: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Cosine of points [M,2] of two feature maps, by looking up their features."""

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        at_a, at_b = (sample_bilinear(maps[None], px[None])[0] for maps, px in ((features_a, a), (features_b, b)))
        # Three times as fast as torch's cosine_similarity, which normalises copies of both first.
        return _quotient((at_a * at_b).sum(-1), at_a.square().sum(-1), at_b.square().sum(-1))

    return cosine


def _quotient(dot: Tensor, square_a: Tensor, square_b: Tensor) -> Tensor:
    return dot / (square_a * square_b).clamp_min(1e-16).sqrt()  # nothing looks like a flat patch (0)


def _products_of_cells(features_a: Tensor, features_b: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The same from inner products of cells: <Σ u_k a_k, Σ v_l b_l> = Σ u_k v_l <a_k, b_l>."""
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
    """The four cells around points [M,2] of a map, as indices [M,4], and their bilinear weights [M,4]."""
    x, y = px[:, 0].clamp(0, width - 1), px[:, 1].clamp(0, height - 1)
    x0, y0 = (t.floor().clamp_max(max(n - 2, 0)) for t, n in ((x, width), (y, height)))
    fx, fy, first = x - x0, y - y0, (y0 * width + x0).long()
    right, down = int(width > 1), width * int(height > 1)
    cells = torch.stack([first, first + right, first + down, first + down + right], -1)
    return cells, torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], -1)


def _corner_products(maps: Tensor) -> Tensor:
    """Inner products of a cell [h,w,C] and its right, lower and lower right neighbours, [h·w,4,4]."""
    right, down = (maps.roll(-1, axis) for axis in (1, 0))  # what wraps around is weighted by 0, or never asked for
    corners = torch.stack([maps, right, down, right.roll(-1, 0)], -2).flatten(0, 1)
    return corners @ corners.mT


def keep_similar(mask: Tensor, flow: Tensor, features_a: Tensor, features_b: Tensor, threshold: float) -> Tensor:
    """`mask` [H,W] without the pixels whose features differ from those of their targets; `flow` [H,W,2]."""
    size = flow.shape[0], flow.shape[1]
    similarity = appearance_similarity(
        features_a, features_b, pixel_grid(*size, device=flow.device)[mask], targets(flow)[mask], size
    )
    kept = mask.clone()
    kept[mask] = similarity > threshold
    return kept


def extend_chain(flow: Tensor, valid: Tensor, step: Tensor, step_valid: Tensor) -> tuple[Tensor, Tensor]:
    """Carry chained flow on by one adjacent flow.

    Args:
        flow, valid: accumulated flow i→k [H,W,2] and where it may be used [H,W] bool.
        step, step_valid: adjacent flow k→k±1 and its cycle consistency.

    Returns:
        The same for i→k±1: valid where all the pixels that the lookup mixes are consistent and the end is
        inside.
    """
    height, width = valid.shape
    landing = targets(flow)
    sampled = lookup(torch.cat([step, step_valid[..., None].to(step)], -1), landing)
    carried = flow + sampled[..., :2]
    consistent = sampled[..., 2] >= MASK_ONE
    inside = is_inside_image(landing, height, width) & is_inside_image(targets(carried), height, width)
    return carried, valid & consistent & inside


def similar_colour(image_a: Tensor, image_b: Tensor, flow: Tensor, threshold: float = RGB_THRESHOLD) -> Tensor:
    """Where the colour (in [0, 1], [H,W,3]) at the target differs by less than `threshold`; bool [H,W]."""
    return (image_a - lookup(image_b, targets(flow))).norm(dim=-1) < threshold
