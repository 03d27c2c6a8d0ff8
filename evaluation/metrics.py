"""Metrics of predicted tracks: TAP-Vid's scores, occlusion, coherence, errors in pixels, and BADJA's accuracy.

Positions (x, y) are pixels of the frames, integer = pixel centre; `TrackPredictions` converts them where a metric is
defined on TAP-Vid's 256x256 raster. The entries of all points of a clip are pooled. A prediction is within a threshold
if it is strictly nearer. Scores are fractions in 0..1; errors and coherence are in pixels, low is good. A metric over
no entries is NaN.
"""

import math
from dataclasses import dataclass

import numpy as np

from evaluation.queries import TrackPredictions, is_outside_image

TAP_VID_THRESHOLDS = (1, 2, 4, 8, 16)  # pixels of the raster
BADJA_AREA_FACTOR = 0.2  # of the square root of the foreground's area
BADJA_FIXED_THRESHOLD = 3.0  # pixels of the frames


@dataclass(frozen=True)
class TapVidMetrics:
    """TAP-Vid's scores (Doersch et al. 2022)."""

    aj: float  # average Jaccard
    d_avg: float  # mean of `pts_within`, written <δ_avg
    oa: float  # occlusion accuracy
    pts_within: dict[int, float]  # threshold → fraction of visible points within it


@dataclass(frozen=True)
class OcclusionMetrics:
    """Shares of the entries that are predicted occluded, apart for both kinds of truth."""

    occluded_found: float  # of the occluded entries, high is good
    visible_lost: float  # of the visible entries, low is good


@dataclass(frozen=True)
class BadjaMetrics:
    """Fractions of the keypoints found (Biggs et al. 2018)."""

    within_area: float  # nearer than 0.2·√(foreground area of the frame)
    within_3px: float


@dataclass(frozen=True)
class ErrorSummary:
    """Median and 90th percentile of distances in pixels, linear between ranks."""

    p50: float
    p90: float

    @classmethod
    def of(cls, distances: np.ndarray) -> "ErrorSummary":
        """Summarise distances [M]."""
        return cls(*map(float, np.percentile(distances, (50, 90)))) if distances.size else cls(math.nan, math.nan)


def tap_vid_metrics(predictions: TrackPredictions, where: np.ndarray | None = None) -> TapVidMetrics:
    """Return TAP-Vid's scores.

    The Jaccard of a threshold is TP / (visible + FP), with TP = visible, predicted visible and within; FP = predicted
    visible, but occluded or too far. Predictions are scored as given: `queries.run_tracker` has marked those outside
    the image as occluded.

    Args:
        predictions: Predictions for Q queries in T frames.
        where: Entries to score, bool [Q,T]; None scores all that the query mode evaluates.
    """
    counted = _counted(predictions, where)
    distance = predictions.raster_distance[counted]
    visible, pred_visible = ~predictions.gt_occluded[counted], ~predictions.pred_occluded[counted]
    jaccards, pts_within = [], {}
    for threshold in TAP_VID_THRESHOLDS:
        correct = visible & (distance < threshold)
        true_positives = (correct & pred_visible).sum()
        false_positives = (pred_visible & ~correct).sum()
        jaccards.append(_ratio(true_positives, visible.sum() + false_positives))
        pts_within[threshold] = _ratio(correct.sum(), visible.sum())
    agreement = _ratio((visible == pred_visible).sum(), visible.size)
    return TapVidMetrics(float(np.mean(jaccards)), float(np.mean(list(pts_within.values()))), agreement, pts_within)


def occlusion_metrics(predictions: TrackPredictions, where: np.ndarray | None = None) -> OcclusionMetrics:
    """Return the shares of occluded and of visible entries that are predicted occluded.

    Occlusion accuracy is (occluded_found · occluded + (1 − visible_lost) · visible) / all: most points are visible, so
    it barely shows whether occlusions are found.

    Args:
        predictions: Predictions for Q queries in T frames.
        where: Entries to score, bool [Q,T]; None scores all that the query mode evaluates.
    """
    counted = _counted(predictions, where)
    occluded, pred_occluded = predictions.gt_occluded[counted], predictions.pred_occluded[counted]
    return OcclusionMetrics(
        _ratio((occluded & pred_occluded).sum(), occluded.sum()),
        _ratio((~occluded & pred_occluded).sum(), (~occluded).sum()),
    )


def temporal_coherence(predictions: TrackPredictions) -> float:
    """Return the paper's TC: the mean of ‖a_pred − a_true‖₂ with acceleration a_t = x_{t+1} − 2·x_t + x_{t−1}.

    The mean is over triples t−1, t, t+1 in which the point is visible and each frame is evaluated or the query's. The
    unit is the raster's pixel: the paper names none, and its other metrics use this one.
    """
    # Acceleration is linear, so the difference of the two is the acceleration of the error.
    difference = np.diff(predictions.raster_error, n=2, axis=1)
    usable = ~predictions.gt_occluded & (predictions.evaluated | (predictions.frame_gaps == 0))
    triples = usable[:, :-2] & usable[:, 1:-1] & usable[:, 2:]
    lengths = np.linalg.norm(difference, axis=-1)[triples]
    return float(lengths.mean()) if lengths.size else math.nan


def position_errors(predictions: TrackPredictions) -> tuple[ErrorSummary, ErrorSummary]:
    """Summarise distances from predicted to true positions, whatever visibility was predicted.

    Returns:
        The summary over visible entries, and over those occluded inside the image. The latter needs exact tracks: other
        annotations hold no positions there.
    """
    distance = np.linalg.norm(np.asarray(predictions.pred_tracks, np.float64) - predictions.gt_tracks, axis=-1)
    inside = ~is_outside_image(predictions.gt_tracks, predictions.size)
    visible = predictions.evaluated & ~predictions.gt_occluded
    occluded = predictions.evaluated & predictions.gt_occluded & inside
    return ErrorSummary.of(distance[visible]), ErrorSummary.of(distance[occluded])


def badja_metrics(pred: np.ndarray, gt: np.ndarray, visible: np.ndarray, areas: np.ndarray) -> BadjaMetrics:
    """Return the fractions of keypoints found, of those that were queried in the first annotated frame.

    The keypoints visible in that frame are queried, and scored in the later annotated frames in which they are visible,
    whatever visibility was predicted.

    Args:
        pred: Predicted pixels [K,F,2] of K keypoints in the F annotated frames; any values where not queried.
        gt: Labelled pixels [K,F,2].
        visible: Which of the labels are visible, bool [K,F].
        areas: Foreground pixels of each annotated frame, [F].
    """
    counted = visible & visible[:, :1]
    counted[:, 0] = False
    distance = np.linalg.norm(np.asarray(pred, np.float64) - gt, axis=-1)
    thresholds = np.broadcast_to(BADJA_AREA_FACTOR * np.sqrt(np.asarray(areas, np.float64)), distance.shape)
    within = [(counted & (distance < limit)).sum() for limit in (thresholds, BADJA_FIXED_THRESHOLD)]
    return BadjaMetrics(*(_ratio(found, counted.sum()) for found in within))


def _counted(predictions: TrackPredictions, where: np.ndarray | None) -> np.ndarray:
    """Return which entries count, bool [Q,T]."""
    return predictions.evaluated if where is None else predictions.evaluated & where


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else math.nan
