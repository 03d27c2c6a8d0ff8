"""Camera motion: what the background follows, or without a mask most points."""

import numpy as np

from visualization.camera import apply_homography, camera_by_homographies, camera_by_median, translation


def turned(degrees: float, zoom: float, shift: tuple[float, float]) -> np.ndarray:
    """A camera motion with a slight perspective."""
    a = np.deg2rad(degrees)
    matrix = np.array([[zoom * np.cos(a), -zoom * np.sin(a), 0], [zoom * np.sin(a), zoom * np.cos(a), 0], [2e-5, 0, 1]])
    return translation(shift) @ matrix


def test_homographies_are_found_among_moving_and_occluded_points():
    rng = np.random.default_rng(0)
    static = rng.uniform(0, 300, (60, 2))
    cameras = [turned(2 * t, 1 + 0.02 * t, (7 * t, -3 * t)) for t in range(5)]  # first frame → frame t
    tracks = np.stack([apply_homography(camera, static) for camera in cameras])
    tracks[:, :15] += np.arange(5)[:, None, None] * (11, 6)  # an object
    occluded = np.zeros((5, 60), bool)
    occluded[2, 15:20] = True
    tracks[2, 15:20] += 500
    found = camera_by_homographies(tracks, occluded)
    back = apply_homography(found, tracks)
    np.testing.assert_allclose(back[:, 20:], np.broadcast_to(tracks[0, 20:], (5, 40, 2)), atol=0.05)


def test_points_without_a_common_motion_give_their_median_shift():
    rng = np.random.default_rng(1)
    before = rng.uniform(0, 300, (40, 2))
    after = before + rng.uniform(-90, 90, (40, 2))
    visible = np.zeros((2, 40), bool)
    found = camera_by_homographies(np.stack([before, after]), visible)[1]
    np.testing.assert_allclose(found, translation(np.median(before - after, axis=0)))
    few = camera_by_homographies(np.stack([before[:3], before[:3] + np.array([4, 5])]), visible[:, :3])[1]
    np.testing.assert_allclose(few, translation((-4, -5)))
    none = camera_by_homographies(np.stack([before, after]), ~visible)
    np.testing.assert_array_equal(none, [np.eye(3)] * 2)


def test_the_median_camera_is_the_accumulated_median_of_the_background():
    rng = np.random.default_rng(0)
    motion = np.concatenate([np.zeros((1, 2)), np.cumsum(rng.normal(size=(7, 2)), 0)])
    tracks = rng.uniform(0, 100, (1, 9, 2)) + motion[:, None]
    tracks[5:, 1] += 300  # a background point that is lost
    np.testing.assert_allclose(camera_by_median(tracks), [translation(-shift) for shift in motion], atol=1e-9)
    np.testing.assert_array_equal(camera_by_median(tracks[:, :0]), [np.eye(3)] * 8)
