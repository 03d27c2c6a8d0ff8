"""Dense pictures of a model: its colours, depths, canonical coordinates and flow, uint8 RGB [h,w,3] for each frame.

Where answers are slow (`longest_side`), a model is asked at fewer points, spread evenly over the image; the pictures
are enlarged to the size of the frames that they are of.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.coords import pixel_grid
from visualization.draw import beside, depth_to_color, enlarge, to_uint8, with_color_bar
from visualization.flow_colors import flow_to_color, with_flow_legend


@dataclass(frozen=True)
class Rendered:
    """What a model shows of F frames, at h·w points spread evenly over the image."""

    colors: NDArray[np.uint8]  # [F,h,w,3]
    depths: NDArray[np.float32]  # [F,h,w]
    canonical: NDArray[np.float16]  # [F,h,w,3] canonical coordinates of the surface


def dense_px(size: tuple[int, int], longest_side: int | None = None) -> tuple[Tensor, tuple[int, int]]:
    """Points spread evenly over an image of `size` (H, W), at most `longest_side` along either side.

    Returns:
        Pixels [h·w,2] float32 and (h, w): every pixel, or the centres of h·w equal cells.
    """
    shrink = min(1.0, (longest_side or max(size)) / max(size))
    rows, cols = (max(1, round(side * shrink)) for side in size)
    scale = torch.tensor([size[1] / cols, size[0] / rows])
    return ((pixel_grid(rows, cols) + 0.5) * scale - 0.5).reshape(-1, 2), (rows, cols)


def color_frames(frames: Iterable[NDArray[np.uint8]], colors: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The frames [H,W,3] beside the rendered colours [F,h,w,3]."""
    for frame, color in zip(frames, colors, strict=True):
        yield enlarge(beside(frame, _to_size(color, frame.shape[:2])))[0]


def depth_frames(depths: NDArray, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Depths [F,h,w] in colours of one scale, which is shown, at `size` (H, W)."""
    low, high = np.percentile(depths, (1, 99)).tolist()  # a few stray depths must not set the scale
    for depth in depths:
        yield with_color_bar(depth_to_color(_to_size(depth, size), low, high), low, high, "depth")


def canonical_frames(canonical: NDArray, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Canonical coordinates (x, y, z) [F,h,w,3] as (red, green, blue), each from low to high over all frames.

    A point of the scene has one place in the canonical volume, so it must keep its colour through the clip; where it
    does not, the model has lost it.
    """
    low, high = np.percentile(canonical.reshape(-1, 3).astype(np.float32), (1, 99), axis=0)
    for places in canonical.astype(np.float32):
        yield enlarge(_to_size(to_uint8((places - low) / np.maximum(high - low, 1e-6)), size))[0]


def flow_frames(flow: NDArray, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Flow [F,h,w,2], in pixels of an image of `size` (H, W), as Middlebury colours of one scale, which is shown."""
    scale = float(np.percentile(np.linalg.norm(flow.astype(np.float32), axis=-1), 99))  # nor must stray points here
    for frame in flow.astype(np.float32, copy=False):
        yield with_flow_legend(enlarge(_to_size(flow_to_color(frame, scale), size))[0], scale)


def _to_size(image: NDArray, size: tuple[int, int]) -> NDArray:
    """A picture evaluated at `dense_px`, enlarged to (H, W)."""
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
