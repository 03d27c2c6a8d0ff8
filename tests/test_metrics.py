"""Every metric against a second implementation with plain loops, and on cases worked out by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from evaluation.metrics import badja_metrics, occlusion_metrics, position_errors, tap_vid_metrics, temporal_coherence
from evaluation.options import QueryMode
from evaluation.queries import TrackPredictions
from tests.random_predictions import is_evaluated, random_predictions


def looped_tap_vid_metrics(predictions: TrackPredictions, where: np.ndarray) -> tuple[float, float, float]:
    """Count one entry at a time; return (aj, d_avg, oa)."""
    height, width = predictions.size
    jaccards, within = [], []
    right = total = 0
    for threshold in (1, 2, 4, 8, 16):
        tp = fp = positives = correct = 0
        for n in range(len(predictions.gt_tracks)):
            for t in range(predictions.gt_tracks.shape[1]):
                if not is_evaluated(predictions, n, t) or not where[n, t]:
                    continue
                dx = (predictions.pred_tracks[n, t, 0] - predictions.gt_tracks[n, t, 0]) * 256 / width
                dy = (predictions.pred_tracks[n, t, 1] - predictions.gt_tracks[n, t, 1]) * 256 / height
                near = math.hypot(dx, dy) < threshold
                if threshold == 1:
                    total += 1
                    right += predictions.pred_occluded[n, t] == predictions.gt_occluded[n, t]
                if not predictions.gt_occluded[n, t]:
                    positives += 1
                    correct += near
                if not predictions.pred_occluded[n, t]:
                    if near and not predictions.gt_occluded[n, t]:
                        tp += 1
                    else:
                        fp += 1
        jaccards.append(tp / (positives + fp))
        within.append(correct / positives)
    return sum(jaccards) / 5, sum(within) / 5, right / total


@pytest.mark.parametrize("mode", ["first", "strided"])
@pytest.mark.parametrize("seed", range(4))
def test_tap_vid_metrics_agree_with_plain_loops(mode: QueryMode, seed: int):
    predictions = random_predictions(seed, mode)
    some = np.abs(predictions.frame_gaps) <= 5
    for where, mask in ((None, np.ones_like(some)), (some, some)):
        scores = tap_vid_metrics(predictions, where)
        np.testing.assert_allclose(
            (scores.aj, scores.d_avg, scores.oa), looped_tap_vid_metrics(predictions, mask), rtol=1e-12
        )


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_a_perfect_prediction_scores_one(mode: QueryMode):
    predictions = random_predictions(9, mode)
    perfect = replace(predictions, pred_tracks=predictions.gt_tracks, pred_occluded=predictions.gt_occluded)
    scores = tap_vid_metrics(perfect)
    assert (scores.aj, scores.d_avg, scores.oa) == (1, 1, 1)
    assert scores.pts_within == {1: 1, 2: 1, 4: 1, 8: 1, 16: 1}


def test_tap_vid_scores_of_one_point_by_hand():
    """Frame 1: visible, off by 3. Frame 2: visible, exact, predicted occluded. Frame 3: occluded, predicted visible.

    So within 1 and 2: one of two; above: both. TP 0 or 1, FP 2 or 1, visible 2.
    """
    gt, pred = np.full((1, 4, 2), 50.0), np.full((1, 4, 2), 50.0)
    pred[0, 1, 0] += 3
    gt_occluded = np.array([[False, False, False, True]])
    pred_occluded = np.array([[False, False, True, False]])
    scores = tap_vid_metrics(TrackPredictions(pred, pred_occluded, gt, gt_occluded, np.array([0]), (256, 256), "first"))
    assert scores.pts_within == {1: 0.5, 2: 0.5, 4: 1, 8: 1, 16: 1}
    assert scores.d_avg == pytest.approx(0.8)
    assert scores.aj == pytest.approx((0 / 4 + 0 / 4 + 3 * (1 / 3)) / 5)
    assert scores.oa == pytest.approx(1 / 3)


def test_a_wrong_position_costs_twice_a_wrong_flag_once():
    """Of two visible entries one is right. The other far off: 1 / (2 visible + 1 false positive).

    The other predicted occluded: 1 / 2. Both kinds of error lower the Jaccard, and differently.
    """
    gt, none_occluded = np.full((1, 3, 2), 50.0), np.zeros((1, 3), bool)
    far, occluded = gt.copy(), none_occluded.copy()
    far[0, 2] = 0
    occluded[0, 2] = True
    rest = (gt, none_occluded, np.array([0]), (256, 256))
    assert tap_vid_metrics(TrackPredictions(far, none_occluded, *rest)).aj == pytest.approx(1 / 3)
    assert tap_vid_metrics(TrackPredictions(gt, occluded, *rest)).aj == pytest.approx(1 / 2)


def test_tap_vid_thresholds_are_strict_and_scaled_by_side():
    """Half a pixel of a 128 wide video is exactly 1 of the raster; vertically, 256 high, it is a half."""
    gt, occluded = np.zeros((1, 2, 2)), np.zeros((1, 2), bool)
    for offset, expected in (((0.5, 0), 0), ((0.499, 0), 1), ((0, 0.5), 1), ((0, 1), 0)):
        scores = tap_vid_metrics(TrackPredictions(gt + offset, occluded, gt, occluded, np.array([0]), (256, 128)))
        assert scores.pts_within[1] == expected


def test_query_modes_choose_the_frames():
    """An error before the query counts in strided mode only; an error at the query never does."""
    gt, occluded = np.zeros((1, 5, 2)), np.zeros((1, 5), bool)
    pred = gt.copy()
    pred[0, [0, 2]] = 100
    predictions = TrackPredictions(pred, occluded, gt, occluded, np.array([2]), (256, 256))
    assert tap_vid_metrics(replace(predictions, query_mode="first")).d_avg == 1
    assert tap_vid_metrics(predictions).d_avg == 0.75


@pytest.mark.parametrize("frames", [1, 3])
def test_without_visible_entries_or_other_frames_scores_are_nan(frames: int):
    gt, occluded = np.zeros((1, frames, 2)), np.ones((1, frames), bool)
    scores = tap_vid_metrics(TrackPredictions(gt, occluded, gt, occluded, np.array([0]), (10, 10)))
    assert math.isnan(scores.aj) and math.isnan(scores.d_avg)
    assert scores.oa == 1 if frames > 1 else math.isnan(scores.oa)


@pytest.mark.parametrize("mode", ["first", "strided"])
@pytest.mark.parametrize("seed", range(3))
def test_occlusion_metrics_agree_with_plain_loops(mode: QueryMode, seed: int):
    predictions = random_predictions(seed, mode)
    some = np.abs(predictions.frame_gaps) <= 5
    for where, mask in ((None, np.ones_like(some)), (some, some)):
        found = {False: [0, 0], True: [0, 0]}  # occluded → predicted occluded, all
        for n, t in np.ndindex(predictions.gt_occluded.shape):
            if is_evaluated(predictions, n, t) and mask[n, t]:
                counts = found[bool(predictions.gt_occluded[n, t])]
                counts[0] += bool(predictions.pred_occluded[n, t])
                counts[1] += 1
        scores = occlusion_metrics(predictions, where)
        assert scores.visible_lost == pytest.approx(found[False][0] / found[False][1])
        assert scores.occluded_found == pytest.approx(found[True][0] / found[True][1])


def test_occlusion_by_hand():
    """After the query three entries are visible, of which one is lost, and two occluded, of which one is found."""
    gt_occluded = np.array([[False, False, False, False, True, True]])
    pred_occluded = np.array([[True, False, False, True, True, False]])  # the query's own entry does not count
    gt = np.zeros((1, 6, 2))
    predictions = TrackPredictions(gt, pred_occluded, gt, gt_occluded, np.array([0]), (9, 9))
    scores = occlusion_metrics(predictions)
    assert scores.occluded_found == 0.5 and scores.visible_lost == pytest.approx(1 / 3)
    assert math.isnan(occlusion_metrics(predictions, gt_occluded).visible_lost)
    assert math.isnan(occlusion_metrics(predictions, ~gt_occluded).occluded_found)


def percentile(values: list[float], fraction: float) -> float:
    """Interpolate between the two nearest ranks, 0 being the smallest value's."""
    values = sorted(values)
    rank = fraction * (len(values) - 1)
    low = math.floor(rank)
    return values[low] + (rank - low) * (values[min(low + 1, len(values) - 1)] - values[low])


