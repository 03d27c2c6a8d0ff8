"""Point tracks drawn over a video.

`tracks` [F,N,2] (x, y) pixels, `occluded` bool [F,N], `frames` F pictures uint8 RGB [H,W,3], read one after the other.

Arrays only: whoever has tracks, from a model or a file, can draw them. What has no place (not-a-number) is not drawn.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from visualization.camera import apply_homography
from visualization.draw import beside, draw_line, draw_marks, enlarge, enlargement, mark_radius, title_plate

OPACITY = 0.9  # of the newest step of a trail
REACH = 2  # image sizes around the first frame in which trails are kept: where a camera that turns away leaves them


def draw_pairs(
    query: NDArray[np.uint8],
    title: str,
    query_px: NDArray,
    frames: Iterable[NDArray[np.uint8]],
    tracks: NDArray,
    occluded: NDArray,
    colors: NDArray,
    radius: float | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """The query frame beside each frame: visible points are dots, occluded ones crosses, those outside left out.

    Args:
        query: [H,W,3], named by `title`. query_px: [N,2] pixels of it. colors: uint8 [N,3].
        radius: of the marks, pixels of the pictures.
    Yields:
        uint8 [h,2w+2,3]; h, w the frames' size or, if small, a whole multiple of it.
    """
    left = _marked(query, query_px, np.zeros(len(query_px), bool), colors, radius)
    plate = title_plate(title, max(left.shape[:2]) / 1300)[: left.shape[0], : left.shape[1]]
    left[: plate.shape[0], : plate.shape[1]] = plate
    for frame, px, hidden in zip(frames, tracks, occluded, strict=True):
        yield beside(left, _marked(frame, px, hidden, colors, radius))


def _marked(
    image: NDArray[np.uint8], px: NDArray, hidden: NDArray, colors: NDArray, radius: float | None
) -> NDArray[np.uint8]:
    image, px = enlarge(image, px)
    canvas = image.copy()
    draw_marks(canvas, px, hidden, colors, radius)
    return canvas


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
    """The points with the paths of their last frames, relative to the background.

    What stands still in the scene has no trail however the camera moves. Every step is drawn once, into a layer that
    stands still with the scene; each frame fades the layer and moves it to where the camera is, so that the work of a
    frame does not grow with the length of the trails.

    Args:
        size: (H, W) of the frames. camera: [F,3,3] maps of frame → first frame (`visualization.camera`). colors: uint8 [N,3].
        length: frames until a step has faded; None: never. radius: of the marks, pixels of the pictures.
    Yields:
        uint8 [h,w,3], sized as by `draw_pairs`.
    """
    scale = enlargement(*size)
    height, width = size[0] * scale, size[1] * scale
    to_large = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1.0]])
    camera = to_large @ camera @ np.linalg.inv(to_large)
    radius = 0.85 * mark_radius(height, width) if radius is None else radius  # trails take room, too
    paths = apply_homography(camera, apply_homography(to_large, tracks))
    layer = _TrailLayer(paths, camera, height, width, max(1, round(0.6 * radius)))
    for f, frame in enumerate(frames):
        image, px = enlarge(frame, tracks[f])
        if f:
            layer.add(f, paths[f - 1], paths[f], colors)
        canvas = layer.over(image, f, length, camera[f])
        draw_marks(canvas, px, occluded[f], colors, radius)
        yield canvas


class _TrailLayer:
    """A picture of the steps drawn so far that remembers in which frame each of its pixels was drawn."""

    def __init__(self, paths: NDArray, camera: NDArray, height: int, width: int, thickness: int):
        # As large as the paths reach and a frame sees: points that run away must not cost memory.
        known = paths[np.isfinite(paths).all(-1)].reshape(-1, 2)
        known = known if len(known) else np.zeros((1, 2))
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
        seen = apply_homography(camera, np.broadcast_to(corners, (len(camera), 4, 2))).reshape(-1, 2)
        limits = np.array([width, height])
        seen = seen.clip(-REACH * limits, (REACH + 1) * limits)
        margin = thickness + 2
        self.low = np.floor(np.maximum(known.min(0) - margin, seen.min(0))).astype(int)
        w, h = np.maximum(np.ceil(np.minimum(known.max(0) + margin, seen.max(0))).astype(int) - self.low, 1)
        self.ink = np.zeros((h, w, 4), np.uint8)  # colour · coverage, coverage
        self.born = np.zeros((h, w), np.int32)
        self.thickness = thickness

    def add(self, f: int, starts: NDArray, ends: NDArray, colors: NDArray) -> None:
        """Draw the step of frame f − 1 to f of every point."""
        new = np.zeros_like(self.ink)
        for start, end, color in zip(starts - self.low, ends - self.low, colors, strict=True):
            draw_line(new, start, end, (*color, 255), self.thickness)  # on zeros, smooth rims come out premultiplied
        ys, xs = np.nonzero(new[..., 3])
        new = new[ys, xs]
        hidden = self.ink[ys, xs] * (1 - new[:, 3:] / 255)
        self.ink[ys, xs] = (new + hidden).round().clip(0, 255)
        self.born[ys, xs] = f

    def over(self, image: NDArray[np.uint8], f: int, length: int | None, camera: NDArray) -> NDArray[np.uint8]:
        """`image` [h,w,3] of frame f under the layer, as seen by that frame's camera."""
        fade = 1 if length is None else (1 - (f - self.born) / length).clip(0, 1)
        ink = (self.ink * np.float32(OPACITY) * np.asarray(fade, np.float32)[..., None]).round().astype(np.uint8)
        to_frame = np.linalg.inv(camera) @ np.array([[1, 0, self.low[0]], [0, 1, self.low[1]], [0, 0, 1.0]])
        seen = cv2.warpPerspective(ink, to_frame, image.shape[1::-1], flags=cv2.INTER_LINEAR)
        return (image * (1 - seen[..., 3:] / np.float32(255)) + seen[..., :3]).round().clip(0, 255).astype(np.uint8)
