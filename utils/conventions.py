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
