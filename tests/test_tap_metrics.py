"""TAP-Vid's scores against hand-computed cases and a second implementation with plain loops."""

import math

import numpy as np
import pytest

from utils.tap_metrics import (
    evaluate_tracker,
    format_table,
    outside_image,
    position_errors,
    queries_first,
    queries_strided,
    summarize_tracker,
    tap_vid_metrics,
    to_raster,
)


def random_case(seed: int, n: int = 7, t: int = 12, height: int = 90, width: int = 140):
    """Predictions a few pixels off, some far off, with occlusion wrong in about a quarter of the entries."""
    rng = np.random.default_rng(seed)
    gt = rng.uniform(-5, 1.05 * np.array([width, height]), (n, t, 2))
    pred = gt + rng.normal(size=(n, t, 2)) * rng.choice([0.3, 2, 8], (n, t, 1))
    gt_occluded = rng.random((n, t)) < 0.3
    pred_occluded = gt_occluded ^ (rng.random((n, t)) < 0.25)
    return pred, pred_occluded, gt, gt_occluded, rng.integers(0, t - 1, n), height, width


def looped_metrics(pred, pred_occluded, gt, gt_occluded, queries, height, width, mode):
    """Counts one entry at a time; returns (aj, d_avg, oa)."""
    jaccards, within = [], []
    right = total = 0
    for threshold in (1, 2, 4, 8, 16):
        tp = fp = positives = correct = 0
        for n in range(len(gt)):
            for t in range(gt.shape[1]):
                if t == queries[n] or (mode == "first" and t < queries[n]):
                    continue
                dx = (pred[n, t, 0] - gt[n, t, 0]) * 256 / width
                dy = (pred[n, t, 1] - gt[n, t, 1]) * 256 / height
                near = math.hypot(dx, dy) < threshold
                if threshold == 1:
                    total += 1
                    right += pred_occluded[n, t] == gt_occluded[n, t]
                if not gt_occluded[n, t]:
                    positives += 1
                    correct += near
                if not pred_occluded[n, t]:
                    if near and not gt_occluded[n, t]:
                        tp += 1
                    else:
                        fp += 1
        jaccards.append(tp / (positives + fp))
        within.append(correct / positives)
    return sum(jaccards) / 5, sum(within) / 5, right / total


@pytest.mark.parametrize("mode", ["first", "strided"])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_plain_loops(mode: str, seed: int):
    case = random_case(seed)
    scores = tap_vid_metrics(*case, query_mode=mode)
    np.testing.assert_allclose((scores.aj, scores.d_avg, scores.oa), looped_metrics(*case, mode), rtol=1e-12)


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_perfect_prediction_scores_one(mode: str):
    _, _, gt, occluded, queries, height, width = random_case(9)
    scores = tap_vid_metrics(gt, occluded, gt, occluded, queries, height, width, mode)
    assert (scores.aj, scores.d_avg, scores.oa) == (1, 1, 1)
    assert scores.pts_within == {1: 1, 2: 1, 4: 1, 8: 1, 16: 1}


def test_one_point_by_hand():
    """256x256, query at 0. Frame 1: visible, off by 3. Frame 2: visible, exact, said hidden. Frame 3: hidden,
    said visible. So within 1 and 2: one of two; above: both. TP 0 or 1, FP 2 or 1, visible 2."""
    gt, pred = np.full((1, 4, 2), 50.0), np.full((1, 4, 2), 50.0)
    pred[0, 1, 0] += 3
    gt_occluded = np.array([[False, False, False, True]])
    pred_occluded = np.array([[False, False, True, False]])
    scores = tap_vid_metrics(pred, pred_occluded, gt, gt_occluded, np.array([0]), 256, 256)
    assert scores.pts_within == {1: 0.5, 2: 0.5, 4: 1, 8: 1, 16: 1}
    assert scores.d_avg == pytest.approx(0.8)
    assert scores.aj == pytest.approx((0 / 4 + 0 / 4 + 3 * (1 / 3)) / 5)
    assert scores.oa == pytest.approx(1 / 3)


def test_thresholds_are_strict_and_scaled_by_side():
    """Half a pixel of a 128 wide video is exactly 1 of the raster; vertically, 256 high, it is a half."""
    gt, occluded = np.zeros((1, 2, 2)), np.zeros((1, 2), bool)
    for offset, expected in (((0.5, 0), 0), ((0.499, 0), 1), ((0, 0.5), 1), ((0, 1), 0)):
        scores = tap_vid_metrics(gt + offset, occluded, gt, occluded, np.array([0]), 256, 128)
        assert scores.pts_within[1] == expected


def test_modes_choose_frames():
    """An error before the query counts in strided mode only; an error at the query never does."""
    gt, occluded = np.zeros((1, 5, 2)), np.zeros((1, 5), bool)
    pred = gt.copy()
    pred[0, [0, 2]] = 100
    arguments = (pred, occluded, gt, occluded, np.array([2]), 256, 256)
    assert tap_vid_metrics(*arguments, query_mode="first").d_avg == 1
    assert tap_vid_metrics(*arguments, query_mode="strided").d_avg == 0.75
    with pytest.raises(ValueError, match="expected 'first' or 'strided'"):
        tap_vid_metrics(*arguments, query_mode="last")


