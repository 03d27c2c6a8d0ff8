"""Pictures of points and depth. Images are uint8 RGB [H,W,3], pixels (x, y), integer = pixel centre.

Marks are drawn anti-aliased and with sub-pixel accuracy. Small images are enlarged by a whole factor first,
because a mark or a number needs some pixels to be legible; `enlarge` moves the points along.
"""

import functools
import math

import cv2
import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, hsv_to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from utils.figures import figure_image

SMALL_SIDE, LEGIBLE_SIDE = 480, 640  # images with a long side below the first are enlarged to the second or more
DEPTH_COLORMAP = "Spectral"  # near (small) is red, far is blue
DARK = (20, 20, 20)  # outline of marks: keeps a light mark visible on a light picture
SHIFT = 4  # cv2 reads coordinates in units of 2^-SHIFT pixels
FAR = 1e5  # pixels; cv2 clips lines itself, this only keeps fixed-point coordinates inside 32 bits


def point_colors(px: NDArray, height: float, width: float) -> NDArray[np.uint8]:
    """A colour for every point: a smooth rainbow along the image's diagonal, light to dark across it.

    Args:
        px: [N,2] pixels; a point outside the image gets the colour of the nearest one inside.
    Returns:
        uint8 [N,3]; points at different places differ, close ones differ little.
    """
    x, y = (np.asarray(px, float) / (max(width - 1, 1), max(height - 1, 1))).clip(0, 1).T
    along, across = (x + y) / 2, (x - y)[:, None]
    rainbow = matplotlib.colormaps["turbo"](0.08 + 0.84 * along)[:, :3]  # turbo's very ends are near black
    light = rainbow + (1 - rainbow) * 0.55 * across.clip(0, 1)
    return to_uint8(light * (1 - 0.45 * (-across).clip(0, 1)))


def spread_colors(px: NDArray) -> NDArray[np.uint8]:
    """`point_colors` spread over the points' own extent, so that a small object's points [N,2] differ too."""
    low, high = np.percentile(px, (3, 97), axis=0) if len(px) else np.zeros((2, 2))  # a few may lie far off
    width, height = high - low + 1
    return point_colors(px - low, height, width)


def angle_colors(px: NDArray) -> NDArray[np.uint8]:
    """Hue by direction from the median of the points [N,2], as in the paper's figures; pale near it. uint8 [N,3]."""
    offset = np.asarray(px, float) - (np.median(px, axis=0) if len(px) else 0)
    distance = np.hypot(*offset.T)
    hue = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) % 1.0
    saturation = 0.45 + 0.55 * distance / max(distance.max(initial=0), 1e-6)  # 1e-6: a single point
    return to_uint8(hsv_to_rgb(np.stack([hue, saturation, np.ones_like(hue)], -1)))


def jet_colors(px: NDArray) -> NDArray[np.uint8]:
    """Matplotlib's `jet` over the points [N,2] in the order of their height, top blue to bottom red; uint8 [N,3]."""
    rank = np.argsort(np.argsort(px[:, 1], kind="stable"))
    return to_uint8(matplotlib.colormaps["jet"](rank / max(len(px) - 1, 1))[:, :3])


