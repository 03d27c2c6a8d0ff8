"""TAP-Vid's queries, and the predictions that a tracker makes for them."""

import numpy as np
import pytest

from evaluation.metrics import tap_vid_metrics
from evaluation.options import QueryMode
from evaluation.queries import TrackPredictions, is_outside_image, queries_first, queries_strided, run_tracker
from tests.random_predictions import random_predictions


def test_queries():
    occluded = np.ones((3, 11), bool)
    occluded[0, [3, 4, 10]] = False
    occluded[2, [0, 5, 10]] = False
    ids, frames = queries_first(occluded)
    assert ids.tolist() == [0, 2] and frames.tolist() == [3, 0]
    ids, frames = queries_strided(occluded)
    assert list(zip(ids.tolist(), frames.tolist(), strict=True)) == [(2, 0), (2, 5), (0, 10), (2, 10)]


def test_outside_is_beyond_the_border_pixels_centres():
    px = np.array([[0, 0], [9, 4], [9.1, 4], [3, -0.1], [np.nan, 1]])
    assert is_outside_image(px, (5, 10)).tolist() == [False, False, True, True, True]


def perfect_tracker(points: np.ndarray, occluded: np.ndarray):
    """Return a tracker that looks the truth up by the query's position."""

    def track(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert queries.dtype == np.float32
        frames = queries[:, 0].astype(int)
        ids = [int(np.abs(points[:, t] - q).sum(-1).argmin()) for t, q in zip(frames, queries[:, 1:], strict=True)]
        return points[ids], occluded[ids]

    return track


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_trackers_are_queried_at_the_true_positions(mode: QueryMode):
    truth = random_predictions(3)
    points, occluded = truth.gt_tracks, truth.gt_occluded | is_outside_image(truth.gt_tracks, truth.size)
    predictions = run_tracker(perfect_tracker(points, occluded), points, occluded, truth.size, mode)
    scores = tap_vid_metrics(predictions)
    assert (scores.aj, scores.d_avg, scores.oa) == (1, 1, 1)
    expected = queries_first(occluded) if mode == "first" else queries_strided(occluded)
    assert predictions.query_frames.tolist() == expected[1].tolist()


def test_predictions_outside_the_image_count_as_occluded():
    points = np.full((1, 6, 2), 5.0)
    points[0, 3:] = -5
    occluded = is_outside_image(points, (10, 10))

    def always_visible(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(points, len(queries), 0), np.zeros((len(queries), 6), bool)

    assert tap_vid_metrics(run_tracker(always_visible, points, occluded, (10, 10))).oa == 1


def test_shapes_and_modes_are_checked():
    gt, occluded, queries = np.zeros((3, 4, 2)), np.zeros((3, 4), bool), np.zeros(3, int)
    with pytest.raises(ValueError, match="expected"):
        TrackPredictions(gt.swapaxes(0, 1), occluded, gt, occluded, queries, (10, 10))
    with pytest.raises(ValueError, match="expected 'first' or 'strided'"):
        TrackPredictions(gt, occluded, gt, occluded, queries, (10, 10), "last")  # type: ignore[arg-type]  # what is refused