@pytest.mark.parametrize("mode", ["first", "strided"])
@pytest.mark.parametrize("seed", range(3))
def test_position_errors_agree_with_plain_loops(mode: QueryMode, seed: int):
    predictions = random_predictions(seed, mode)
    height, width = predictions.size
    visible, occluded = [], []
    for n, t in np.ndindex(predictions.gt_occluded.shape):
        if is_evaluated(predictions, n, t):
            x, y = predictions.gt_tracks[n, t]
            error = math.dist(predictions.pred_tracks[n, t], (x, y))
            if not predictions.gt_occluded[n, t]:
                visible.append(error)
            elif 0 <= x <= width - 1 and 0 <= y <= height - 1:
                occluded.append(error)
    for summary, errors in zip(position_errors(predictions), (visible, occluded), strict=True):
        assert summary.p50 == pytest.approx(percentile(errors, 0.5))
        assert summary.p90 == pytest.approx(percentile(errors, 0.9))


def test_position_errors_by_hand():
    """Errors are 1, 2, 3 where visible, 7 where occluded; where occluded outside the image they do not count."""
    gt = np.full((1, 6, 2), 20.0)
    gt_occluded = np.array([[False, False, False, False, True, True]])
    gt[0, 5] = -30
    pred = gt.copy()
    pred[0, :, 0] += [0, 1, 2, 3, 7, 500]
    visible, occluded = position_errors(TrackPredictions(pred, gt_occluded, gt, gt_occluded, np.array([0]), (256, 256)))
    assert (visible.p50, occluded.p50, occluded.p90) == (2, 7, 7)
    assert visible.p90 == pytest.approx(2.8)


