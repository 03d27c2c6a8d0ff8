"""What a picture must show, read off its pixels."""

from pathlib import Path

import numpy as np
import pytest

from utils import draw
from utils.draw_dense import color_and_depth_frames, dense_px, flow_frames
from utils.draw_tracks import (
    background_motion,
    contact_sheet,
    draw_grid,
    draw_trails,
    grid_points,
    save_track_videos,
)
from utils.video_io import read_frame

RED = np.array([[255, 0, 0]], np.uint8)
GREY = 128
SIZE = (480, 640)  # large enough to be drawn as it is


def blank(num_frames: int, height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    return np.full((num_frames, height, width, 3), GREY, np.uint8)


def touched(image: np.ndarray) -> np.ndarray:
    """bool [H,W]: pixels that something was drawn on."""
    return (image != GREY).any(-1)


def red(image: np.ndarray) -> np.ndarray:
    """Redness above the grey ground, [H,W]."""
    return (image[..., 0].astype(int) - image[..., 1]).clip(0)


def marked(px: tuple[float, float], hidden: bool, radius: float = 6) -> np.ndarray:
    canvas = blank(1)[0]
    draw.draw_marks(canvas, np.array([px], float), np.array([hidden]), RED, radius)
    return canvas


def extent(mask: np.ndarray) -> np.ndarray:
    """Width and height of the True pixels' bounding box."""
    ys, xs = np.nonzero(mask)
    return np.array([np.ptp(xs), np.ptp(ys)]) + 1


def test_a_visible_point_is_a_disc_and_an_occluded_one_a_cross():
    dot, cross = red(marked((100, 50), False)) > 200, red(marked((100, 50), True)) > 200
    up, diagonal = (50 - 4, 100), (50 - 4, 100 - 4)
    assert dot[50, 100] and dot[up] and dot[50, 104]
    assert cross[50, 100] and cross[diagonal]
    assert not cross[up] and not cross[50, 104]


@pytest.mark.parametrize("hidden", [False, True])
def test_marks_have_a_dark_edge(hidden):
    image = marked((100, 50), hidden)
    assert (image.max(-1)[touched(image)] < 70).any()


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("px", [(100.0, 50.0), (100.25, 50.75), (33.5, 47.5)])
def test_marks_lie_on_their_point_to_a_fraction_of_a_pixel(px, hidden):
    weight = np.abs(marked(px, hidden).astype(float) - GREY).sum(-1)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    centre = (weight * xs).sum() / weight.sum(), (weight * ys).sum() / weight.sum()
    np.testing.assert_allclose(centre, px, atol=0.15)


@pytest.mark.parametrize("px", [(-9, 50), (650, 50), (50, -9), (50, 490), (np.nan, 50), (1e12, np.inf)])
def test_points_outside_the_image_are_not_drawn(px):
    for hidden in (False, True):
        assert not touched(marked(px, hidden)).any()


def test_enlarging_moves_points_with_the_pixels_they_are_in():
    image = np.zeros((96, 160, 3), np.uint8)
    image[40, 70] = 255
    large, px = draw.enlarge(image, np.array([[70, 40]]))
    assert large.shape == (384, 640, 3)
    ys, xs = np.mgrid[:384, :640]
    weight = large[..., 0].astype(float)
    np.testing.assert_allclose(px[0], [(weight * xs).sum() / weight.sum(), (weight * ys).sum() / weight.sum()])


def test_a_large_image_keeps_its_size_and_its_points():
    image, points = blank(1)[0], np.array([[3.25, 4.5]])
    same, px = draw.enlarge(image, points)
    assert same.shape == image.shape
    np.testing.assert_array_equal(px, points)


def test_neighbours_on_a_grid_have_different_colours_and_close_points_similar_ones():
    px = grid_points(*SIZE, 300)
    colors = draw.point_colors(px, *SIZE)
    assert colors.dtype == np.uint8 and colors.shape == (len(px), 3)
    assert len(np.unique(colors, axis=0)) == len(px)
    moved = draw.point_colors(px + 1, *SIZE).astype(int)
    assert np.abs(moved - colors).max() < 10


def test_a_small_object_uses_the_whole_rainbow():
    px = np.stack(np.meshgrid(np.arange(300, 330), np.arange(200, 220)), -1).reshape(-1, 2)
    assert np.ptp(draw.spread_colors(px), axis=0).min() > 150 > np.ptp(draw.point_colors(px, *SIZE), axis=0).max()


def test_flow_colours_direction_and_magnitude_on_one_scale():
    right, down, left = [2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]
    colors = draw.flow_to_color(np.array([[[right, down, left, [0.0, 0.0]]], [[[4.0, 0], right, down, left]]]))
    assert colors.shape == (2, 1, 4, 3)
    assert len({tuple(c) for c in colors[0, 0, :3]}) == 3
    np.testing.assert_array_equal(colors[0, 0, 3], 255)
    np.testing.assert_array_equal(colors[0, 0, 0], colors[1, 0, 1])
    np.testing.assert_array_equal(colors[1, 0, 0], draw.flow_to_color(np.array([[right]]), 2.0)[0, 0])
    np.testing.assert_array_equal(draw.flow_to_color(np.full((1, 1, 2), np.nan)), 0)


def test_no_flow_at_all_is_white():
    np.testing.assert_array_equal(draw.flow_to_color(np.zeros((3, 4, 2))), 255)


def test_near_is_red_far_is_blue_and_the_bar_says_so():
    near, far = draw.depth_to_color(np.array([[0.0, 2.0]]), 0.0, 2.0)[0].astype(int)
    assert near[0] > near[2] + 60 and far[2] > far[0] + 60
    picture = draw.with_color_bar(np.zeros((96, 160, 3), np.uint8), 0.0, 2.0, "depth")
    assert picture.shape[0] == 384 and picture.shape[1] > 640
    bar = picture[:, 640:]
    column = bar[:, 25]
    colored = np.flatnonzero(np.ptp(column.astype(int), axis=-1) > 60)
    np.testing.assert_allclose(column[colored[0] + 2], near, atol=12)
    np.testing.assert_allclose(column[colored[-1] - 2], far, atol=12)
    assert (bar.max(-1) < 60).sum() > 100  # tick labels, in black


def test_constant_depth_is_no_error():
    assert draw.depth_to_color(np.ones((2, 3)), 1.0, 1.0).shape == (2, 3, 3)


@pytest.mark.parametrize(("height", "width", "shape"), [(480, 640, (960, 640, 3)), (640, 480, (640, 960, 3))])
def test_correspondences_join_both_frames(height, width, shape):
    frame = np.full((height, width, 3), GREY, np.uint8)
    px = np.array([[100.0, 200.0]])
    picture = draw.draw_correspondences(frame, frame, px, px)
    assert picture.shape == shape
    second = np.array([0, height]) if shape[0] > height else np.array([width, 0])
    ends = px[0], px[0] + second
    for share in np.linspace(0, 1, 9):
        x, y = np.round(ends[0] * (1 - share) + ends[1] * share).astype(int)
        assert touched(picture)[y, x]
    hidden = draw.draw_correspondences(frame, frame, px, px, np.array([True]))
    np.testing.assert_array_equal(hidden[:height, :width], picture[:height, :width])
    assert (hidden != picture).any()


def test_truth_lies_over_prediction():
    stacked = draw.stack_truth_over_prediction(np.zeros((4, 3, 5, 3), np.uint8), np.ones((4, 3, 5, 3), np.uint8))
    assert stacked.shape == (4, 8, 5, 3)
    assert (stacked[:, :3] == 0).all() and (stacked[:, 3:5] == 255).all() and (stacked[:, 5:] == 1).all()


def test_background_motion_is_the_accumulated_median_of_the_background():
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(7, 2))
    tracks = rng.uniform(0, 100, (1, 9, 2)) + np.cumsum(np.concatenate([np.zeros((1, 2)), steps]), 0)[:, None]
    tracks[:, 0] += np.arange(8)[:, None] * 50  # an object
    tracks[5:, 1] += 300  # and a background point that is lost
    background = np.arange(9) > 0
    expected = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    np.testing.assert_allclose(background_motion(tracks, background), expected)
    np.testing.assert_array_equal(background_motion(tracks, np.zeros(9, bool)), np.zeros((8, 2)))


