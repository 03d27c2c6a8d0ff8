"""TAP-Vid's scores against hand-computed cases and a second implementation with plain loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
from answers import counts, random_answers

from evaluation.metrics import tap_vid_metrics
from evaluation.queries import TrackPredictions


def looped_metrics(answers: TrackPredictions, where: np.ndarray) -> tuple[float, float, float]:
    """Counts one entry at a time; returns (aj, d_avg, oa)."""
    height, width = answers.size
    jaccards, within = [], []
    right = total = 0
    for threshold in (1, 2, 4, 8, 16):
        tp = fp = positives = correct = 0
        for n in range(len(answers.gt_tracks)):
            for t in range(answers.gt_tracks.shape[1]):
                if not counts(answers, n, t) or not where[n, t]:
                    continue
                dx = (answers.pred_tracks[n, t, 0] - answers.gt_tracks[n, t, 0]) * 256 / width
                dy = (answers.pred_tracks[n, t, 1] - answers.gt_tracks[n, t, 1]) * 256 / height
                near = math.hypot(dx, dy) < threshold
                if threshold == 1:
                    total += 1
                    right += answers.pred_occluded[n, t] == answers.gt_occluded[n, t]
                if not answers.gt_occluded[n, t]:
                    positives += 1
                    correct += near
                if not answers.pred_occluded[n, t]:
                    if near and not answers.gt_occluded[n, t]:
                        tp += 1
                    else:
                        fp += 1
        jaccards.append(tp / (positives + fp))
        within.append(correct / positives)
    return sum(jaccards) / 5, sum(within) / 5, right / total


@pytest.mark.parametrize("mode", ["first", "strided"])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_plain_loops(mode: str, seed: int):
    answers = random_answers(seed, mode)
    some = np.abs(answers.gaps) <= 5
    for where, mask in ((None, np.ones_like(some)), (some, some)):
        scores = tap_vid_metrics(answers, where)
        np.testing.assert_allclose((scores.aj, scores.d_avg, scores.oa), looped_metrics(answers, mask), rtol=1e-12)


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_perfect_prediction_scores_one(mode: str):
    answers = random_answers(9, mode)
    perfect = replace(answers, pred_tracks=answers.gt_tracks, pred_occluded=answers.gt_occluded)
    scores = tap_vid_metrics(perfect)
    assert (scores.aj, scores.d_avg, scores.oa) == (1, 1, 1)
    assert scores.pts_within == {1: 1, 2: 1, 4: 1, 8: 1, 16: 1}


def test_one_point_by_hand():
    """256x256, query at 0. Frame 1: visible, off by 3. Frame 2: visible, exact, said hidden. Frame 3: hidden,
    said visible. So within 1 and 2: one of two; above: both. TP 0 or 1, FP 2 or 1, visible 2."""
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
    """Of two visible entries one is right. The other far off: 1 / (2 visible + 1 said visible wrongly); the other said
    hidden: 1 / 2. Both kinds of error lower the Jaccard, and differently."""
    gt, seen = np.full((1, 3, 2), 50.0), np.zeros((1, 3), bool)
    far, hidden = gt.copy(), seen.copy()
    far[0, 2] = 0
    hidden[0, 2] = True
    rest = (gt, seen, np.array([0]), (256, 256))
    assert tap_vid_metrics(TrackPredictions(far, seen, *rest)).aj == pytest.approx(1 / 3)
    assert tap_vid_metrics(TrackPredictions(gt, hidden, *rest)).aj == pytest.approx(1 / 2)


def test_thresholds_are_strict_and_scaled_by_side():
    """Half a pixel of a 128 wide video is exactly 1 of the raster; vertically, 256 high, it is a half."""
    gt, occluded = np.zeros((1, 2, 2)), np.zeros((1, 2), bool)
    for offset, expected in (((0.5, 0), 0), ((0.499, 0), 1), ((0, 0.5), 1), ((0, 1), 0)):
        scores = tap_vid_metrics(TrackPredictions(gt + offset, occluded, gt, occluded, np.array([0]), (256, 128)))
        assert scores.pts_within[1] == expected


def test_modes_choose_frames():
    """An error before the query counts in strided mode only; an error at the query never does."""
    gt, occluded = np.zeros((1, 5, 2)), np.zeros((1, 5), bool)
    pred = gt.copy()
    pred[0, [0, 2]] = 100
    answers = TrackPredictions(pred, occluded, gt, occluded, np.array([2]), (256, 256))
    assert tap_vid_metrics(replace(answers, query_mode="first")).d_avg == 1
    assert tap_vid_metrics(answers).d_avg == 0.75


@pytest.mark.parametrize("frames", [1, 3])
def test_nothing_visible_or_nothing_but_the_query_is_nan(frames: int):
    gt, hidden = np.zeros((1, frames, 2)), np.ones((1, frames), bool)
    scores = tap_vid_metrics(TrackPredictions(gt, hidden, gt, hidden, np.array([0]), (10, 10)))
    assert math.isnan(scores.aj) and math.isnan(scores.d_avg)
    assert scores.oa == 1 if frames > 1 else math.isnan(scores.oa)
