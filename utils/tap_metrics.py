"""TAP-Vid's scores of point tracks (Doersch et al. 2022), in 0..1.

Positions are compared on the 256x256 raster (`utils.conventions`). A score over no entries at all is NaN.
"""

from dataclasses import dataclass

import numpy as np

from utils.queries import Answers

THRESHOLDS = (1, 2, 4, 8, 16)  # pixels of the raster


@dataclass(frozen=True)
class TapMetrics:
    """Average Jaccard, <δ_avg, occlusion accuracy, and <δ for each threshold."""

    aj: float
    d_avg: float
    oa: float
    pts_within: dict[int, float]


def tap_vid_metrics(answers: Answers, where: np.ndarray | None = None) -> TapMetrics:
    """TAP-Vid's scores, all points of the clip pooled; only entries `where` (bool [Q,T]) if given.

    A position is within a threshold if strictly nearer. A threshold's Jaccard is TP / (visible + FP): TP = visible,
    predicted visible, within; FP = predicted visible, hidden or too far. Predictions are scored as given:
    `queries.ask` is where predictions outside the image become occluded.
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