@pytest.mark.parametrize("mode", ["first", "strided"])
@pytest.mark.parametrize("seed", range(3))
def test_temporal_coherence_agrees_with_plain_loops(mode: QueryMode, seed: int):
    predictions = random_predictions(seed, mode)
    scale = [256 / predictions.size[1], 256 / predictions.size[0]]
    lengths = []
    for n in range(len(predictions.gt_tracks)):
        for t in range(1, predictions.gt_tracks.shape[1] - 1):
            triple = (t - 1, t, t + 1)
            if any(predictions.gt_occluded[n, k] for k in triple):
                continue
            if not all(is_evaluated(predictions, n, k) or k == predictions.query_frames[n] for k in triple):
                continue
            difference = []
            for axis in (0, 1):
                pred, true = (
                    tracks[n, :, axis] * scale[axis] for tracks in (predictions.pred_tracks, predictions.gt_tracks)
                )
                flows = [(track[t] - track[t - 1], track[t + 1] - track[t]) for track in (pred, true)]
                difference.append((flows[0][1] - flows[0][0]) - (flows[1][1] - flows[1][0]))
            lengths.append(math.hypot(*difference))
    assert temporal_coherence(predictions) == pytest.approx(sum(lengths) / len(lengths))


def straight_line(offsets: Sequence[tuple[float, float]], occluded: list[bool]) -> TrackPredictions:
    """Return predictions with offsets of a point that moves evenly; 256x256, query at 0."""
    gt = np.arange(len(offsets))[None, :, None] * np.array([2.0, 1.0])
    gt_occluded = np.array([occluded])
    return TrackPredictions(gt + np.array(offsets), gt_occluded, gt, gt_occluded, np.array([0]), (256, 256))


