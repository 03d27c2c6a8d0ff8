"""TAP-Vid's queries, and a tracker's predictions for them with the ground truth.

Tracks are [N,T,2] (x, y) in pixels, integer = pixel centre. Occlusion is bool, True = occluded. A query point is
(t, x, y). N is the number of true points, Q of queries: in `strided` mode one point may be queried in several frames.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evaluation.options import QueryMode
from utils.conventions import Size, raster_from_px

QUERY_STRIDE = 5  # frames between the queries of TAP-Vid's strided mode

# Query points float32 [Q,3] (t, x, y) → tracks [Q,T,2] and occluded bool [Q,T].
Tracker = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class TrackPredictions:
    """A tracker's predictions for Q queries, and the ground truth.

    Raises:
        ValueError: The shapes disagree, or the query mode is unknown.
    """

    pred_tracks: np.ndarray  # [Q,T,2]
    pred_occluded: np.ndarray  # [Q,T]
    gt_tracks: np.ndarray  # [Q,T,2]
    gt_occluded: np.ndarray  # [Q,T]
    query_frames: np.ndarray  # [Q] int
    size: Size  # height, width of the video in pixels
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
    def frame_gaps(self) -> np.ndarray:
        """Number of frames since the query, negative before it, [Q,T]."""
        return np.arange(self.gt_occluded.shape[1]) - np.asarray(self.query_frames)[:, None]

    @property
    def evaluated(self) -> np.ndarray:
        """Entries that count, bool [Q,T]: `first` = frames after the query, `strided` = all but the query's."""
        return self.frame_gaps > 0 if self.query_mode == "first" else self.frame_gaps != 0

    @cached_property
    def raster_error(self) -> np.ndarray:
        """Predicted minus true position in pixels of the 256x256 raster, [Q,T,2]."""
        return raster_from_px(self.pred_tracks, self.size) - raster_from_px(self.gt_tracks, self.size)

    @cached_property
    def raster_distance(self) -> np.ndarray:
        """Length of `raster_error`, [Q,T]."""
        return np.linalg.norm(self.raster_error, axis=-1)


def is_outside_image(tracks: np.ndarray, size: Size) -> np.ndarray:
    """Return which pixels [*,2] lie beyond the border pixels' centres (the rule of `coords.is_inside_image`), [*]."""
    inside = (tracks >= 0) & (tracks <= np.array([size[1] - 1, size[0] - 1]))
    return ~np.all(inside, axis=-1)


def queries_first(gt_occluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Query each point in its first visible frame, as TAP-Vid's `first` mode; drop points that are never visible.

    Args:
        gt_occluded: Occlusion of the true tracks, bool [N,T].

    Returns:
        Point ids [Q] and query frames [Q], int.
    """
    point_ids = np.flatnonzero(~gt_occluded.all(1))
    return point_ids, np.argmin(gt_occluded[point_ids], axis=1)


def queries_strided(gt_occluded: np.ndarray, stride: int = QUERY_STRIDE) -> tuple[np.ndarray, np.ndarray]:
    """Query each point in all of the frames 0, stride, 2·stride, … where it is visible, as TAP-Vid's `strided` mode.

    Args:
        gt_occluded: Occlusion of the true tracks, bool [N,T].
        stride: Frames between two queries.

    Returns:
        Point ids [Q] and query frames [Q], int, ordered by frame.
    """
    frames, point_ids = np.nonzero(~gt_occluded[:, ::stride].T)
    return point_ids, frames * stride


def run_tracker(
    track: Tracker, points: np.ndarray, occluded: np.ndarray, size: Size, query_mode: QueryMode = "strided"
) -> TrackPredictions:
    """Run a tracker on all queries of a mode in one call; predictions outside the image count as occluded.

    Args:
        track: The tracker.
        points: True tracks [N,T,2].
        occluded: Their occlusion, bool [N,T].
        size: Height and width of the video.
        query_mode: Which frames the points are queried in.

    Returns:
        Its predictions and the truth, of Q queries.
    """
    point_ids, frames = {"first": queries_first, "strided": queries_strided}[query_mode](occluded)
    queries = np.concatenate([frames[:, None], points[point_ids, frames]], axis=1).astype(np.float32)
    tracks, pred_occluded = track(queries)
    pred_occluded = pred_occluded | is_outside_image(tracks, size)
    return TrackPredictions(tracks, pred_occluded, points[point_ids], occluded[point_ids], frames, size, query_mode)
