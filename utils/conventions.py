"""Where the pixel conventions of benchmarks meet ours: one function for each, and nowhere else.

Ours are pixels (x, y), integer = pixel centre. An image's outer edges therefore lie at −0.5 and W − 0.5, and a resize,
which keeps the edges in place, is x' = (x + 0.5)·W'/W − 0.5. Sizes are (height, width).
"""

import numpy as np

RASTER = 256  # side of the raster that TAP-Vid scores on
BADJA_SIZE = (1080, 1920)  # DAVIS's full resolution, of which BADJA's labels are

Size = tuple[int, int]


def scale_points(points: np.ndarray, old: Size, new: Size) -> np.ndarray:
    """Pixels [*,2] of an image resized from `old` to `new`; keeps the type of the numbers."""
    scale = np.array([new[1] / old[1], new[0] / old[0]])
    return ((points + 0.5) * scale - 0.5).astype(points.dtype)


def raster_from_px(px: np.ndarray, size: Size) -> np.ndarray:
    """Pixels [*,2] → TAP-Vid's 256x256 raster [*,2] float64, origin at the image's corner: (x + 0.5)·256/W."""
    return (np.asarray(px, np.float64) + 0.5) * RASTER / np.array(size[::-1])


def px_from_unit(points: np.ndarray, size: Size) -> np.ndarray:
    """TAP-Vid's stored (x / width, y / height) [*,2], 0..1 from corner to corner → pixels [*,2] float64."""
    return np.asarray(points, np.float64) * np.array(size[::-1]) - 0.5


def px_from_corner(points: np.ndarray) -> np.ndarray:
    """Raster coordinates [*,2] of the same size, the first pixel's centre at 0.5 (TAPIR's) → pixels [*,2]."""
    return points - np.asarray(0.5, points.dtype)


def px_from_badja(labels: np.ndarray, size: Size) -> np.ndarray:
    """BADJA's (row, column) [*,2], pixel indices at `BADJA_SIZE` → pixels (x, y) [*,2] float64 of a frame of `size`."""
    return scale_points(np.asarray(labels, np.float64)[..., ::-1], BADJA_SIZE, size)


def corner_from_px(px: np.ndarray) -> np.ndarray:
    """Pixels [*,2] → raster coordinates [*,2] of the same size, the first pixel's centre at 0.5 (TAPIR's)."""
    return px + np.asarray(0.5, px.dtype)


def nuke_from_px(px: np.ndarray, height: int) -> np.ndarray:
    """Pixels [*,2] → Nuke's [*,2]: origin at the lower left corner, y upwards, the first pixel's centre at 0.5."""
    return np.stack([px[..., 0] + 0.5, height - 0.5 - px[..., 1]], -1)


def stmap_from_px(px: np.ndarray, size: Size) -> np.ndarray:
    """Pixels [*,2] → (u, v) [*,2] of an STMap: 0..1 from edge to edge, v upwards from the lower edge."""
    return nuke_from_px(px, size[0]) / np.array(size[::-1], px.dtype)


def tapvid_queries(query_points: np.ndarray) -> np.ndarray:
    """Query points [N,3] (t, x, y) in pixels → TAP-Vid's (t, y, x) with y, x raster coordinates."""
    return np.concatenate([query_points[:, :1], corner_from_px(query_points[:, :0:-1])], 1)


def to_opengl_axes(points: np.ndarray) -> np.ndarray:
    """Points [*,3], y down and z away, as of frames and canonical volume → y up and z towards the viewer (OpenGL)."""
    return points * np.array([1, -1, -1], points.dtype)


def nan_where_occluded(occluded: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Annotated points [N,T,2] without the positions that nobody annotated: NaN where `occluded` [N,T]."""
    return np.where(occluded[..., None], np.nan, points).astype(np.float32)
