"""TAP-Vid's scores of point tracks (Doersch et al. 2022), in 0..1.

Positions are compared on the 256x256 raster (`utils.conventions`). A score over no entries at all is NaN.


BADJA (Biggs et al. 2018): how many keypoints of animals are found again.


What TAP-Vid's scores leave out: how smooth tracks are, and how far off, in pixels, where visible and where hidden.

A figure over no entries at all is NaN.

"""

from dataclasses import dataclass

import numpy as np

from evaluation.queries import TrackPredictions, is_outside_image

THRESHOLDS = (1, 2, 4, 8, 16)  # pixels of the raster


@dataclass(frozen=True)
class TapMetrics:
    """Average Jaccard, <δ_avg, occlusion accuracy, and <δ for each threshold."""

    aj: float
    d_avg: float
    oa: float
    pts_within: dict[int, float]


def tap_vid_metrics(answers: TrackPredictions, where: np.ndarray | None = None) -> TapMetrics:
    """TAP-Vid's scores, all points of the clip pooled; only entries `where` (bool [Q,T]) if given.

    A position is within a threshold if strictly nearer. A threshold's Jaccard is TP / (visible + FP): TP = visible,
    predicted visible, within; FP = predicted visible, hidden or too far. Predictions are scored as given:
    `queries.run_tracker` is where predictions outside the image become occluded.
    """
    counted = answers.evaluated if where is None else answers.evaluated & where
    distance = answers.raster_distance[counted]
    visible, pred_visible = ~answers.gt_occluded[counted], ~answers.pred_occluded[counted]
    jaccards, pts_within = [], {}
    for threshold in THRESHOLDS:
        correct = visible & (distance < threshold)
        true_positives = (correct & pred_visible).sum()
        false_positives = (pred_visible & ~correct).sum()
        jaccards.append(_ratio(true_positives, visible.sum() + false_positives))
        pts_within[threshold] = _ratio(correct.sum(), visible.sum())
    agreement = _ratio((visible == pred_visible).sum(), visible.size)
    return TapMetrics(float(np.mean(jaccards)), float(np.mean(list(pts_within.values()))), agreement, pts_within)


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else float("nan")


AREA_SHARE = 0.2  # of the square root of the mask's area
NEAR = 3.0  # pixels


@dataclass(frozen=True)
class BadjaMetrics:
    """Shares (0..1) of the labels found within 0.2·√(mask area of their frame) and within 3 px; NaN without labels."""

    within_area: float
    within_3px: float


def badja_metrics(pred: np.ndarray, gt: np.ndarray, visible: np.ndarray, areas: np.ndarray) -> BadjaMetrics:
    """Score keypoints that were asked for in the first annotated frame; all labels of the clip pooled.

    Asked for are those visible there, counted are the later annotated frames in which they are visible. A keypoint is
    found if it is strictly nearer than the threshold, whatever was predicted of its visibility. The first threshold
    grows with the frames, the second is 3 px of the frames in hand.

    Args:
        pred: [K,F,2] predicted pixels of K keypoints in the F annotated frames; those not asked for hold anything.
        gt, visible: [K,F,2] pixels and bool [K,F], the labels.
        areas: [F] pixels of the foreground mask of each annotated frame.
    """
    counted = visible & visible[:, :1]
    counted[:, 0] = False
    distance = np.linalg.norm(np.asarray(pred, np.float64) - gt, axis=-1)
    thresholds = np.broadcast_to(AREA_SHARE * np.sqrt(np.asarray(areas, np.float64)), distance.shape)
    total = int(counted.sum())
    if not total:
        return BadjaMetrics(float("nan"), float("nan"))
    found = [(counted & (distance < limit)).sum() / total for limit in (thresholds, NEAR)]
    return BadjaMetrics(*map(float, found))


@dataclass(frozen=True)
class ErrorSummary:
    """Median and 90th percentile (linear between ranks) of distances in pixels of the video."""

    p50: float
    p90: float

    @classmethod
    def of(cls, distances: np.ndarray) -> "ErrorSummary":
        """Summary of the distances [M]."""
        return cls(*map(float, np.percentile(distances, (50, 90)))) if distances.size else cls(np.nan, np.nan)


def position_errors(answers: TrackPredictions) -> tuple[ErrorSummary, ErrorSummary]:
    """Distances from predicted to true positions, whatever was predicted of their visibility.

    Returns: over evaluated entries that are visible, and over those that are hidden but inside the image, which only
    exact tracks know (TAP-Vid's annotated ones hold no position there).
    """
    distance = np.linalg.norm(np.asarray(answers.pred_tracks, np.float64) - answers.gt_tracks, axis=-1)
    inside = ~is_outside_image(answers.gt_tracks, answers.size)
    visible = answers.evaluated & ~answers.gt_occluded
    hidden = answers.evaluated & answers.gt_occluded & inside
    return ErrorSummary.of(distance[visible]), ErrorSummary.of(distance[hidden])


def temporal_coherence(answers: TrackPredictions) -> float:
    """The paper's TC: mean ‖a_pred − a_true‖₂ with acceleration a_t = x_{t+1} − 2·x_t + x_{t−1}; low is good.

    Over the triples t−1, t, t+1 that are visible in the truth at all three; each frame is evaluated or the query's.
    In pixels of the 256x256 raster: the paper names no unit, and this is the one of its other figures.
    """
    # Acceleration is linear: the difference of the two is that of the error.
    difference = np.diff(answers.raster_error, n=2, axis=1)
    seen = ~answers.gt_occluded & (answers.evaluated | (answers.gaps == 0))
    triples = seen[:, :-2] & seen[:, 1:-1] & seen[:, 2:]
    lengths = np.linalg.norm(difference, axis=-1)[triples]
    return float(lengths.mean()) if lengths.size else float("nan")