def test_a_constant_offset_or_speed_is_coherent_and_one_jump_is_not():
    visible = [False] * 5
    assert temporal_coherence(straight_line([(9, 9)] * 5, visible)) == pytest.approx(0)
    assert temporal_coherence(straight_line([(3 * t, 0) for t in range(5)], visible)) == pytest.approx(0)
    # Frame 2 is off by (3, 4): accelerations differ by 5, 10 and 5.
    jump = [(0, 0), (0, 0), (3, 4), (0, 0), (0, 0)]
    assert temporal_coherence(straight_line(jump, visible)) == pytest.approx(20 / 3)
    occluded_then = [False, False, True, False, False]
    assert temporal_coherence(straight_line(jump, occluded_then)) != temporal_coherence(straight_line(jump, visible))


def test_without_entries_errors_and_coherence_are_nan():
    assert math.isnan(temporal_coherence(straight_line([(0, 0)] * 5, [False, False, True, False, False])))
    for frames in (1, 2):
        assert math.isnan(temporal_coherence(straight_line([(0, 0)] * frames, [False] * frames)))
    visible, occluded = position_errors(straight_line([(0, 0)], [False]))
    assert math.isnan(visible.p50) and math.isnan(occluded.p90)


def looped_badja_metrics(pred, gt, visible, areas) -> tuple[float, float]:
    """Count one label at a time."""
    total = in_area = near = 0
    for k in range(len(gt)):
        if not visible[k][0]:
            continue
        for f in range(1, len(areas)):
            if visible[k][f]:
                error = math.dist(pred[k][f], gt[k][f])
                total += 1
                in_area += error < 0.2 * math.sqrt(areas[f])
                near += error < 3
    return in_area / total, near / total


@pytest.mark.parametrize("seed", range(4))
def test_badja_metrics_agree_with_plain_loops(seed: int):
    rng = np.random.default_rng(seed)
    gt, visible, areas = rng.uniform(0, 100, (9, 5, 2)), rng.random((9, 5)) < 0.7, rng.uniform(100, 3000, 5)
    pred = gt + rng.normal(size=gt.shape) * rng.choice([1, 5, 20], (9, 5, 1))
    before = visible.copy()
    metrics = badja_metrics(pred, gt, visible, areas)
    np.testing.assert_allclose(
        (metrics.within_area, metrics.within_3px), looped_badja_metrics(pred, gt, visible, areas)
    )
    assert np.array_equal(visible, before)


def test_badja_metrics_by_hand():
    """Area 400 allows less than 4 px, 100 less than 2. Keypoint 0 is queried, 1 is occluded in the first frame."""
    gt = np.zeros((2, 4, 2))
    pred = gt.copy()
    pred[0, :, 0] = [50, 3.5, 1.9, 4]  # the first frame is not scored
    pred[1] = 99
    visible = np.array([[True, True, True, True], [False, True, True, True]])
    metrics = badja_metrics(pred, gt, visible, np.array([1, 400, 100, 400]))
    assert metrics.within_area == pytest.approx(2 / 3)  # 4 is not below 4
    assert metrics.within_3px == pytest.approx(1 / 3)


def test_without_labels_badja_metrics_are_nan():
    gt = np.zeros((2, 3, 2))
    for visible in (np.zeros((2, 3), bool), np.array([[True, False, False], [False, True, True]])):
        metrics = badja_metrics(gt, gt, visible, np.ones(3))
        assert math.isnan(metrics.within_area) and math.isnan(metrics.within_3px)
    one_frame = badja_metrics(gt[:, :1], gt[:, :1], np.ones((2, 1), bool), np.ones(1))
    assert math.isnan(one_frame.within_area)
