"""Colours of points, depth and flow.

Colours are uint8 RGB [*,3], points (x, y) and flow (dx, dy) are in pixels. Flow is coloured by the wheel of the
Middlebury benchmark (Baker et al., IJCV 2011).
"""

import functools

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, hsv_to_rgb
from numpy.typing import NDArray

DEPTH_COLORMAP = "Spectral"  # near (small) is red, far is blue
TINY = 1e-6  # smallest divisor: constant depth, no motion or a single point must not divide by zero
# The wheel from dx > 0 towards dy > 0: number of its 55 steps from each colour to the next one.
WHEEL = [("red", 15), ("yellow", 6), ("lime", 4), ("cyan", 11), ("blue", 13), ("magenta", 6), ("red", 0)]


def to_uint8(unit: NDArray) -> NDArray[np.uint8]:
    """Scale values in [0, 1] to 0 … 255 and round them."""
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def point_colors(px: NDArray, height: float, width: float) -> NDArray[np.uint8]:
    """Colour points by position: a smooth rainbow along the image's diagonal, light to dark across it.

    Args:
        px: Points [N,2]; one outside the image gets the colour of the nearest position inside.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Returns:
        uint8 [N,3]; points at different positions differ, close ones differ little.
    """
    x, y = (np.asarray(px, float) / (max(width - 1, 1), max(height - 1, 1))).clip(0, 1).T
    along, across = (x + y) / 2, (x - y)[:, None]
    rainbow = matplotlib.colormaps["turbo"](0.08 + 0.84 * along)[:, :3]  # without turbo's ends, which are near black
    light = rainbow + (1 - rainbow) * 0.55 * across.clip(0, 1)
    return to_uint8(light * (1 - 0.45 * (-across).clip(0, 1)))


def spread_colors(px: NDArray) -> NDArray[np.uint8]:
    """Colour points [N,2] as `point_colors`, over their own extent, so that a small object's points differ too."""
    low, high = np.percentile(px, (3, 97), axis=0) if len(px) else np.zeros((2, 2))  # a few may lie far off
    width, height = high - low + 1
    return point_colors(px - low, height, width)


def angle_colors(px: NDArray) -> NDArray[np.uint8]:
    """Colour points [N,2] by direction from their median, as in the paper's figures; pale near it."""
    offset = np.asarray(px, float) - (np.median(px, axis=0) if len(px) else 0)
    distance = np.hypot(*offset.T)
    hue = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) % 1.0
    saturation = 0.45 + 0.55 * distance / max(distance.max(initial=0), TINY)
    return to_uint8(hsv_to_rgb(np.stack([hue, saturation, np.ones_like(hue)], -1)))


def jet_colors(px: NDArray) -> NDArray[np.uint8]:
    """Colour points [N,2] by matplotlib's `jet` in the order of y, from blue at the top to red at the bottom."""
    rank = np.argsort(np.argsort(px[:, 1], kind="stable"))
    return to_uint8(matplotlib.colormaps["jet"](rank / max(len(px) - 1, 1))[:, :3])


def depth_to_color(depth: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    """Colour a depth map [H,W]; `low` and nearer is red, `high` and farther is blue."""
    scaled = (np.asarray(depth, float) - low) / max(high - low, TINY)
    return to_uint8(matplotlib.colormaps[DEPTH_COLORMAP](scaled)[..., :3])


def flow_to_color(flow: NDArray, max_magnitude: float | None = None) -> NDArray[np.uint8]:
    """Colour flow: hue = direction, white = no motion, full colour = `max_magnitude` or more.

    Args:
        flow: [H,W,2] or [T,H,W,2] pixels.
        max_magnitude: In pixels; by default the largest in `flow`, one scale for all its frames.

    Returns:
        uint8 [H,W,3] or [T,H,W,3]; flow that is not finite is black.
    """
    flow = np.asarray(flow, np.float32)
    known = np.isfinite(flow).all(-1)
    dx, dy = np.moveaxis(np.where(known[..., None], flow, 0), -1, 0)
    magnitude = np.hypot(dx, dy)
    if max_magnitude is None:
        max_magnitude = float(magnitude.max(initial=0))
    hue = _wheel()(np.arctan2(dy, dx) / (2 * np.pi) % 1.0)[..., :3]
    strength = (magnitude / max(max_magnitude, TINY)).clip(0, 1)[..., None]
    return to_uint8((1 - strength * (1 - hue)) * known[..., None])


@functools.cache
def _wheel() -> LinearSegmentedColormap:
    """Return the wheel as a colour map over one turn, 0 … 1."""
    steps = np.array([steps for _, steps in WHEEL])
    starts = (np.cumsum(steps) - steps) / steps.sum()
    stops = [(float(start), color) for start, (color, _) in zip(starts, WHEEL, strict=True)]
    return LinearSegmentedColormap.from_list("middlebury", stops, 1024)
