"""Scores of a tracker: queries of keypoints, frame gaps, means over videos, the picture of errors."""

import math

import numpy as np
import pytest

from evaluation.error_figure import error_figure
from evaluation.ground_truth import KeypointTruth, TrackTruth
from evaluation.metrics import tap_vid_metrics
from evaluation.report import mean_rows
from evaluation.scoring import Scores, score
from tests.random_predictions import random_predictions


def test_keypoints_are_queried_in_the_first_annotated_frame():
    """Frames 1, 3 and 4 are annotated; the second keypoint is not visible in frame 1 and not queried."""
    points, visible = np.full((2, 3, 2), 20.0), np.array([[True, True, True], [False, True, True]])
    truth = KeypointTruth(points, visible, np.array([1, 3, 4]), np.full(3, 400.0), num_frames=6, size=(40, 50))

    def tracker(errors: tuple[float, float]):
        def track(queries):
            assert queries.tolist() == [[1, 20, 20]]
            tracks = np.full((1, 6, 2), 1e3)
            tracks[0, [1, 3, 4]] = 20
            tracks[0, [3, 4], 0] += errors
            return tracks, np.zeros((1, 6), bool)

        return track

    for errors, within_area, within_3px in (((0, 0), 1, 1), ((2.9, 3.1), 1, 0.5), ((3.9, 4.1), 0.5, 0)):
        row = score(tracker(errors), truth).row  # 0.2 * sqrt(400) = 4 px
        assert row == pytest.approx({"0.2 area": within_area, "3 px": within_3px})


def test_frame_gaps_partition_the_entries():
    """The mean of the parts' scores, weighted by their entries, is that of the whole: shown for occlusion accuracy."""
    truth = random_predictions(1, n=20, t=40)

    def track(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(len(queries))
        return rng.uniform(0, 80, (len(queries), 40, 2)), rng.random((len(queries), 40)) < 0.5

    scores = score(track, TrackTruth(truth.gt_tracks, truth.gt_occluded, truth.size, exact=False))
    assert scores.predictions is not None
    distance = np.abs(scores.predictions.frame_gaps)
    assert list(scores.by_gap) == ["gap 1-2", "gap 3-4", "gap 5-8", "gap 9-16", "gap 17-32", "gap 33-39"]
    total = 0.0
    for name, row in scores.by_gap.items():
        low, high = map(int, name.removeprefix("gap ").split("-"))
        inside = (distance >= low) & (distance <= high)
        assert row["OA"] == tap_vid_metrics(scores.predictions, inside).oa
        total += row["OA"] * inside.sum()
    assert total / (distance > 0).sum() == pytest.approx(scores.row["OA"])


def test_the_mean_leaves_out_missing_metrics():
    results = {
        "a": {"flow": Scores({"AJ": 0.2, "TC": math.nan})},
        "b": {"flow": Scores({"AJ": 0.4, "TC": 3.0}), "model": Scores({"AJ": math.nan, "TC": math.nan})},
    }
    means = mean_rows(results)
    assert means["flow"] == pytest.approx({"AJ": 0.3, "TC": 3.0}) and math.isnan(means["model"]["AJ"])


def test_errors_are_drawn_for_any_predictions():
    """With a mask and without, and without a single query."""
    video = np.zeros((12, 90, 140, 3), np.uint8)
    predictions = random_predictions(0)
    on_foreground = np.arange(7) % 2 == 0
    compared = {"flow": predictions, "model": predictions}
    with_mask, without = (error_figure(video, compared, mask) for mask in (on_foreground, None))
    assert with_mask.shape == without.shape and not np.array_equal(with_mask, without)
    nothing = random_predictions(0, n=0)
    assert error_figure(video, {"model": nothing}, None).dtype == np.uint8