def depth_to_color(depth: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    """Depth [H,W] → uint8 [H,W,3]; `low` and nearer is red, `high` and farther is blue."""
    scaled = (np.asarray(depth, float) - low) / max(high - low, 1e-6)  # 1e-6: a constant depth has one colour
    return to_uint8(matplotlib.colormaps[DEPTH_COLORMAP](scaled)[..., :3])


def with_color_bar(image: NDArray[np.uint8], low: float, high: float, label: str) -> NDArray[np.uint8]:
    """`image` [H,W,3], enlarged if small, with the bar of `depth_to_color(…, low, high)` to its right."""
    image, _ = enlarge(image)
    return np.concatenate([image, color_bar(image.shape[0], low, high, label)], axis=1)


@functools.lru_cache(maxsize=8)  # the frames of a video share one bar
def color_bar(height: int, low: float, high: float, label: str) -> NDArray[np.uint8]:
    """A labelled vertical bar, uint8 [height,100,3], with the smallest (nearest) value on top."""
    figure = Figure(figsize=(1.0, height / 100), dpi=100)
    axes = figure.add_axes((0.15, 0.05, 0.2, 0.87))
    bar = figure.colorbar(ScalarMappable(Normalize(low, high), DEPTH_COLORMAP), cax=axes)
    bar.ax.invert_yaxis()
    bar.ax.tick_params(labelsize=10)
    bar.ax.set_title(label, fontsize=11, pad=4)
    return figure_image(figure)


def draw_correspondences(
    frame1: NDArray[np.uint8],
    frame2: NDArray[np.uint8],
    px1: NDArray,
    px2: NDArray,
    occluded: NDArray | None = None,
) -> NDArray[np.uint8]:
    """Two frames beside each other (wide ones stacked), matching points joined by thin lines.

    Args:
        frame1, frame2: [H,W,3], one size for both.
        px1, px2: [N,2] pixels.
        occluded: bool [N], hidden in `frame2`, where they are drawn as crosses.
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
    canvas = cv2.addWeighted(canvas, 0.4, lines, 0.6, 0)
    hidden = np.zeros(len(px1), bool) if occluded is None else occluded
    draw_marks(canvas, px1, np.zeros_like(hidden), colors)
    draw_marks(canvas, px2, hidden, colors)
    return canvas


def stack_truth_over_prediction(truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[*,H,W,3] twice → [*,2H+2,W,3]: the truth above, a white line, the prediction below."""
    line = np.full((*truth.shape[:-3], 2, *truth.shape[-2:]), 255, np.uint8)
    return np.concatenate([truth, line, prediction], axis=-3)


def beside(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two pictures [H,W,3] of one height side by side, a white line between them."""
    return np.concatenate([left, np.full((len(left), 2, 3), 255, np.uint8), right], axis=1)


def enlargement(height: int, width: int) -> int:
    """The whole factor by which `enlarge` enlarges an image of that size."""
    return math.ceil(LEGIBLE_SIDE / max(height, width)) if max(height, width) < SMALL_SIDE else 1


def enlarge(image: NDArray[np.uint8], px: NDArray | None = None) -> tuple[NDArray[np.uint8], NDArray]:
    """Enlarge a small image by a whole factor so that marks on it are legible, and move its points along.

    Args:
        image: [H,W,3]. px: [*,2] pixels of it.
    Returns:
        The image [s·H,s·W,3] and the same points in it; s = 1 if the long side has `SMALL_SIDE` pixels.
    """
    height, width = image.shape[:2]
    scale = enlargement(height, width)
    px = np.zeros((0, 2)) if px is None else np.asarray(px, float)
    if scale > 1:
        image = cv2.resize(image, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
    return image, (px + 0.5) * scale - 0.5  # a pixel's area, not its centre, is what scales


def mark_radius(height: int, width: int) -> float:
    """Radius of a mark in an image of that size, in pixels."""
    return max(3.5, max(height, width) / 190)


def draw_marks(
    canvas: NDArray[np.uint8], px: NDArray, occluded: NDArray, colors: NDArray, radius: float | None = None
) -> None:
    """Draw points into `canvas` in place: visible ones as dark-edged dots, occluded ones as crosses.

    Args:
        px: [N,2] pixels of `canvas`; points outside it are left out. occluded: bool [N]. colors: uint8 [N,3].
        radius: pixels, by default `mark_radius` of the canvas.
    """
    height, width = canvas.shape[:2]
    radius = mark_radius(height, width) if radius is None else radius
    inside = (px >= -0.5).all(-1) & (px <= (width - 0.5, height - 0.5)).all(-1)  # also drops not-a-number
    for hidden in (True, False):  # what can be seen lies on top
        for i in np.flatnonzero(inside & (np.asarray(occluded, bool) == hidden)):
            (draw_cross if hidden else draw_dot)(canvas, px[i], colors[i], radius)


def draw_dot(canvas: NDArray[np.uint8], center: NDArray, color: NDArray, radius: float) -> None:
    """A filled disc with a thin dark edge."""
    for size, paint in ((radius + 0.8, DARK), (radius, _rgb(color))):
        cv2.circle(canvas, _fixed(center), round(size * 2**SHIFT), paint, -1, cv2.LINE_AA, SHIFT)


def draw_cross(canvas: NDArray[np.uint8], center: NDArray, color: NDArray, radius: float) -> None:
    """A diagonal cross, dark edged; as large as a dot of that radius looks."""
    thin, reach = max(2, round(radius / 3)), 1.2 * radius
    for paint, thickness in ((DARK, thin + 1), (color, thin)):
        for arm in ((reach, reach), (reach, -reach)):
            draw_line(canvas, center - np.asarray(arm), center + np.asarray(arm), paint, thickness)


def draw_line(canvas: NDArray[np.uint8], start: NDArray, end: NDArray, color: NDArray, thickness: int) -> None:
    """A straight line; one with an unknown end is left out."""
    if np.isfinite(start).all() and np.isfinite(end).all():
        cv2.line(canvas, _fixed(start), _fixed(end), _rgb(color), thickness, cv2.LINE_AA, SHIFT)


def title_plate(text: str, scale: float) -> NDArray[np.uint8]:
    """`text`, white on a dark plate of its size [h,w,3]; `scale` is that of OpenCV's fonts."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    (_, height), _ = cv2.getTextSize("0123456789", cv2.FONT_HERSHEY_SIMPLEX, scale, 1)  # one height for all plates
    margin = round(height / 2)
    plate = np.full((height + 2 * margin, width + 2 * margin, 3), DARK, np.uint8)
    place = (margin, margin + height)
    cv2.putText(plate, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return plate


def to_uint8(unit: NDArray) -> NDArray[np.uint8]:
    """Values in [0, 1] → uint8, rounded."""
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def _fixed(point: NDArray) -> tuple[int, int]:
    """A point in cv2's fixed-point units."""
    x, y = np.clip(point, -FAR, FAR)
    return round(float(x) * 2**SHIFT), round(float(y) * 2**SHIFT)


def _rgb(color: NDArray) -> tuple[int, ...]:
    """cv2 wants plain integers."""
    return tuple(int(value) for value in color)
