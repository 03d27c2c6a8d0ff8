"""Scores of point tracks: TAP-Vid's (Doersch et al. 2022), and errors in pixels that it leaves out.

Tracks here are [N,T,2] (x, y) in pixels, integer = pixel centre. TAP-Vid scores on a 256x256 raster whose
origin is the corner of the first pixel: x256 = (x + 0.5)·256/W, y256 = (y + 0.5)·256/H.
Only this module converts. Occlusion is bool, True = hidden. A score over no entries at all is NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

RASTER = 256
THRESHOLDS = (1, 2, 4, 8, 16)  # pixels of the raster
QUERY_STRIDE = 5  # frames between the queries of TAP-Vid's strided mode

QueryMode = Literal["first", "strided"]
Tracker = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class TapMetrics:
    """TAP-Vid's scores in 0..1: average Jaccard, <δ_avg, occlusion accuracy, and <δ for each threshold."""

    aj: float
    d_avg: float
    oa: float
    pts_within: dict[int, float]


@dataclass(frozen=True)
class PositionErrors:
    """Endpoint errors in pixels of the video over the evaluated frames, and <δ_avg over long gaps."""

    visible_median: float
    visible_mean: float
    occluded_median: float  # hidden but inside the image: TAP-Vid never looks at these
    occluded_mean: float
    d_avg_far: float  # visible, further than `min_gap` frames from the query


@dataclass(frozen=True)
class StridedTracks:
    """A tracker's answers to strided queries beside the truth: tracks [Q,T,2], occlusion [Q,T]."""

    pred_tracks: np.ndarray
    pred_occluded: np.ndarray
    gt_tracks: np.ndarray
    gt_occluded: np.ndarray
    query_frames: np.ndarray


def to_raster(tracks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels [*,2] (integer = centre) → TAP-Vid's 256x256 raster [*,2] (origin at the image's corner)."""
    return (np.asarray(tracks, np.float64) + 0.5) * RASTER / np.array([width, height])


def outside_image(tracks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Which pixels [*,2] lie beyond the centres of the border pixels (as `coords.inside_image`); bool [*]."""
    return ~((tracks >= 0) & (tracks <= np.array([width - 1, height - 1]))).all(-1)


def evaluated_frames(query_frames: np.ndarray, num_frames: int, query_mode: QueryMode) -> np.ndarray:
    """Entries that count, bool [N,T]: `first` = frames after the query, `strided` = all but the query's."""
    frames, queries = np.arange(num_frames), np.asarray(query_frames)[:, None]
    if query_mode == "first":
        return frames > queries
    if query_mode == "strided":
        return frames != queries
    raise ValueError(f"query_mode {query_mode!r}: expected 'first' or 'strided'")


def tap_vid_metrics(
    pred_tracks: np.ndarray,
    pred_occluded: np.ndarray,
    gt_tracks: np.ndarray,
    gt_occluded: np.ndarray,
    query_frames: np.ndarray,
    height: int,
    width: int,
    query_mode: QueryMode = "first",
) -> TapMetrics:
    """TAP-Vid's scores, all points of the clip pooled.

    Convention: tracks come in pixels of the video (integer = centre) and are scored on the 256x256 raster,
    x256 = (x + 0.5)·256/W. A position is within a threshold if strictly nearer. A threshold's Jaccard is
    TP / (visible + FP): TP = visible, predicted visible, within; FP = predicted visible, hidden or too far.
    Predictions are scored as given: `run_strided` is where predictions outside the image become occluded.

    Args: tracks [N,T,2], occlusion bool [N,T], query_frames int [N], size of the video in pixels.
    Raises ValueError if shapes disagree.
    """
    _require_shapes(pred_tracks, pred_occluded, gt_tracks, gt_occluded, query_frames)
    evaluated = evaluated_frames(query_frames, gt_occluded.shape[1], query_mode)
    distance = _raster_distance(pred_tracks, gt_tracks, height, width)[evaluated]
    visible, pred_visible = ~gt_occluded[evaluated], ~pred_occluded[evaluated]
    jaccards, pts_within = [], {}
    for threshold in THRESHOLDS:
        correct = visible & (distance < threshold)
        true_positives = (correct & pred_visible).sum()
        false_positives = (pred_visible & ~correct).sum()
        jaccards.append(_ratio(true_positives, visible.sum() + false_positives))
        pts_within[threshold] = _ratio(correct.sum(), visible.sum())
    agreement = _ratio((visible == pred_visible).sum(), visible.size)
    return TapMetrics(float(np.mean(jaccards)), float(np.mean(list(pts_within.values()))), agreement, pts_within)


