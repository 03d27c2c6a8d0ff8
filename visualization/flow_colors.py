"""Flow [*,2] (dx, dy) in pixels as colour, by the wheel of the Middlebury benchmark (Baker et al., IJCV 2011)."""

import functools

import cv2
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from visualization.draw import DARK, to_uint8

# The wheel from dx > 0 on over dy > 0: how many of its 55 steps lead from each colour to the next one.
WHEEL = [("red", 15), ("yellow", 6), ("lime", 4), ("cyan", 11), ("blue", 13), ("magenta", 6), ("red", 0)]
LEGEND_WIDTH = 120  # pixels


@functools.cache
def _wheel() -> LinearSegmentedColormap:
    """The wheel's colours over one turn, 0…1."""
    steps = np.array([steps for _, steps in WHEEL])
    starts = (np.cumsum(steps) - steps) / steps.sum()
    return LinearSegmentedColormap.from_list("middlebury", list(zip(starts, (c for c, _ in WHEEL), strict=True)), 1024)


def flow_to_color(flow: NDArray, max_magnitude: float | None = None) -> NDArray[np.uint8]:
    """Flow as colour: hue = direction, white = no motion, full colour = `max_magnitude` or more.

    Args:
        flow: [H,W,2] or [T,H,W,2] pixels.
        max_magnitude: pixels; by default the largest in `flow`, one scale for all its frames.
    Returns:
        uint8 [H,W,3] or [T,H,W,3]; not-finite flow is black.
    """
    flow = np.asarray(flow, np.float32)
    known = np.isfinite(flow).all(-1)
    dx, dy = np.moveaxis(np.where(known[..., None], flow, 0), -1, 0)
    magnitude = np.hypot(dx, dy)
    if max_magnitude is None:
        max_magnitude = float(magnitude.max(initial=0))
    hue = _wheel()(np.arctan2(dy, dx) / (2 * np.pi) % 1.0)[..., :3]
    strength = (magnitude / max(max_magnitude, 1e-6)).clip(0, 1)[..., None]  # 1e-6: no motion at all is white
    return to_uint8((1 - strength * (1 - hue)) * known[..., None])


def with_flow_legend(image: NDArray[np.uint8], max_magnitude: float) -> NDArray[np.uint8]:
    """`image` [H,W,3] with the wheel of `flow_to_color(…, max_magnitude)` and its radius in pixels to the right."""
    return np.concatenate([image, _legend(image.shape[0], max_magnitude)], axis=1)


@functools.lru_cache(maxsize=8)  # the frames of a video share one legend
def _legend(height: int, max_magnitude: float) -> NDArray[np.uint8]:
    legend = np.full((height, LEGEND_WIDTH, 3), 255, np.uint8)
    radius = min(50, (height - 1) // 2)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = flow_to_color(np.stack([x, y], -1), radius)
    disc[np.hypot(x, y) > radius] = 255
    left = (LEGEND_WIDTH - len(disc)) // 2
    top = min(10, height - len(disc))
    legend[top : top + len(disc), left : left + len(disc)] = disc
    texts = ("rim:", f"{max_magnitude:.1f} px")
    for line, text in enumerate(texts):
        place = (left, top + len(disc) + 20 + 20 * line)
        cv2.putText(legend, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, DARK, 1, cv2.LINE_AA)
    return legend
