"""Scores of a tracker: queries of keypoints, frame gaps, groups, means over videos, the picture of errors."""

import math

import numpy as np
import pytest

from evaluation.error_figure import error_figure
from evaluation.ground_truth import KeypointTruth, TrackTruth
from evaluation.metrics import tap_vid_metrics
from evaluation.queries import TrackPredictions
from evaluation.query_groups import query_groups
from evaluation.report import mean_rows
from evaluation.scoring import Scores, model_tracker, score, score_groups
from loaders.clip_masks import ClipMasks, MaskOptions, find_masks
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.tracks import TrackingOptions
from preprocessing.sequence_paths import SequencePaths
from tests.random_predictions import random_predictions
from utils.images import write_image


def test_a_clip_without_a_visible_query_is_scored_as_unknown():
    """Strided queries lie in every fifth frame; the only point is visible in the frame between."""
    truth = TrackTruth(np.full((1, 3, 2), 10.0), np.array([[True, False, True]]), (40, 50), exact=False)
    model = OmniMotion.initialised(ModelConfig(3, 40, 50, coupling_width=4, volume_width=4), seed=0)
    assert math.isnan(score(model_tracker(model, TrackingOptions()), truth).row["AJ"])


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


def standing_still(points: np.ndarray, frames: np.ndarray, size: tuple[int, int]) -> TrackPredictions:
    """Return exact predictions of visible points [Q,2] that stand still, queried in `frames` [Q], in 11 frames."""
    tracks, visible = np.repeat(points[:, None], 11, 1), np.zeros((len(points), 11), bool)
    return TrackPredictions(tracks.copy(), visible.copy(), tracks, visible, frames, size)


def test_queries_are_grouped_by_the_masks_of_their_frames(tmp_path):
    """The foreground is 1, 4 and 20 % of frames 0, 5 and 10, which are queried on it and beside it."""
    paths, names = SequencePaths(tmp_path), [f"{t}.png" for t in range(11)]
    for t, columns in ((0, 1), (5, 4), (10, 20)):
        mask = np.zeros((10, 100), np.uint8)
        mask[:, :columns] = 255
        write_image(paths.mask / names[t], mask)
    for name in names:
        write_image(paths.color / name, np.zeros((10, 100, 3), np.uint8))
    masks = find_masks(paths, MaskOptions())
    points = np.array([[0.4, 3], [0.6, 3], [3, 9], [4, 9], [19, 0], [99.4, 9.4], [0, 0]])
    predictions = standing_still(points, np.array([0, 0, 5, 5, 10, 10, 10]), (10, 100))
    groups = query_groups(paths, names, masks, predictions, uses_flow=False)
    assert {name: np.flatnonzero(chosen).tolist() for name, chosen in groups.items()} == {
        "foreground": [0, 2, 4, 6],
        "background": [1, 3, 5],
        "foreground < 3%": [0],
        "foreground 3% to 10%": [2],
        "foreground > 10%": [4, 6],
    }
    last = standing_still(points[4:], np.full(3, 10), (10, 100))
    assert list(query_groups(paths, names, masks, last, uses_flow=False)) == [
        "foreground",
        "background",
        "foreground > 10%",
    ]
    (paths.mask / names[5]).unlink()
    masks = find_masks(paths, MaskOptions())
    assert query_groups(paths, names, masks, predictions, uses_flow=False) == {}


def test_without_masks_queries_are_grouped_by_motion(tmp_path, monkeypatch):
    """A prior of far, static points on the left, near and moving ones on the right, and one column that is unknown."""
    depth = np.full((11, 10, 100), 1.5, np.float32)
    depth[:, :, 50:] = 0.5
    depth[5, :, 70] = np.nan
    monkeypatch.setattr("evaluation.query_groups.FlowStore", lambda paths, names, prefer_chained: names)
    monkeypatch.setattr("evaluation.query_groups.estimate_depth_prior", lambda store: depth)
    points = np.array([[49.4, 3], [49.6, 3], [70, 9], [70, 9]])
    names, no_masks = [f"{t}.png" for t in range(11)], ClipMasks({}, tmp_path)
    predictions = standing_still(points, np.array([0, 0, 5, 10]), (10, 100))
    groups = query_groups(SequencePaths(tmp_path), names, no_masks, predictions, uses_flow=True)
    assert {name: np.flatnonzero(chosen).tolist() for name, chosen in groups.items()} == {
        "moving": [1, 3],
        "static": [0, 2],
    }


@pytest.mark.parametrize("exact", [True, False])
def test_groups_are_scored_apart(exact):
    """The first query is exact, the second always lost: together they would score in between."""
    predictions = standing_still(np.full((2, 2), 3.0), np.array([0, 5]), (10, 100))
    predictions.pred_tracks[1] += 50
    predictions.pred_occluded[1] = True
    first, second = np.array([True, False]), np.array([False, True])
    rows = score_groups(predictions, {"a": first, "b": second, "all": first | second}, exact)
    assert [rows[name]["<d_avg"] for name in rows] == [1, 0, 0.5]
    assert [rows[name]["queries"] for name in rows] == [1, 1, 2]
    assert exact or [rows[name]["visible lost"] for name in rows] == [0, 1, 0.5]
    assert ("occl. found" in rows["a"]) is not exact


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