def position_errors(
    pred_tracks: np.ndarray,
    gt_tracks: np.ndarray,
    gt_occluded: np.ndarray,
    query_frames: np.ndarray,
    height: int,
    width: int,
    query_mode: QueryMode = "strided",
    min_gap: int = 8,
) -> PositionErrors:
    """Where the predicted positions are, whatever was predicted of their visibility.

    Args as in `tap_vid_metrics`; `min_gap`: `d_avg_far` counts frames with |t − query| > min_gap.
    """
    _require_shapes(pred_tracks, gt_occluded, gt_tracks, gt_occluded, query_frames)
    evaluated = evaluated_frames(query_frames, gt_occluded.shape[1], query_mode)
    error = np.linalg.norm(np.asarray(pred_tracks, np.float64) - gt_tracks, axis=-1)
    visible = error[evaluated & ~gt_occluded]
    hidden = error[evaluated & gt_occluded & ~outside_image(gt_tracks, height, width)]
    gap = np.abs(np.arange(gt_occluded.shape[1]) - np.asarray(query_frames)[:, None])
    far = _raster_distance(pred_tracks, gt_tracks, height, width)[evaluated & ~gt_occluded & (gap > min_gap)]
    return PositionErrors(
        visible_median=_or_nan(np.median, visible),
        visible_mean=_or_nan(np.mean, visible),
        occluded_median=_or_nan(np.median, hidden),
        occluded_mean=_or_nan(np.mean, hidden),
        d_avg_far=float(np.mean([_ratio((far < threshold).sum(), far.size) for threshold in THRESHOLDS])),
    )


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


def run_strided(track: Tracker, points: np.ndarray, occluded: np.ndarray, height: int, width: int) -> StridedTracks:
    """Ask a tracker TAP-Vid's strided queries, in one call; predictions outside the image count as occluded.

    Args: `track` maps queries float32 [Q,3] (t, x, y) pixels to tracks [Q,T,2] and occluded bool [Q,T];
    `points` [N,T,2] and `occluded` [N,T] are the truth.
    """
    point_ids, frames = queries_strided(occluded)
    queries = np.concatenate([frames[:, None], points[point_ids, frames]], axis=1).astype(np.float32)
    tracks, hidden = track(queries)
    hidden = hidden | outside_image(tracks, height, width)
    return StridedTracks(tracks, hidden, points[point_ids], occluded[point_ids], frames)


def evaluate_tracker(track: Tracker, points: np.ndarray, occluded: np.ndarray, height: int, width: int) -> TapMetrics:
    """TAP-Vid's scores of a tracker with strided queries; arguments as in `run_strided`."""
    run = run_strided(track, points, occluded, height, width)
    truth = (run.gt_tracks, run.gt_occluded, run.query_frames)
    return tap_vid_metrics(run.pred_tracks, run.pred_occluded, *truth, height, width, "strided")


def summarize_tracker(
    track: Tracker, points: np.ndarray, occluded: np.ndarray, height: int, width: int, min_gap: int = 8
) -> dict[str, float]:
    """One row of `format_table`: TAP-Vid's scores and the errors in pixels, from one call of the tracker."""
    run = run_strided(track, points, occluded, height, width)
    truth = (run.gt_tracks, run.gt_occluded, run.query_frames)
    scores = tap_vid_metrics(run.pred_tracks, run.pred_occluded, *truth, height, width, "strided")
    errors = position_errors(run.pred_tracks, *truth, height, width, "strided", min_gap)
    return {
        "AJ": scores.aj,
        "<d_avg": scores.d_avg,
        "OA": scores.oa,
        f"<d_avg gap>{min_gap}": errors.d_avg_far,
        "px visible": errors.visible_median,
        "px occluded": errors.occluded_median,
    }


def format_table(rows: dict[str, dict[str, float]]) -> str:
    """Rows of named figures as an aligned table for the terminal; a dash where a row lacks a figure."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [["", *columns]]
    for label, row in rows.items():
        cells.append([label, *(f"{row[name]:.3f}" if name in row else "-" for name in columns)])
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns) + 1)]
    lines = []
    for label, *figures in cells:
        aligned = [figure.rjust(size) for figure, size in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([label.ljust(widths[0]), *aligned]).rstrip())
    return "\n".join(lines)


def _raster_distance(pred: np.ndarray, gt: np.ndarray, height: int, width: int) -> np.ndarray:
    """Distance in pixels of the 256x256 raster, [N,T]."""
    return np.linalg.norm(to_raster(pred, height, width) - to_raster(gt, height, width), axis=-1)


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else float("nan")


def _or_nan(statistic: Callable[[np.ndarray], float], values: np.ndarray) -> float:
    return float(statistic(values)) if values.size else float("nan")


def _require_shapes(pred_tracks, pred_occluded, gt_tracks, gt_occluded, query_frames) -> None:
    """Raise ValueError unless all describe the same N points in the same T frames."""
    n, t = gt_occluded.shape
    found = [np.shape(a) for a in (pred_tracks, pred_occluded, gt_tracks, gt_occluded, query_frames)]
    expected = [(n, t, 2), (n, t), (n, t, 2), (n, t), (n,)]
    if found != expected:
        raise ValueError(f"pred, pred_occluded, gt, gt_occluded, queries have shapes {found}, expected {expected}")
