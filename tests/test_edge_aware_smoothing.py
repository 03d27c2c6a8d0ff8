"""Edge-aware smoothing: it finds the minimum of its energy, and stops at motion edges."""

import numpy as np

from loaders.edge_aware_smoothing import MIN_WEIGHT, MOTION_SCALE, SMOOTHNESS, edge_aware_smoothing


def test_it_minimises_its_energy():
    rng = np.random.default_rng(0)
    values, confidence, motion = rng.random((5, 6)), rng.random((5, 6)), rng.normal(0, MOTION_SCALE, (5, 6, 3))
    confidence[rng.random((5, 6)) < 0.5] = 0
    system = np.diag(confidence.ravel())
    for p in np.ndindex(5, 6):
        for q in ((p[0] + 1, p[1]), (p[0], p[1] + 1)):
            if q[0] < 5 and q[1] < 6:
                weight = SMOOTHNESS * 0.5 ** (((motion[p] - motion[q]) ** 2).mean() / MOTION_SCALE**2) + MIN_WEIGHT
                row = np.zeros((5, 6))
                row[p], row[q] = 1, -1
                system += weight * np.outer(row, row)
    expected = np.linalg.solve(system, (confidence * values).ravel()).reshape(5, 6)
    np.testing.assert_allclose(edge_aware_smoothing(values, confidence, motion), expected, atol=2e-3)


def test_one_known_pixel_fills_a_region_that_moves_alike():
    motion = np.zeros((20, 30, 2))
    motion[:, 12:] = 10 * MOTION_SCALE
    values, confidence = np.zeros((20, 30)), np.zeros((20, 30))
    for column, value in ((3, 0.2), (25, 0.9)):
        values[10, column], confidence[10, column] = value, 1
    found = edge_aware_smoothing(values, confidence, motion)
    assert np.abs(found[:, :12] - 0.2).max() < 0.02 and np.abs(found[:, 12:] - 0.9).max() < 0.02


def test_values_spread_across_an_image():
    """All rows are alike: the minimum is that of one row, a system of 256 unknowns."""
    confidence = np.full(256, 1e-3)
    confidence[:3] = 1
    values = (confidence == 1).astype(float)
    steps = np.diff(np.eye(256), axis=0)
    row = np.linalg.solve(np.diag(confidence) + (SMOOTHNESS + MIN_WEIGHT) * steps.T @ steps, confidence * values)
    found = edge_aware_smoothing(np.tile(values, (20, 1)), np.tile(confidence, (20, 1)), np.zeros((20, 256, 2)))
    np.testing.assert_allclose(found, np.tile(row, (20, 1)), atol=0.02)
