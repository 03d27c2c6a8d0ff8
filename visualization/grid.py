"""Draw points in two adjacent pictures: the query frame and every frame, or one pair joined by lines.

Images are uint8 RGB [H,W,3], points pixels (x, y). Visible points are dots, occluded ones crosses.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from visualization.colors import spread_colors
from visualization.marks import beside, draw_line, draw_marks, enlarge, title_plate


def draw_grid(
    query: NDArray[np.uint8],
    title: str,
    query_px: NDArray,
    frames: Iterable[NDArray[np.uint8]],
    tracks: NDArray,
    occluded: NDArray,
    colors: NDArray,
    radius: float | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Draw the query frame beside each frame, with the points marked in both.

    Args:
        query: The query frame [H,W,3].
        title: Text to write into the query frame.
        query_px: Points [N,2] of the query frame.
        frames: F pictures [H,W,3].
        tracks: The points [F,N,2] in these pictures; points that are outside or NaN are not drawn.
        occluded: bool [F,N].
        colors: uint8 [N,3].
        radius: Radius of the marks, in pixels of the pictures.

    Yields:
        uint8 [h,2w+2,3]; h, w the frames' size or, if small, a whole multiple of it.
    """
    left = _with_marks(query, query_px, np.zeros(len(query_px), bool), colors, radius)
    plate = title_plate(title, max(left.shape[:2]) / 1300)[: left.shape[0], : left.shape[1]]
    left[: plate.shape[0], : plate.shape[1]] = plate
    for frame, px, occluded_points in zip(frames, tracks, occluded, strict=True):
        yield beside(left, _with_marks(frame, px, occluded_points, colors, radius))


def _with_marks(
    image: NDArray[np.uint8], px: NDArray, occluded: NDArray, colors: NDArray, radius: float | None
) -> NDArray[np.uint8]:
    image, px = enlarge(image, px)
    canvas = image.copy()
    draw_marks(canvas, px, occluded, colors, radius)
    return canvas


def draw_correspondences(
    frame1: NDArray[np.uint8], frame2: NDArray[np.uint8], px1: NDArray, px2: NDArray, occluded: NDArray
) -> NDArray[np.uint8]:
    """Draw two frames beside each other (wide ones stacked), matching points joined by thin lines.

    Args:
        frame1: [H,W,3].
        frame2: [H,W,3] of the same size.
        px1: Points [N,2] in `frame1`.
        px2: The same points in `frame2`.
        occluded: bool [N], in `frame2`.

    Returns:
        uint8 [2h,w,3] or [h,2w,3]; h, w the frames' size or, if small, a whole multiple of it.
    """
    height, width = frame1.shape[:2]
    axis = 0 if width > height else 1
    (image1, px1), (image2, px2) = enlarge(frame1, px1), enlarge(frame2, px2)
    canvas = np.concatenate([image1, image2], axis=axis)
    colors = spread_colors(px1)
    px2 = px2 + ((0, image1.shape[0]) if axis == 0 else (image1.shape[1], 0))
    lines = canvas.copy()
    for start, end, color in zip(px1, px2, colors, strict=True):
        draw_line(lines, start, end, color, 1)
    canvas = np.asarray(cv2.addWeighted(canvas, 0.4, lines, 0.6, 0), np.uint8)
    draw_marks(canvas, px1, np.zeros(len(px1), bool), colors)
    draw_marks(canvas, px2, occluded, colors)
    return canvas
