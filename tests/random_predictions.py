"""Random predictions of a tracker, for the tests of every metric."""

import numpy as np

from evaluation.options import QueryMode
from evaluation.queries import TrackPredictions


def random_predictions(
    seed: int, query_mode: QueryMode = "strided", n: int = 7, t: int = 12, size: tuple[int, int] = (90, 140)
) -> TrackPredictions:
    """Return predictions a few pixels off, some far off, with wrong occlusion in about a quarter of the entries."""
    rng = np.random.default_rng(seed)
    gt = rng.uniform(-5, 1.05 * np.array(size[::-1]), (n, t, 2))
    pred = gt + rng.normal(size=(n, t, 2)) * rng.choice([0.3, 2, 8], (n, t, 1))
    gt_occluded = rng.random((n, t)) < 0.3
    pred_occluded = gt_occluded ^ (rng.random((n, t)) < 0.25)
    return TrackPredictions(pred, pred_occluded, gt, gt_occluded, rng.integers(0, t - 1, n), size, query_mode)


def is_evaluated(predictions: TrackPredictions, n: int, t: int) -> bool:
    """Return whether an entry is evaluated, restated: never at the query, in `first` mode only after it."""
    return t > predictions.query_frames[n] if predictions.query_mode == "first" else t != predictions.query_frames[n]
