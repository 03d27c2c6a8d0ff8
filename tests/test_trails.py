"""Trails over a video, read off the pixels."""

import itertools

import numpy as np
import pytest

from tests.pictures import RED, SIZE, blank, redness, touched
from visualization import trails as trails_module
from visualization.camera import translation
from visualization.trails import draw_trails


def extent(mask: np.ndarray) -> np.ndarray:
    """Width and height of the True pixels' bounding box."""
    ys, xs = np.nonzero(mask)
    return np.array([np.ptp(xs), np.ptp(ys)]) + 1


def trails(tracks: np.ndarray, camera=None, occluded=None, colors=RED, length=10, size=SIZE) -> list[np.ndarray]:
    num_frames, num_points = tracks.shape[:2]
    occluded = np.zeros((num_frames, num_points), bool) if occluded is None else occluded
    camera = np.stack([np.eye(3)] * num_frames) if camera is None else camera
    colors = np.broadcast_to(colors, (num_points, 3))
    return list(draw_trails(blank(num_frames, *size), size, tracks, occluded, camera, colors, length))


def walk(num_frames: int, step=(10.0, 0.0), start=(100.0, 100.0)) -> np.ndarray:
    return (np.array(start) + np.arange(num_frames)[:, None] * np.array(step))[:, None]


def test_under_a_pan_a_static_point_has_no_trail_and_a_moving_one_has():
    pan = np.arange(8)[:, None] * np.array([9.0, -4.0])
    camera = np.stack([translation(-shift) for shift in pan])
    still = trails((np.array([100.0, 200.0]) + pan)[:, None], camera)[-1]
    moving = trails(np.full((8, 1, 2), 300.0), camera)[-1]
    assert (extent(touched(still, 2)) <= 12).all()
    np.testing.assert_allclose(extent(touched(moving, 2)), 7 * np.array([9, 4]) + 9, atol=6)


def test_trails_are_as_long_as_asked_and_fade_evenly_with_age():
    row = redness(trails(walk(12), length=6)[-1])[100]
    samples = row[[145, 155, 165, 175, 185, 195]]
    assert samples[0] == 0 and (samples[1:] > 0).all()
    np.testing.assert_allclose(np.diff(samples), np.diff(samples).mean(), atol=2)
    assert (np.diff(samples) > 10).all()


def test_a_rainbow_keeps_the_whole_path():
    row = redness(trails(walk(30), length=None)[-1])[100]
    samples = row[105:385]
    assert samples.min() > 100 and np.ptp(samples) <= 1


@pytest.mark.parametrize("length", [3, None])
def test_every_step_is_drawn_once_however_long_the_trails(monkeypatch, length):
    count, draw_line = itertools.count(), trails_module.draw_line

    def counting(*args):
        next(count)
        draw_line(*args)

    monkeypatch.setattr(trails_module, "draw_line", counting)
    tracks = np.concatenate([walk(9), walk(9, start=(100, 300))], axis=1)
    trails(tracks, length=length)
    assert next(count) == 2 * 8
    trails(np.concatenate([tracks, tracks], 0), length=length)
    assert next(count) == 2 * 8 + 1 + 2 * 17  # twice the frames, twice the lines


def test_trails_lie_on_their_points_in_an_enlarged_picture():
    last = trails(walk(4, (20.0, 0.0), (30.0, 40.0)), size=(96, 160))[-1]
    assert last.shape == (384, 640, 3)
    ys, _ = np.nonzero(redness(last)[:, 130:340] > 60)
    np.testing.assert_allclose(ys.mean(), (40 + 0.5) * 4 - 0.5, atol=0.3)


def test_an_occluded_end_of_a_trail_is_a_cross_and_what_has_no_position_is_not_drawn():
    tracks = np.full((3, 1, 2), 100.0)
    visible, occluded = (trails(tracks, occluded=np.full((3, 1), value))[-1] for value in (False, True))
    assert redness(visible)[98, 100] > 200 > redness(occluded)[97, 100]
    assert not touched(trails(np.full((3, 1, 2), np.nan))[-1], 2).any()


def test_a_point_that_runs_away_costs_no_memory():
    tracks = np.concatenate([walk(3), walk(3, (1e7, -1e7))], axis=1)
    assert touched(trails(tracks)[-1], 2).any()
    layer = trails_module._TrailLayer(tracks, np.stack([np.eye(3)] * 3), *SIZE, 2)
    assert layer.drawn_in.size <= SIZE[0] * SIZE[1]


def test_a_trail_stays_where_the_camera_comes_back_to_it():
    pan = [0, 700, 1400, 700, 0, 0]
    camera = np.stack([translation((pan_x, 0)) for pan_x in pan])  # it looks to the right, and back
    in_scene = np.array([[100, 100], [140, 100], [500, 300], [500, 300], [500, 300], [500, 300]], float)
    tracks = (in_scene - np.stack([pan, np.zeros(6)], -1))[:, None]
    drawn = trails(tracks, camera, length=None)
    assert redness(drawn[-1])[100, 105:138].min() > 100 and not touched(drawn[2], 2).any()
