"""BADJA (Biggs et al. 2018): how many keypoints of animals are found again."""

from dataclasses import dataclass

import numpy as np

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
