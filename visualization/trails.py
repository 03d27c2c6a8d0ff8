"""Trails: point tracks drawn over a video, with the path that each point took relative to the background.

Works on arrays, so that tracks of a model or of a file can be drawn: `tracks` [F,N,2] (x, y) pixels, `occluded` bool
[F,N], and F `frames` uint8 RGB [H,W,3], read one after the other. NaN positions are not drawn.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from visualization.camera import apply_homography
from visualization.marks import draw_line, draw_marks, enlarge, enlargement, mark_radius

OPACITY = 0.9  # of the newest step of a trail
REACH = 2  # image sizes around the first frame within which trails are kept while the camera has moved away


def draw_trails(
    frames: Iterable[NDArray[np.uint8]],
    size: tuple[int, int],
    tracks: NDArray,
    occluded: NDArray,
    camera: NDArray,
    colors: NDArray,
    length: int | None,
    radius: float | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Draw the points with their recent paths relative to the background.

    A static point has no trail however the camera moves. Every step is drawn once, into a layer that is fixed to the
    scene. Each frame fades the layer and maps it into its camera, so that the work per frame does not grow with the
    length of the trails.

    Args:
        frames: F pictures [H,W,3].
        size: (H, W) of the frames.
        tracks: The points [F,N,2].
        occluded: bool [F,N].
        camera: Homographies [F,3,3], frame → first frame (`visualization.camera`).
        colors: uint8 [N,3].
        length: Frames until a step has faded; None: never.
        radius: Radius of the marks, in pixels of the pictures.

    Yields:
        uint8 [h,w,3]; h, w the frames' size or, if small, a whole multiple of it.
    """
    scale = enlargement(*size)
    height, width = size[0] * scale, size[1] * scale
    to_large = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1.0]])
    camera = to_large @ camera @ np.linalg.inv(to_large)
    radius = 0.85 * mark_radius(height, width) if radius is None else radius  # trails take space, too
    paths = apply_homography(camera, apply_homography(to_large, tracks))
    layer = _TrailLayer(paths, camera, height, width, max(1, round(0.6 * radius)))
    for f, frame in enumerate(frames):
        image, px = enlarge(frame, tracks[f])
        if f:
            layer.add_step(f, paths[f - 1], paths[f], colors)
        canvas = layer.over(image, f, length, camera[f])
        draw_marks(canvas, px, occluded[f], colors, radius)
        yield canvas


class _TrailLayer:
    """A layer with the steps drawn so far, and for each of its pixels the frame in which it was last drawn."""

    def __init__(self, paths: NDArray, camera: NDArray, height: int, width: int, thickness: int):
        # Large enough for paths and frames, but clipped to what frames show: stray points must not cost memory.
        known = paths[np.isfinite(paths).all(-1)].reshape(-1, 2)
        known = known if len(known) else np.zeros((1, 2))
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
        seen = apply_homography(camera, np.broadcast_to(corners, (len(camera), 4, 2))).reshape(-1, 2)
        limits = np.array([width, height])
        seen = seen.clip(-REACH * limits, (REACH + 1) * limits)
        margin = thickness + 2
        self.origin = np.floor(np.maximum(known.min(0) - margin, seen.min(0))).astype(int)
        end = np.ceil(np.minimum(known.max(0) + margin, seen.max(0))).astype(int)
        layer_width, layer_height = np.maximum(end - self.origin, 1)
        self.ink = np.zeros((layer_height, layer_width, 4), np.uint8)  # colour · coverage, coverage
        self.drawn_in = np.zeros((layer_height, layer_width), np.int32)
        self.thickness = thickness

    def add_step(self, f: int, starts: NDArray, ends: NDArray, colors: NDArray) -> None:
        """Draw the step of every point from frame f − 1 to frame f."""
        new = np.zeros_like(self.ink)
        for start, end, color in zip(starts - self.origin, ends - self.origin, colors, strict=True):
            draw_line(new, start, end, (*color, 255), self.thickness)  # on zeros, antialiased edges are premultiplied
        ys, xs = np.nonzero(new[..., 3])
        new = new[ys, xs]
        covered = self.ink[ys, xs] * (1 - new[:, 3:] / 255)
        self.ink[ys, xs] = (new + covered).round().clip(0, 255)
        self.drawn_in[ys, xs] = f

    def over(self, image: NDArray[np.uint8], f: int, length: int | None, camera: NDArray) -> NDArray[np.uint8]:
        """Return `image` [h,w,3] of frame f with the layer over it, mapped into the frame's camera."""
        fade = np.ones((1, 1)) if length is None else (1 - (f - self.drawn_in) / length).clip(0, 1)
        ink = (self.ink * np.float32(OPACITY) * fade.astype(np.float32)[..., None]).round().astype(np.uint8)
        left, top = self.origin
        to_frame = np.linalg.inv(camera) @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]])
        seen = cv2.warpPerspective(ink, to_frame, image.shape[1::-1], flags=cv2.INTER_LINEAR)
        return (image * (1 - seen[..., 3:] / np.float32(255)) + seen[..., :3]).round().clip(0, 255).astype(np.uint8)
