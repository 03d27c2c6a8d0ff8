"""Values spread over what moves alike: the minimum that it claims to be, and where it stops."""

import numpy as np

from loaders.depth_prior import ALIKE, LOOSE, STIFFNESS, smooth_along_motion


def test_it_is_the_minimum_that_it_claims():
    rng = np.random.default_rng(0)
    values, confidence, motion = rng.random((5, 6)), rng.random((5, 6)), rng.normal(0, ALIKE, (5, 6, 3))
    confidence[rng.random((5, 6)) < 0.5] = 0
    system = np.diag(confidence.ravel())
    for p in np.ndindex(5, 6):
        for q in ((p[0] + 1, p[1]), (p[0], p[1] + 1)):
            if q[0] < 5 and q[1] < 6:
                weight = STIFFNESS * 0.5 ** (((motion[p] - motion[q]) ** 2).mean() / ALIKE**2) + LOOSE
                row = np.zeros((5, 6))
                row[p], row[q] = 1, -1
                system += weight * np.outer(row, row)
    expected = np.linalg.solve(system, (confidence * values).ravel()).reshape(5, 6)
    np.testing.assert_allclose(smooth_along_motion(values, confidence, motion), expected, atol=2e-3)


def test_one_known_pixel_is_enough_for_what_moves_alike():
    motion = np.zeros((20, 30, 2))
    motion[:, 12:] = 10 * ALIKE
    values, confidence = np.zeros((20, 30)), np.zeros((20, 30))
    for column, value in ((3, 0.2), (25, 0.9)):
        values[10, column], confidence[10, column] = value, 1
    found = smooth_along_motion(values, confidence, motion)
    assert np.abs(found[:, :12] - 0.2).max() < 0.02 and np.abs(found[:, 12:] - 0.9).max() < 0.02


def test_it_reaches_across_an_image():
    """Rows that are all alike: the minimum is that of one row, a system of 256 unknowns."""
    confidence = np.full(256, 1e-3)
    confidence[:3] = 1
    values = (confidence == 1).astype(float)
    steps = np.diff(np.eye(256), axis=0)
    row = np.linalg.solve(np.diag(confidence) + (STIFFNESS + LOOSE) * steps.T @ steps, confidence * values)
    found = smooth_along_motion(np.tile(values, (20, 1)), np.tile(confidence, (20, 1)), np.zeros((20, 256, 2)))
    np.testing.assert_allclose(found, np.tile(row, (20, 1)), atol=0.02)
