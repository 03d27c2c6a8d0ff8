"""Errors in pixels and temporal coherence, against plain loops and cases worked out by hand."""

import math

import numpy as np
import pytest
from answers import counts, random_answers

from evaluation.metrics import position_errors, temporal_coherence
from evaluation.queries import TrackPredictions


def percentile(values: list[float], share: float) -> float:
    """Linear between the two nearest ranks, 0 being the smallest value's."""
    values = sorted(values)
    rank = share * (len(values) - 1)
    low = math.floor(rank)
    return values[low] + (rank - low) * (values[min(low + 1, len(values) - 1)] - values[low])


@pytest.mark.parametrize("mode", ["first", "strided"])
@pytest.mark.parametrize("seed", range(3))
def test_position_errors_agree_with_plain_loops(mode: str, seed: int):
    answers = random_answers(seed, mode)
    height, width = answers.size
    visible, hidden = [], []
    for n, t in np.ndindex(answers.gt_occluded.shape):
        if counts(answers, n, t):
            x, y = answers.gt_tracks[n, t]
            error = math.dist(answers.pred_tracks[n, t], (x, y))
            if not answers.gt_occluded[n, t]:
                visible.append(error)
            elif 0 <= x <= width - 1 and 0 <= y <= height - 1:
                hidden.append(error)
    for summary, errors in zip(position_errors(answers), (visible, hidden), strict=True):
        assert summary.p50 == pytest.approx(percentile(errors, 0.5))
        assert summary.p90 == pytest.approx(percentile(errors, 0.9))


def test_position_errors_by_hand():
    """One point, query at 0: errors 1, 2, 3 where visible; 7 where hidden; hidden outside the image is not counted."""
    gt = np.full((1, 6, 2), 20.0)
    occluded = np.array([[False, False, False, False, True, True]])
    gt[0, 5] = -30
    pred = gt.copy()
    pred[0, :, 0] += [0, 1, 2, 3, 7, 500]
    visible, hidden = position_errors(TrackPredictions(pred, occluded, gt, occluded, np.array([0]), (256, 256)))
    assert (visible.p50, hidden.p50, hidden.p90) == (2, 7, 7)
    assert visible.p90 == pytest.approx(2.8)


@pytest.mark.parametrize("mode", ["first", "strided"])
@pytest.mark.parametrize("seed", range(3))
def test_temporal_coherence_agrees_with_plain_loops(mode: str, seed: int):
    answers = random_answers(seed, mode)
    scale = [256 / answers.size[1], 256 / answers.size[0]]
    lengths = []
    for n in range(len(answers.gt_tracks)):
        for t in range(1, answers.gt_tracks.shape[1] - 1):
            triple = (t - 1, t, t + 1)
            if any(answers.gt_occluded[n, k] for k in triple):
                continue
            if not all(counts(answers, n, k) or k == answers.query_frames[n] for k in triple):
                continue
            difference = []
            for axis in (0, 1):
                pred, true = (tracks[n, :, axis] * scale[axis] for tracks in (answers.pred_tracks, answers.gt_tracks))
                flows = [(track[t] - track[t - 1], track[t + 1] - track[t]) for track in (pred, true)]
                difference.append((flows[0][1] - flows[0][0]) - (flows[1][1] - flows[1][0]))
            lengths.append(math.hypot(*difference))
    assert temporal_coherence(answers) == pytest.approx(sum(lengths) / len(lengths))


def line(offsets: list[tuple[float, float]], occluded: list[bool]) -> TrackPredictions:
    """A point that moves evenly, predicted with offsets; 256x256, query at 0."""
    gt = np.arange(len(offsets))[None, :, None] * np.array([2.0, 1.0])
    hidden = np.array([occluded])
    return TrackPredictions(gt + np.array(offsets), hidden, gt, hidden, np.array([0]), (256, 256))


def test_a_constant_offset_or_speed_is_coherent_and_one_jump_is_not():
    seen = [False] * 5
    assert temporal_coherence(line([(9, 9)] * 5, seen)) == pytest.approx(0)
    assert temporal_coherence(line([(3 * t, 0) for t in range(5)], seen)) == pytest.approx(0)
    # Frame 2 is off by (3, 4): accelerations differ by 5, 10 and 5.
    jump = [(0, 0), (0, 0), (3, 4), (0, 0), (0, 0)]
    assert temporal_coherence(line(jump, seen)) == pytest.approx(20 / 3)
    assert temporal_coherence(line(jump, [False, False, True, False, False])) != temporal_coherence(line(jump, seen))


def test_nothing_to_measure_is_nan():
    assert math.isnan(temporal_coherence(line([(0, 0)] * 5, [False, False, True, False, False])))
    for frames in (1, 2):
        assert math.isnan(temporal_coherence(line([(0, 0)] * frames, [False] * frames)))
    visible, hidden = position_errors(line([(0, 0)], [False]))
    assert math.isnan(visible.p50) and math.isnan(hidden.p90)
