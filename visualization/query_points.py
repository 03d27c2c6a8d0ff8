"""Query points (t, x, y): given ones, or chosen in a frame. Pixels, integer = pixel centre."""

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.clip import Clip
from utils.coords import with_time
from utils.errors import InputError
from visualization.query_files import read_queries
from visualization.query_records import QueryPoints

MAX_POINTS = 10_000  # more marks would cover each other, and take a CPU many minutes to track
DEFAULT_POINTS = 250  # of a grid without a given interval


def query_points(
    clip: Clip,
    *,
    query_frame_id: int = 0,
    points: str = "",
    region: tuple[int, int, int, int] | None = None,
    grid_interval: int | None = None,
    random: int | None = None,
    seed: int = 0,
) -> QueryPoints:
    """Return the query points of a clip: given points, or a grid or random points of the query frame.

    Args:
        clip: The clip; points are chosen on the query frame's foreground if it is known.
        query_frame_id: Frame in which points are chosen.
        points: The points themselves or their file, as `read_queries` takes them.
        region: (x0, y0, x1, y1), points are chosen in pixels x0 to x1 − 1 and y0 to y1 − 1.
        grid_interval: Pixels between two points of a grid; by default one of about 250 points.
        random: Number of random points instead of a grid.
        seed: Seed of the random points.

    Raises:
        InputError: Unusable or too many points, or arguments that contradict one another.
    """
    num_frames, height, width = clip.video.shape[:3]
    if points:
        if region or random or grid_interval:
            raise InputError(
                "--points gives all query points: drop --region, --random and --grid_interval, or --points"
            )
        queries = read_queries(points)
    else:
        mask = np.ones((height, width), bool) if clip.foreground is None else clip.foreground
        if region:
            mask = mask & _region_mask(region, height, width)
        px = choose_points(mask, grid_interval, random, seed)
        queries = QueryPoints(with_time(query_frame_id, torch.from_numpy(px)).numpy())
    check_queries(queries, num_frames, height, width)
    return queries


def _region_mask(region: tuple[int, int, int, int], height: int, width: int) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = region
    if x1 > width or y1 > height:
        raise InputError(f"--region is {region}, expected x up to {width} and y up to {height}")
    mask = np.zeros((height, width), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def check_queries(queries: QueryPoints, num_frames: int, height: int, width: int) -> None:
    """Refuse queries outside the clip or the image, and too many of them.

    Raises:
        InputError: A query is outside, or there are more than `MAX_POINTS`.
    """
    points = queries.points
    if len(points) > MAX_POINTS:
        raise InputError(
            f"found {len(points)} query points, expected at most {MAX_POINTS}: take fewer, or a larger --grid_interval"
        )
    outside = np.any((points < 0) | (points > (num_frames - 1, width - 1, height - 1)), axis=1)
    if outside.any():
        raise InputError(
            f"{outside.sum()} of {len(points)} points (t,x,y) are outside, {queries.list_some(outside)}: expected "
            f"t from 0 to {num_frames - 1}, x from 0 to {width - 1} and y from 0 to {height - 1}, in pixels of the "
            f"{width}x{height} frames that are tracked"
        )


def choose_points(
    mask: NDArray, interval: int | None = None, random: int | None = None, seed: int = 0
) -> NDArray[np.float32]:
    """Choose points in a mask: a grid of a given interval, random pixels, or a grid of about 250 points.

    Args:
        mask: bool [H,W].
        interval: Pixels between two points of the grid.
        random: Number of random pixels instead of a grid.
        seed: Seed of the random pixels.

    Returns:
        float32 [N,2] (x, y), whole pixels.

    Raises:
        InputError: The mask is empty, smaller than `random`, or stepped over by the grid.
    """
    height, width = mask.shape
    if not mask.any():
        raise InputError("no pixel to track: --region and the foreground mask have none in common; change one of them")
    if random is not None:
        pixels = np.argwhere(mask)[:, ::-1]
        if random > len(pixels):
            raise InputError(f"--random is {random}, but there are {len(pixels)} pixels to choose from: give fewer")
        return np.random.default_rng(seed).permutation(pixels)[:random].astype(np.float32)
    if interval is None:
        return grid_points(height, width, DEFAULT_POINTS, mask)
    grid = _grid(height, width, interval)
    chosen = grid[mask[grid[:, 1], grid[:, 0]]]
    if len(chosen) == 0:
        raise InputError(f"a grid of --grid_interval {interval} has no point on the mask or region: give a smaller one")
    return chosen.astype(np.float32)


def grid_points(height: int, width: int, num: int, mask: NDArray | None = None) -> NDArray[np.float32]:
    """Return about `num` points on a regular grid, over the image or over the part of it that `mask` selects.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        num: Number of points.
        mask: bool [H,W]; the grid is denser for a smaller area, so that a small object also gets about `num` points.

    Returns:
        float32 [N,2] (x, y), whole pixels; empty only for an empty mask.
    """
    mask = np.ones((height, width), bool) if mask is None else mask
    grid = _grid(height, width, max(1.0, np.sqrt(mask.sum() / num)))
    chosen = grid[mask[grid[:, 1], grid[:, 0]]]
    if len(chosen) == 0:  # the grid misses a thin mask: take every n-th of its pixels
        chosen = np.argwhere(mask)[:: max(1, int(mask.sum()) // num), ::-1]
    return chosen.astype(np.float32)


def _grid(height: int, width: int, spacing: float) -> NDArray[np.int64]:
    """Return whole pixels [N,2], row by row, `spacing` apart and half of it from the border."""
    xs, ys = (np.arange(spacing / 2, size, spacing).astype(int) for size in (width, height))
    return np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
