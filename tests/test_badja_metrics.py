"""BADJA's shares, against plain loops and by hand."""

import math

import numpy as np
import pytest

from evaluation.metrics import badja_metrics


def looped(pred, gt, visible, areas) -> tuple[float, float]:
    """One label at a time."""
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
def test_agrees_with_plain_loops(seed: int):
    rng = np.random.default_rng(seed)
    gt, visible, areas = rng.uniform(0, 100, (9, 5, 2)), rng.random((9, 5)) < 0.7, rng.uniform(100, 3000, 5)
    pred = gt + rng.normal(size=gt.shape) * rng.choice([1, 5, 20], (9, 5, 1))
    before = visible.copy()
    metrics = badja_metrics(pred, gt, visible, areas)
    np.testing.assert_allclose((metrics.within_area, metrics.within_3px), looped(pred, gt, visible, areas))
    assert np.array_equal(visible, before)


def test_by_hand():
    """Area 400 allows less than 4 px, 100 less than 2. Keypoint 0 is asked for, 1 is hidden in the first frame."""
    gt = np.zeros((2, 4, 2))
    pred = gt.copy()
    pred[0, :, 0] = [50, 3.5, 1.9, 4]  # the first frame is not scored
    pred[1] = 99
    visible = np.array([[True, True, True, True], [False, True, True, True]])
    metrics = badja_metrics(pred, gt, visible, np.array([1, 400, 100, 400]))
    assert metrics.within_area == pytest.approx(2 / 3)  # 4 is not below 4
    assert metrics.within_3px == pytest.approx(1 / 3)


def test_without_labels_it_is_nan():
    gt = np.zeros((2, 3, 2))
    for visible in (np.zeros((2, 3), bool), np.array([[True, False, False], [False, True, True]])):
        metrics = badja_metrics(gt, gt, visible, np.ones(3))
        assert math.isnan(metrics.within_area) and math.isnan(metrics.within_3px)
    one_frame = badja_metrics(gt[:, :1], gt[:, :1], np.ones((2, 1), bool), np.ones(1))
    assert math.isnan(one_frame.within_area)
