"""Marks, lines and titles drawn into images.

Images are uint8 RGB [H,W,3], pixels (x, y), integer = pixel centre. Marks are drawn anti-aliased and with sub-pixel
accuracy. Small images are enlarged by a whole factor first, because a mark or a number needs some pixels to be legible;
`enlarge` transforms the points accordingly.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALL_SIDE, LEGIBLE_SIDE = 480, 640  # images with a long side below the first are enlarged to the second or more
DARK = (20, 20, 20)  # outline of marks: keeps a light mark visible on a light picture
FRACTION_BITS = 4  # cv2 reads coordinates in units of 2^-FRACTION_BITS pixels
FAR = 1e5  # pixels; cv2 clips lines itself, this only keeps fixed-point coordinates inside 32 bits


def enlargement(height: int, width: int) -> int:
    """Return the whole factor by which `enlarge` enlarges an image of that size."""
    return math.ceil(LEGIBLE_SIDE / max(height, width)) if max(height, width) < SMALL_SIDE else 1


def enlarge(image: NDArray[np.uint8], px: NDArray | None = None) -> tuple[NDArray[np.uint8], NDArray]:
    """Enlarge a small image by a whole factor so that marks on it are legible, and transform its points accordingly.

    Args:
        image: [H,W,3].
        px: Points [*,2] in pixels of the image.

    Returns:
        The image [s·H,s·W,3] and the same points in it; s = 1 if the long side has `SMALL_SIDE` pixels.
    """
    height, width = image.shape[:2]
    scale = enlargement(height, width)
    px = np.zeros((0, 2)) if px is None else np.asarray(px, float)
    if scale > 1:
        size = width * scale, height * scale
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    return image, (px + 0.5) * scale - 0.5  # outer edges, not pixel centres, stay in place


def mark_radius(height: int, width: int) -> float:
    """Return the default radius of a mark in an image of that size, in pixels."""
    return max(3.5, max(height, width) / 190)


def draw_marks(
    canvas: NDArray[np.uint8], px: NDArray, occluded: NDArray, colors: NDArray, radius: float | None = None
) -> None:
    """Draw points into `canvas` in place: visible ones as dark-edged dots, occluded ones as crosses.

    Args:
        canvas: [H,W,3].
        px: Points [N,2] in pixels of the canvas; those outside it are left out.
        occluded: bool [N].
        colors: uint8 [N,3].
        radius: In pixels, by default `mark_radius` of the canvas.
    """
    height, width = canvas.shape[:2]
    radius = mark_radius(height, width) if radius is None else radius
    inside = (px >= -0.5).all(-1) & (px <= (width - 0.5, height - 0.5)).all(-1)  # also drops not-a-number
    for crosses in (True, False):  # visible points lie on top
        for i in np.flatnonzero(inside & (np.asarray(occluded, bool) == crosses)):
            (draw_cross if crosses else draw_dot)(canvas, px[i], colors[i], radius)


def draw_dot(canvas: NDArray[np.uint8], center: NDArray, color: ArrayLike, radius: float) -> None:
    """Draw a filled disc with a thin dark edge."""
    for size, paint in ((radius + 0.8, DARK), (radius, _to_ints(color))):
        size = round(size * 2**FRACTION_BITS)
        cv2.circle(canvas, _to_fixed_point(center), size, paint, -1, cv2.LINE_AA, FRACTION_BITS)


def draw_cross(canvas: NDArray[np.uint8], center: NDArray, color: ArrayLike, radius: float) -> None:
    """Draw a diagonal cross with a dark edge, as large as a dot of that radius looks."""
    thin, reach = max(2, round(radius / 3)), 1.2 * radius
    for paint, thickness in ((DARK, thin + 1), (color, thin)):
        for arm in ((reach, reach), (reach, -reach)):
            draw_line(canvas, center - np.asarray(arm), center + np.asarray(arm), paint, thickness)


def draw_line(canvas: NDArray[np.uint8], start: NDArray, end: NDArray, color: ArrayLike, thickness: int) -> None:
    """Draw a straight line, unless one of its ends is not finite."""
    if np.isfinite(start).all() and np.isfinite(end).all():
        ends = _to_fixed_point(start), _to_fixed_point(end)
        cv2.line(canvas, *ends, _to_ints(color), thickness, cv2.LINE_AA, FRACTION_BITS)


def title_plate(text: str, scale: float) -> NDArray[np.uint8]:
    """Return `text` in white on a dark plate [h,w,3] of its size; `scale` is the size of OpenCV's font."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    (_, height), _ = cv2.getTextSize("0123456789", cv2.FONT_HERSHEY_SIMPLEX, scale, 1)  # one height for all plates
    margin = round(height / 2)
    plate = np.full((height + 2 * margin, width + 2 * margin, 3), DARK, np.uint8)
    baseline = (margin, margin + height)
    cv2.putText(plate, text, baseline, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return plate


def beside(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put two pictures [H,W,3] of one height side by side, with a white line between them."""
    return np.concatenate([left, np.full((len(left), 2, 3), 255, np.uint8), right], axis=1)


def _to_fixed_point(point: NDArray) -> tuple[int, int]:
    """Convert a point to units of 2^-FRACTION_BITS pixels."""
    x, y = np.clip(point, -FAR, FAR)
    return round(float(x) * 2**FRACTION_BITS), round(float(y) * 2**FRACTION_BITS)


def _to_ints(color: ArrayLike) -> Sequence[int]:
    """Convert a colour to plain integers, as cv2 needs."""
    return tuple(int(value) for value in np.asarray(color))
