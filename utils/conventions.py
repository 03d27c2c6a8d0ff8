"""Conversions between our pixel convention and those of benchmarks and other programs, one function each.

Our pixels are (x, y) with integer = pixel centre. An image's outer edges therefore lie at −0.5 and W − 0.5. A resize
keeps the edges fixed: x' = (x + 0.5)·W'/W − 0.5. Sizes are (height, width).
"""

import numpy as np

RASTER = 256  # side of the image to which TAP-Vid scales all points before scoring
BADJA_SIZE = (1080, 1920)  # DAVIS's full resolution, in which BADJA's labels are given

Size = tuple[int, int]


def scale_points(points: np.ndarray, old: Size, new: Size) -> np.ndarray:
    """Convert pixels [*,2] of an image of size `old` to those of the image resized to `new`; keeps the dtype."""
    scale = np.array([new[1] / old[1], new[0] / old[0]])
    return ((points + 0.5) * scale - 0.5).astype(points.dtype)


def raster_from_px(px: np.ndarray, size: Size) -> np.ndarray:
    """Convert pixels [*,2] to TAP-Vid's 256x256 raster [*,2] float64, origin at the image's corner: (x + 0.5)·256/W."""
    return (np.asarray(px, np.float64) + 0.5) * RASTER / np.array(size[::-1])


def px_from_unit(points: np.ndarray, size: Size) -> np.ndarray:
    """Convert TAP-Vid's stored (x/W, y/H) [*,2], 0..1 from edge to edge, to pixels [*,2] float64."""
    return np.asarray(points, np.float64) * np.array(size[::-1]) - 0.5


def px_from_corner(points: np.ndarray) -> np.ndarray:
    """Convert raster coordinates [*,2] with the first pixel's centre at 0.5 (TAPIR's) to pixels [*,2]."""
    return points - np.asarray(0.5, points.dtype)


def px_from_badja(labels: np.ndarray, size: Size) -> np.ndarray:
    """Convert BADJA's (row, column) [*,2] at `BADJA_SIZE` to pixels (x, y) [*,2] float64 of a frame of `size`."""
    return scale_points(np.asarray(labels, np.float64)[..., ::-1], BADJA_SIZE, size)


def corner_from_px(px: np.ndarray) -> np.ndarray:
    """Convert pixels [*,2] to [*,2] with the first pixel's centre at 0.5: TAPIR's, After Effects', rerun's."""
    return px + np.asarray(0.5, px.dtype)


def nuke_from_px(px: np.ndarray, height: int) -> np.ndarray:
    """Convert pixels [*,2] to Nuke's [*,2]: origin at the lower left corner, y up, the first pixel's centre at 0.5."""
    return np.stack([px[..., 0] + 0.5, height - 0.5 - px[..., 1]], -1)


def stmap_from_px(px: np.ndarray, size: Size) -> np.ndarray:
    """Convert pixels [*,2] to (u, v) [*,2] of STMaps and Blender's markers: 0..1 from edge to edge, v upwards."""
    return nuke_from_px(px, size[0]) / np.array(size[::-1], px.dtype)


def scene_from_px(px: np.ndarray, depth: np.ndarray, size: Size) -> np.ndarray:
    """Convert pixels [*,2] and depths [*] to the space [*,3] of an orthographic camera that looks along −z, y up.

    The image's centre is at x = y = 0, its longer side reaches from −1 to 1, and z is the negative depth. An
    orthographic camera on the z axis with a view 2 wide therefore sees each point at its pixel.
    """
    height, width = size
    centred = nuke_from_px(px, height) - np.array([width / 2, height / 2], px.dtype)
    return np.concatenate([centred * 2 / max(size), -depth[..., None]], -1)


def napari_from_px(px: np.ndarray) -> np.ndarray:
    """Convert pixels (x, y) [*,2] to napari's (y, x) [*,2], whose integers are pixel centres, too."""
    return px[..., ::-1]


def tapvid_queries(query_points: np.ndarray) -> np.ndarray:
    """Convert query points [N,3] (t, x, y) in pixels to TAP-Vid's (t, y, x) in raster coordinates."""
    return np.concatenate([query_points[:, :1], corner_from_px(query_points[:, :0:-1])], 1)


def to_opengl_axes(points: np.ndarray) -> np.ndarray:
    """Convert points [*,3] with y down and z away from the viewer to OpenGL's axes, y up and z towards the viewer."""
    return points * np.array([1, -1, -1], points.dtype)


def nan_where_occluded(occluded: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points [N,T,2] float32 with NaN where `occluded` [N,T], because the position is not annotated there."""
    return np.where(occluded[..., None], np.nan, points).astype(np.float32)
