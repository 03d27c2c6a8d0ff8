"""What a tracker is asked and what it answered: TAP-Vid's two kinds of queries.

Tracks are [N,T,2] (x, y) in pixels, integer = pixel centre. Occlusion is bool, True = hidden. A query is (t, x, y).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from utils.conventions import raster_from_px

QUERY_STRIDE = 5  # frames between the queries of TAP-Vid's strided mode

QueryMode = Literal["first", "strided"]
# Queries float32 [Q,3] (t, x, y) → tracks [Q,T,2] and occluded bool [Q,T].
Tracker = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class TrackPredictions:
    """A tracker's answers to Q queries beside the truth. Raises ValueError if shapes disagree."""

    pred_tracks: np.ndarray  # [Q,T,2]
    pred_occluded: np.ndarray  # [Q,T]
    gt_tracks: np.ndarray  # [Q,T,2]
    gt_occluded: np.ndarray  # [Q,T]
    query_frames: np.ndarray  # [Q] int
    size: tuple[int, int]  # height, width of the video in pixels
    query_mode: QueryMode = "strided"

    def __post_init__(self) -> None:
        n, t = self.gt_occluded.shape
        arrays = (self.pred_tracks, self.pred_occluded, self.gt_tracks, self.gt_occluded, self.query_frames)
        found, expected = [np.shape(a) for a in arrays], [(n, t, 2), (n, t), (n, t, 2), (n, t), (n,)]
        if found != expected:
            raise ValueError(f"pred, pred_occluded, gt, gt_occluded, queries have shapes {found}, expected {expected}")
        if self.query_mode not in ("first", "strided"):
            raise ValueError(f"query_mode {self.query_mode!r}: expected 'first' or 'strided'")

    @property
    def gaps(self) -> np.ndarray:
        """Frames from the query, negative before it; [Q,T]."""
        return np.arange(self.gt_occluded.shape[1]) - np.asarray(self.query_frames)[:, None]

    @property
    def evaluated(self) -> np.ndarray:
        """Entries that count, bool [Q,T]: `first` = frames after the query, `strided` = all but the query's."""
        return self.gaps > 0 if self.query_mode == "first" else self.gaps != 0

    @cached_property
    def raster_error(self) -> np.ndarray:
        """Predicted minus true position in pixels of the 256x256 raster, [Q,T,2]."""
        return raster_from_px(self.pred_tracks, self.size) - raster_from_px(self.gt_tracks, self.size)

    @cached_property
    def raster_distance(self) -> np.ndarray:
        """Length of `raster_error`, [Q,T]."""
        return np.linalg.norm(self.raster_error, axis=-1)


def is_outside_image(tracks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which pixels [*,2] lie beyond the centres of the border pixels (as `coords.is_inside_image`); bool [*]."""
    return ~((tracks >= 0) & (tracks <= np.array([size[1] - 1, size[0] - 1]))).all(-1)


def queries_first(gt_occluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TAP-Vid's `first` queries: each point at its first visible frame; points never visible are dropped.

    Args: gt_occluded bool [N,T]. Returns ids of the kept points [M] and their query frames [M], int.
    """
    point_ids = np.flatnonzero(~gt_occluded.all(1))
    return point_ids, np.argmin(gt_occluded[point_ids], axis=1)


def queries_strided(gt_occluded: np.ndarray, stride: int = QUERY_STRIDE) -> tuple[np.ndarray, np.ndarray]:
    """TAP-Vid's `strided` queries: every point at each of frames 0, stride, 2·stride, … where it is visible.

    Args: gt_occluded bool [N,T]. Returns point ids [Q] and query frames [Q], int, ordered by frame.
    """
    frames, point_ids = np.nonzero(~gt_occluded[:, ::stride].T)
    return point_ids, frames * stride


def run_tracker(
    track: Tracker, points: np.ndarray, occluded: np.ndarray, size: tuple[int, int], query_mode: QueryMode = "strided"
) -> TrackPredictions:
    """Ask a tracker all queries of a mode, in one call; predictions outside the image count as occluded.

    Args: `points` [N,T,2] and `occluded` [N,T] are the truth, `size` (height, width) that of the video.
    """
    point_ids, frames = {"first": queries_first, "strided": queries_strided}[query_mode](occluded)
    queries = np.concatenate([frames[:, None], points[point_ids, frames]], axis=1).astype(np.float32)
    tracks, hidden = track(queries)
    hidden = hidden | is_outside_image(tracks, size)
    return TrackPredictions(tracks, hidden, points[point_ids], occluded[point_ids], frames, size, query_mode)