def test_under_a_pan_a_static_point_has_no_trail_and_a_moving_one_has():
    pan = np.arange(8)[:, None] * np.array([9.0, -4.0])
    visible = np.zeros((8, 1), bool)
    static = (np.array([100.0, 200.0]) + pan)[:, None]
    fixed_in_image = np.full((8, 1, 2), 300.0)
    still = draw_trails(blank(8), static, visible, pan, RED)[-1]
    moving = draw_trails(blank(8), fixed_in_image, visible, pan, RED)[-1]
    assert (extent(touched(still)) <= 12).all()
    np.testing.assert_allclose(extent(touched(moving)), 7 * np.array([9, 4]) + 9, atol=6)


def test_trails_are_as_long_as_asked_and_fade_with_age():
    tracks = np.stack([np.arange(12) * 10.0 + 100, np.full(12, 100.0)], -1)[:, None]
    last = draw_trails(blank(12), tracks, np.zeros((12, 1), bool), np.zeros((12, 2)), RED, length=6)[-1]
    row = red(last)[100]
    samples = row[[145, 155, 165, 175, 185, 195]]
    assert samples[0] == 0 and (samples[1:] > 0).all()
    assert (np.diff(samples) > 0).all()


def test_an_occluded_end_of_a_trail_is_a_cross():
    tracks, no_motion = np.full((3, 1, 2), 100.0), np.zeros((3, 2))
    visible, hidden = (
        draw_trails(blank(3), tracks, np.full((3, 1), value), no_motion, RED)[-1] for value in (False, True)
    )
    assert red(visible)[98, 100] > 200 > red(hidden)[97, 100]


