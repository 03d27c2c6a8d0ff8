"""Point tracks drawn over a video.

`tracks` [T,N,2] (x, y) pixels, `occluded` bool [T,N], videos uint8 RGB [T,H,W,3].

Arrays only: whoever has tracks, from a model or a file, can draw them.
"""

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.draw import DARK, draw_line, draw_marks, enlarge, mark_radius, spread_colors
from utils.video_io import write_image, write_video

TRAIL_LENGTH = 10  # frames


def grid_points(height: int, width: int, num: int, mask: NDArray | None = None) -> NDArray[np.float32]:
    """About `num` points on a regular grid, over the image or over the part of it that `mask` selects.

    Args:
        mask: bool [H,W]; the grid is as dense as its area asks for, so a small object gets `num` points too.
    Returns:
        float32 [N,2] (x, y), whole pixels; empty only for an empty mask.
    """
    mask = np.ones((height, width), bool) if mask is None else mask
    spacing = max(1.0, math.sqrt(mask.sum() / num))
    xs, ys = (np.arange(spacing / 2, size, spacing).astype(int) for size in (width, height))
    grid = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
    chosen = grid[mask[grid[:, 1], grid[:, 0]]]
    if len(chosen) == 0:  # a mask so thin that the grid steps over it: all of it, thinned
        chosen = np.argwhere(mask)[:: max(1, int(mask.sum()) // num), ::-1]
    return chosen.astype(np.float32)


def background_motion(tracks: NDArray, background: NDArray) -> NDArray:
    """Where the background has moved since frame 0: accumulated median steps of its points, [T,2] pixels.

    Args:
        background: bool [N]; without any background point the motion is zero.
    """
    motion = np.zeros((len(tracks), 2))
    if background.any():
        steps = np.diff(tracks[:, background].astype(float), axis=0)
        motion[1:] = np.cumsum(np.median(steps, axis=1), axis=0)
    return motion


def draw_grid(video: NDArray[np.uint8], tracks: NDArray, occluded: NDArray, colors: NDArray) -> NDArray[np.uint8]:
    """The points in every frame: visible = dot, occluded = cross, outside the image = nothing.

    Args:
        colors: uint8 [N,3].
    Returns:
        uint8 [T,h,w,3], the video's size or, if small, a whole multiple of it.
    """
    frames = []
    for frame, px, hidden in zip(video, tracks, occluded, strict=True):
        image, points = enlarge(frame, px)
        canvas = image.copy()
        draw_marks(canvas, points, hidden, colors)
        frames.append(canvas)
    return np.stack(frames)


def draw_trails(
    video: NDArray[np.uint8],
    tracks: NDArray,
    occluded: NDArray,
    background_motion: NDArray,
    colors: NDArray,
    length: int = TRAIL_LENGTH,
) -> NDArray[np.uint8]:
    """The points with the paths of their last frames, relative to the background.

    In frame t the position of frame s is drawn shifted by B(t) − B(s): what stands still in the scene has no
    trail however the camera moves. Trails fade with age.

    Args:
        background_motion: B [T,2] pixels. colors: uint8 [N,3]. length: steps of a trail.
    Returns:
        uint8 [T,h,w,3], sized as by `draw_grid`.
    """
    frames = []
    for t, frame in enumerate(video):
        ages = np.arange(t - max(t - length, 0), -1, -1)  # oldest first: newer steps lie on top
        paths = tracks[t - ages] + (background_motion[t] - background_motion[t - ages])[:, None]
        image, paths = enlarge(frame, paths)
        canvas = image.copy()
        for age, start, end in zip(ages[1:], paths[:-1], paths[1:], strict=True):
            canvas = _blend_lines(canvas, start, end, colors, opacity=0.9 * (1 - age / length))
        draw_marks(canvas, paths[-1], occluded[t], colors, 0.85 * mark_radius(*canvas.shape[:2]))
        frames.append(canvas)
    return np.stack(frames)


def _blend_lines(
    canvas: NDArray[np.uint8], start: NDArray, end: NDArray, colors: NDArray, opacity: float
) -> NDArray[np.uint8]:
    """`canvas` with translucent lines from `start` to `end` [N,2]."""
    lines = canvas.copy()
    thickness = max(1, round(0.5 * mark_radius(*canvas.shape[:2])))
    for a, b, color in zip(start, end, colors, strict=True):
        draw_line(lines, a, b, color, thickness)
    return cv2.addWeighted(canvas, 1 - opacity, lines, opacity, 0)


def contact_sheet(video: NDArray[np.uint8], columns: int = 3, rows: int = 2) -> NDArray[np.uint8]:
    """Frames spread evenly over the video, first and last included, numbered, on one picture [h,w,3]."""
    height, width = video.shape[1:3]
    ids = np.unique(np.linspace(0, len(video) - 1, columns * rows).round().astype(int))
    columns = min(columns, len(ids))
    sheet = np.full((math.ceil(len(ids) / columns) * height, columns * width, 3), 255, np.uint8)
    for place, i in enumerate(ids):
        top, left = place // columns * height, place % columns * width
        sheet[top : top + height, left : left + width] = _numbered(video[i], f"frame {i}")
    return sheet


def _numbered(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy of `image` with white `text` on a dark plate in its upper left corner."""
    image = image.copy()
    scale = max(0.5, max(image.shape[:2]) / 1300)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    margin = round(height / 2)
    image[: height + 2 * margin, : width + 2 * margin] = DARK
    place = (margin, margin + height)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return image


def save_with_sheet(out_dir: Path, name: str, frames: NDArray[np.uint8], fps: float = 10.0) -> list[Path]:
    """Write `<name>.mp4` and its contact sheet `<name>.png`, which shows it at a glance; both paths."""
    mp4, png = (Path(out_dir) / f"{name}{suffix}" for suffix in (".mp4", ".png"))
    write_video(mp4, frames, fps)
    write_image(png, contact_sheet(frames))
    return [mp4, png]


def save_track_videos(
    out_dir: Path,
    prefix: str,
    video: NDArray[np.uint8],
    tracks: NDArray,
    occluded: NDArray,
    background: NDArray,
    query_frame: int = 0,
    show_occluded: bool = True,
    fps: float = 10.0,
) -> list[Path]:
    """Write `<prefix>_grid` and `<prefix>_trails` as mp4, each with a contact sheet of the same name as png.

    Args:
        background: bool [N], the points whose median motion the trails remove. They are not drawn themselves,
            unless all points are background (no foreground is known): then all are drawn.
        query_frame: the frame whose positions give the points their colours.
        show_occluded: draw hidden points as crosses; otherwise they and their trails are left out.
    Returns:
        The paths of the four files.
    """
    shown = np.ones_like(background) if background.all() else ~background
    colors = spread_colors(tracks[query_frame, shown])
    motion = background_motion(tracks, background)
    tracks, occluded = tracks[:, shown], occluded[:, shown]
    if not show_occluded:
        tracks = np.where(occluded[..., None], np.nan, tracks)  # what has no place is not drawn
    drawn = {
        "grid": draw_grid(video, tracks, occluded, colors),
        "trails": draw_trails(video, tracks, occluded, motion, colors),
    }
    written = []
    for name, frames in drawn.items():
        written += save_with_sheet(out_dir, f"{prefix}_{name}", frames, fps)
    return written