def test_raster_corners():
    corners = to_raster(np.array([[-0.5, -0.5], [159.5, 95.5]]), 96, 160)
    np.testing.assert_allclose(corners, [[0, 0], [256, 256]])


def test_nothing_to_score_is_nan():
    gt = np.zeros((1, 3, 2))
    hidden = np.ones((1, 3), bool)
    scores = tap_vid_metrics(gt, hidden, gt, hidden, np.array([0]), 10, 10)
    assert math.isnan(scores.aj) and math.isnan(scores.d_avg) and scores.oa == 1
    assert math.isnan(position_errors(gt, gt, hidden, np.array([0]), 10, 10).visible_median)


def test_shapes_are_checked():
    gt, occluded = np.zeros((3, 4, 2)), np.zeros((3, 4), bool)
    with pytest.raises(ValueError, match="expected"):
        tap_vid_metrics(gt.swapaxes(0, 1), occluded, gt, occluded, np.zeros(3, int), 10, 10)


def test_queries():
    occluded = np.ones((3, 11), bool)
    occluded[0, [3, 4, 10]] = False
    occluded[2, [0, 5, 10]] = False
    ids, frames = queries_first(occluded)
    assert ids.tolist() == [0, 2] and frames.tolist() == [3, 0]
    ids, frames = queries_strided(occluded)
    assert list(zip(ids.tolist(), frames.tolist(), strict=True)) == [(2, 0), (2, 5), (0, 10), (2, 10)]


def test_position_errors_by_hand():
    """One point, query at 0, 12 frames: visible entries off by 1 px, by 100 px beyond gap 8; frame 3 hidden,
    off by 7 px; frame 4 hidden and outside the image, which no error counts."""
    gt = np.full((1, 12, 2), 20.0)
    occluded = np.zeros((1, 12), bool)
    occluded[0, [3, 4]] = True
    gt[0, 4] = -30
    pred = gt + np.array([1.0, 0.0])
    pred[0, 3, 0] = 27
    pred[0, 4, 0] = 500
    pred[0, 9:, 0] = 120
    errors = position_errors(pred, gt, occluded, np.array([0]), 256, 256)
    assert errors.visible_median == 1
    assert errors.visible_mean == pytest.approx((6 * 1 + 3 * 100) / 9)
    assert (errors.occluded_median, errors.occluded_mean) == (7, 7)
    assert errors.d_avg_far == 0
    wider = position_errors(pred, gt, occluded, np.array([0]), 256, 256, min_gap=7)
    assert wider.d_avg_far == pytest.approx((0 + 4 * 0.25) / 5)  # frame 8 is off by 1: not within 1


def test_outside_is_where_no_pixel_centre_reaches():
    px = np.array([[0, 0], [9, 4], [9.1, 4], [3, -0.1], [np.nan, 1]])
    assert outside_image(px, 5, 10).tolist() == [False, False, True, True, True]


def perfect_tracker(points: np.ndarray, occluded: np.ndarray):
    """A tracker that knows the truth, found again from the query's position."""

    def track(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert queries.dtype == np.float32
        frames = queries[:, 0].astype(int)
        ids = [int(np.abs(points[:, t] - q).sum(-1).argmin()) for t, q in zip(frames, queries[:, 1:], strict=True)]
        return points[ids], occluded[ids]

    return track


def test_evaluate_tracker_asks_strided_queries():
    _, _, points, occluded, _, height, width = random_case(3)
    occluded = occluded | outside_image(points, height, width)
    scores = evaluate_tracker(perfect_tracker(points, occluded), points, occluded, height, width)
    assert (scores.aj, scores.d_avg, scores.oa) == (1, 1, 1)


def test_predictions_outside_the_image_count_as_occluded():
    points = np.full((1, 6, 2), 5.0)
    points[0, 3:] = -5
    occluded = outside_image(points, 10, 10)

    def always_visible(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(points, len(queries), 0), np.zeros((len(queries), 6), bool)

    assert evaluate_tracker(always_visible, points, occluded, 10, 10).oa == 1


def test_summary_and_table():
    _, _, points, occluded, _, height, width = random_case(3)
    occluded = occluded | outside_image(points, height, width)
    row = summarize_tracker(perfect_tracker(points, occluded), points, occluded, height, width)
    assert row["AJ"] == row["<d_avg gap>8"] == 1 and row["px occluded"] == 0
    lines = format_table({"model": row, "flow": {"AJ": 0.25}}).splitlines()
    assert lines[0].split()[:3] == ["AJ", "<d_avg", "OA"]
    assert lines[1].split()[:2] == ["model", "1.000"]
    assert lines[2].split() == ["flow", "0.250", "-", "-", "-", "-", "-"]
    assert len({len(line) for line in lines}) == 1
