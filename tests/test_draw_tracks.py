"""Tracks over a video, read off the pixels."""

import itertools

import numpy as np
import pytest

from utils.images import read_frame, write_image
from utils.video import frame_rate, read_video
from visualization import trails as trails_module
from visualization.camera import camera_by_median, translation
from visualization.contact_sheet import save_overview, save_with_sheet
from visualization.draw import title_plate
from visualization.trails import draw_pairs, draw_trails

RED = np.array([[255, 0, 0]], np.uint8)
GREY = 128
SIZE = (480, 640)  # large enough to be drawn as it is


def blank(num_frames: int, height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    return np.full((num_frames, height, width, 3), GREY, np.uint8)


def touched(image: np.ndarray) -> np.ndarray:
    """bool [H,W]: pixels that something was drawn on."""
    return (np.abs(image.astype(int) - GREY) > 2).any(-1)


def red(image: np.ndarray) -> np.ndarray:
    """Redness above the grey ground, [H,W]."""
    return (image[..., 0].astype(int) - image[..., 1]).clip(0)


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
    assert (extent(touched(still)) <= 12).all()
    np.testing.assert_allclose(extent(touched(moving)), 7 * np.array([9, 4]) + 9, atol=6)


def test_trails_are_as_long_as_asked_and_fade_evenly_with_age():
    row = red(trails(walk(12), length=6)[-1])[100]
    samples = row[[145, 155, 165, 175, 185, 195]]
    assert samples[0] == 0 and (samples[1:] > 0).all()
    np.testing.assert_allclose(np.diff(samples), np.diff(samples).mean(), atol=2)
    assert (np.diff(samples) > 10).all()


def test_a_rainbow_keeps_the_whole_path():
    row = red(trails(walk(30), length=None)[-1])[100]
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
    ys, _ = np.nonzero(red(last)[:, 130:340] > 60)
    np.testing.assert_allclose(ys.mean(), (40 + 0.5) * 4 - 0.5, atol=0.3)


def test_an_occluded_end_of_a_trail_is_a_cross_and_what_has_no_place_is_not_drawn():
    tracks = np.full((3, 1, 2), 100.0)
    visible, hidden = (trails(tracks, occluded=np.full((3, 1), value))[-1] for value in (False, True))
    assert red(visible)[98, 100] > 200 > red(hidden)[97, 100]
    assert not touched(trails(np.full((3, 1, 2), np.nan))[-1]).any()


def test_a_point_that_runs_away_costs_no_memory():
    tracks = np.concatenate([walk(3), walk(3, (1e7, -1e7))], axis=1)
    assert touched(trails(tracks)[-1]).any()
    layer = trails_module._TrailLayer(tracks, np.stack([np.eye(3)] * 3), *SIZE, 2)
    assert layer.born.size <= SIZE[0] * SIZE[1]


def test_a_trail_stays_where_the_camera_comes_back_to_it():
    pan = [0, 700, 1400, 700, 0, 0]
    camera = np.stack([translation((pan_x, 0)) for pan_x in pan])  # it looks to the right, and back
    in_scene = np.array([[100, 100], [140, 100], [500, 300], [500, 300], [500, 300], [500, 300]], float)
    tracks = (in_scene - np.stack([pan, np.zeros(6)], -1))[:, None]
    drawn = trails(tracks, camera, length=None)
    assert red(drawn[-1])[100, 105:138].min() > 100 and not touched(drawn[2]).any()


def test_pairs_show_the_query_beside_each_frame_with_dots_and_crosses():
    video = blank(2, 96, 160)
    tracks = np.array([[[20.0, 30.0], [40, 60]], [[60.0, 30.0], [900, 60]]])
    occluded = np.array([[False, True], [False, True]])
    drawn = np.stack(list(draw_pairs(video[0], "query", tracks[0], video, tracks, occluded, np.repeat(RED, 2, 0), 6)))
    assert drawn.shape == (2, 384, 2 * 640 + 2, 3) and (video == GREY).all()
    np.testing.assert_array_equal(drawn[0, :, :640], drawn[1, :, :640])
    for frame, px in zip(drawn[:, :250, 642:], tracks[:, 0], strict=True):
        ys, xs = np.nonzero(red(frame[:180]) > 100)
        np.testing.assert_allclose([xs.mean(), ys.mean()], (px + 0.5) * 4 - 0.5, atol=0.2)
    x, y = (40 + 0.5) * 4 - 0.5, (60 + 0.5) * 4 - 0.5
    above = round(y) - 4, round(x)
    assert red(drawn[0, :, :640])[above] > 200 > red(drawn[0, :, 642:])[above]  # a dot where asked, a cross beside
    assert not touched(drawn[1, 200:, 642:]).any()  # outside the image


@pytest.mark.parametrize("size", [(480, 640), (27, 35)])
def test_a_video_has_the_frames_and_the_rate_asked_for_and_even_sides(tmp_path, size):
    frames = (np.full((*size, 3), 10 * k, np.uint8) for k in range(7))
    mp4, png = save_with_sheet(tmp_path, "v", frames, range(3, 10), 12.5)
    back = list(read_video(mp4))
    assert len(back) == 7 and back[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert frame_rate(mp4) == 12.5
    assert png.exists()


def test_a_contact_sheet_shows_first_and_last_frame_and_fits_a_screen(tmp_path):
    def sheet(*shape: int) -> np.ndarray:
        frames = np.arange(11, dtype=np.uint8)[:, None, None, None] * np.full((1, *shape, 3), 20, np.uint8)
        return read_frame(save_with_sheet(tmp_path, "v", frames, range(11), 10)[1])

    picture = sheet(480, 640)
    band = title_plate("frame 0", 0.5).shape[0]
    assert picture.shape == (2 * (480 + band), 1920, 3)
    assert (picture[band:480, :640] == 0).all() and (picture[-480:, -640:] == 200).all()
    wide, tall = sheet(480, 1282), sheet(480, 500)
    assert wide.shape[1] == 1920 and wide.shape[0] > 3 * 350  # two in a row, three rows
    assert tall.shape[1] == 1500


def test_the_overview_holds_every_sheet_under_its_name(tmp_path):
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    sheets = [tmp_path / f"{i}.png" for i in range(3)]
    for path, color in zip(sheets, colors, strict=True):
        write_image(path, np.full((50, 100, 3), color, np.uint8))
    picture = read_frame(save_overview(tmp_path / "overview.png", sheets))
    assert picture.shape[1] == 1920
    for color in colors:
        assert (picture == color).all(-1).sum() == 480 * 960


def test_the_median_camera_is_the_accumulated_median_of_the_background():
    rng = np.random.default_rng(0)
    motion = np.concatenate([np.zeros((1, 2)), np.cumsum(rng.normal(size=(7, 2)), 0)])
    tracks = rng.uniform(0, 100, (1, 9, 2)) + motion[:, None]
    tracks[5:, 1] += 300  # a background point that is lost
    np.testing.assert_allclose(camera_by_median(tracks), [translation(-shift) for shift in motion], atol=1e-9)
    np.testing.assert_array_equal(camera_by_median(tracks[:, :0]), [np.eye(3)] * 8)
