"""Random answers of a tracker, for the tests of every score."""

import numpy as np

from evaluation.queries import QueryMode, TrackPredictions


def random_answers(
    seed: int, query_mode: QueryMode = "strided", n: int = 7, t: int = 12, size: tuple[int, int] = (90, 140)
) -> TrackPredictions:
    """Predictions a few pixels off, some far off, with occlusion wrong in about a quarter of the entries."""
    rng = np.random.default_rng(seed)
    gt = rng.uniform(-5, 1.05 * np.array(size[::-1]), (n, t, 2))
    pred = gt + rng.normal(size=(n, t, 2)) * rng.choice([0.3, 2, 8], (n, t, 1))
    gt_occluded = rng.random((n, t)) < 0.3
    pred_occluded = gt_occluded ^ (rng.random((n, t)) < 0.25)
    return TrackPredictions(pred, pred_occluded, gt, gt_occluded, rng.integers(0, t - 1, n), size, query_mode)


def counts(answers: TrackPredictions, n: int, t: int) -> bool:
    """Whether an entry is evaluated, said anew: never at the query, in `first` mode only after it."""
    return t > answers.query_frames[n] if answers.query_mode == "first" else t != answers.query_frames[n]