def test_grid_video_draws_each_frame_at_its_own_place_without_changing_the_video():
    video = blank(2, 96, 160)
    tracks = np.array([[[20.0, 30.0]], [[60.0, 30.0]]])
    drawn = draw_grid(video, tracks, np.zeros((2, 1), bool), RED)
    assert drawn.shape == (2, 384, 640, 3)
    assert (video == GREY).all()
    for frame, px in zip(drawn, tracks[:, 0], strict=True):
        ys, xs = np.nonzero(red(frame) > 100)
        np.testing.assert_allclose([xs.mean(), ys.mean()], (px + 0.5) * 4 - 0.5, atol=0.2)


def test_grid_points_are_about_as_many_as_asked_and_inside_the_mask():
    assert 240 <= len(grid_points(*SIZE, 300)) <= 360
    mask = np.zeros(SIZE, bool)
    mask[100:180, 300:420] = True
    px = grid_points(*SIZE, 100, mask).astype(int)
    assert 80 <= len(px) <= 120
    assert mask[px[:, 1], px[:, 0]].all()


def test_grid_points_find_even_a_thin_mask():
    mask = np.zeros(SIZE, bool)
    mask[101, 5:600] = True
    px = grid_points(*SIZE, 4, mask).astype(int)
    assert 1 <= len(px) <= 8 and mask[px[:, 1], px[:, 0]].all()
    assert grid_points(*SIZE, 100, np.zeros(SIZE, bool)).shape == (0, 2)


def test_a_contact_sheet_shows_first_and_last_frame():
    video = np.arange(11, dtype=np.uint8)[:, None, None, None] * np.full((1, 480, 640, 3), 20, np.uint8)
    sheet = contact_sheet(video)
    assert sheet.shape == (960, 1920, 3)
    assert sheet[400, 300, 0] == 0 and sheet[900, 1800, 0] == 200
    assert contact_sheet(video[:2]).shape == (480, 1280, 3)


def test_track_videos_show_the_foreground_and_hidden_points_only_if_asked(tmp_path: Path):
    tracks = np.array([[[100.0, 100.0], [300.0, 100.0], [500.0, 100.0]]] * 3)
    occluded = np.zeros((3, 3), bool)
    occluded[:, 1] = True
    background = np.array([False, False, True])

    def shown(name: str, *args) -> list[bool]:
        written = save_track_videos(tmp_path, name, blank(3), tracks, occluded, *args)
        assert [p.name for p in written] == [
            f"{name}_{n}" for n in ("grid.mp4", "grid.png", "trails.mp4", "trails.png")
        ]
        assert all(p.stat().st_size > 0 for p in written)
        return [bool(touched(read_frame(written[1]))[100, x]) for x in (100, 300, 500)]

    assert shown("crosses", background) == [True, True, False]
    assert shown("visible", background, 0, False) == [True, False, False]
    assert shown("all", np.ones(3, bool)) == [True, True, True]


@pytest.mark.parametrize(("longest", "shape"), [(None, (6, 10)), (100, (6, 10)), (5, (3, 5))])
def test_dense_points_are_pixels_or_the_centres_of_equal_cells(longest, shape):
    px, found = dense_px((6, 10), longest)
    assert found == shape
    cell = 6 / shape[0]
    np.testing.assert_allclose(px[0], (cell - 1) / 2)
    np.testing.assert_allclose(px[-1], [9 - (cell - 1) / 2, 5 - (cell - 1) / 2])
    np.testing.assert_allclose(px.mean(0), [4.5, 2.5])


def test_dense_videos_show_what_the_callbacks_answer():
    video = np.random.default_rng(0).integers(0, 255, (3, 480, 640, 3), np.uint8)

    def render(frame_id, px):
        return px.new_tensor([1.0, 0.0, 0.0]).expand(len(px), 3), px[:, 0] / 640 + frame_id

    color, depth = color_and_depth_frames(video, render, longest_side=64)
    np.testing.assert_array_equal(color[:, :480], video)
    np.testing.assert_array_equal(color[:, 482:], np.broadcast_to([255, 0, 0], (3, 480, 640, 3)))
    assert depth[0, 200, 50, 0] > depth[0, 200, 50, 2] and depth[2, 200, 600, 2] > depth[2, 200, 600, 0]
    flow = flow_frames((480, 640), lambda px: px + px.new_tensor([[[0.0, 0.0]], [[5.0, 0.0]]]), 1000, 64)
    assert flow.shape == (2, 480, 640, 3)
    assert (flow[0] == 255).all() and (flow[1] == draw.flow_to_color(np.array([[[5.0, 0.0]]]))[0, 0]).all()
