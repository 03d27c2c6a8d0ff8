"""Legends at the right of pictures: the colour bar of depth, the colour wheel of flow."""

import functools

import cv2
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from utils.figures import figure_image
from visualization.colors import DEPTH_COLORMAP, flow_to_color
from visualization.marks import DARK, enlarge

WHEEL_WIDTH = 120  # pixels


def with_depth_bar(image: NDArray[np.uint8], low: float, high: float, label: str) -> NDArray[np.uint8]:
    """Enlarge `image` [H,W,3] if it is small, and put the bar of `depth_to_color(…, low, high)` to its right."""
    image, _ = enlarge(image)
    return np.concatenate([image, _depth_bar(image.shape[0], low, high, label)], axis=1)


def with_flow_wheel(image: NDArray[np.uint8], max_magnitude: float) -> NDArray[np.uint8]:
    """Put the wheel of `flow_to_color(…, max_magnitude)`, and its radius in pixels, to the right of `image` [H,W,3]."""
    return np.concatenate([image, _flow_wheel(image.shape[0], max_magnitude)], axis=1)


@functools.lru_cache(maxsize=8)  # the frames of a video share one bar
def _depth_bar(height: int, low: float, high: float, label: str) -> NDArray[np.uint8]:
    """Return a labelled vertical bar, uint8 [height,100,3], with the smallest (nearest) value on top."""
    figure = Figure(figsize=(1.0, height / 100), dpi=100)
    axes = figure.add_axes((0.15, 0.05, 0.2, 0.87))
    bar = figure.colorbar(ScalarMappable(Normalize(low, high), DEPTH_COLORMAP), cax=axes)
    bar.ax.invert_yaxis()
    bar.ax.tick_params(labelsize=10)
    bar.ax.set_title(label, fontsize=11, pad=4)
    return figure_image(figure)


@functools.lru_cache(maxsize=8)  # the frames of a video share one wheel
def _flow_wheel(height: int, max_magnitude: float) -> NDArray[np.uint8]:
    """Return the wheel with its radius written below, uint8 [height,WHEEL_WIDTH,3]."""
    legend = np.full((height, WHEEL_WIDTH, 3), 255, np.uint8)
    radius = min(50, (height - 1) // 2)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = flow_to_color(np.stack([x, y], -1), radius)
    disc[np.hypot(x, y) > radius] = 255
    left = (WHEEL_WIDTH - len(disc)) // 2
    top = min(10, height - len(disc))
    legend[top : top + len(disc), left : left + len(disc)] = disc
    for line, text in enumerate(("rim:", f"{max_magnitude:.1f} px")):
        baseline = (left, top + len(disc) + 20 + 20 * line)
        cv2.putText(legend, text, baseline, cv2.FONT_HERSHEY_SIMPLEX, 0.5, DARK, 1, cv2.LINE_AA)
    return legend
