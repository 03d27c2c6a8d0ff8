"""What a picture must show, read off its pixels."""

import numpy as np
import pytest

from visualization import draw
from visualization.dense import canonical_frames, color_frames, dense_px, depth_frames, flow_frames
from visualization.flow_colors import LEGEND_WIDTH, flow_to_color, with_flow_legend
from visualization.query_points import grid_points

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
    colors = flow_to_color(np.array([[[right, down, left, [0.0, 0.0]]], [[[4.0, 0], right, down, left]]]))
    assert colors.shape == (2, 1, 4, 3)
    assert len({tuple(c) for c in colors[0, 0, :3]}) == 3
    np.testing.assert_array_equal(colors[0, 0, 3], 255)
    np.testing.assert_array_equal(colors[0, 0, 0], colors[1, 0, 1])
    np.testing.assert_array_equal(colors[1, 0, 0], flow_to_color(np.array([[right]]), 2.0)[0, 0])
    np.testing.assert_array_equal(flow_to_color(np.full((1, 1, 2), np.nan)), 0)


def test_no_flow_at_all_is_white():
    np.testing.assert_array_equal(flow_to_color(np.zeros((3, 4, 2))), 255)


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


@pytest.mark.parametrize(("longest", "shape"), [(None, (6, 10)), (100, (6, 10)), (5, (3, 5))])
def test_dense_points_are_pixels_or_the_centres_of_equal_cells(longest, shape):
    px, found = dense_px((6, 10), longest)
    assert found == shape
    cell = 6 / shape[0]
    np.testing.assert_allclose(px[0], (cell - 1) / 2)
    np.testing.assert_allclose(px[-1], [9 - (cell - 1) / 2, 5 - (cell - 1) / 2])
    np.testing.assert_allclose(px.mean(0), [4.5, 2.5])


def test_rendered_colours_lie_beside_the_frames_at_their_size():
    video = np.random.default_rng(0).integers(0, 255, (3, 480, 640, 3), np.uint8)
    colors = np.full((3, 48, 64, 3), (255, 0, 0), np.uint8)
    drawn = np.stack(list(color_frames(video, colors)))
    np.testing.assert_array_equal(drawn[:, :, :640], video)
    np.testing.assert_array_equal(drawn[:, :, 642:], np.broadcast_to([255, 0, 0], (3, 480, 640, 3)))


def test_depth_and_canonical_places_have_one_scale_for_all_frames():
    depths = np.linspace(0, 1, 64)[None, None] + np.zeros((3, 48, 64))
    depths[1] *= 0.5
    first, second, third = depth_frames(depths, SIZE)
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(second[:, 640:], first[:, 640:])  # the bar
    np.testing.assert_allclose(second[200, 600].astype(int), first[200, 300], atol=12)  # half as deep at twice as far
    places = np.stack([depths, 1 - depths, depths * 0], -1).astype(np.float16)
    first, second, _ = canonical_frames(places, SIZE)
    assert first[200, 5, 0] < 10 < 240 < first[200, 635, 0] and first[200, 5, 1] > 240 > 10 > first[200, 635, 1]
    np.testing.assert_allclose(second[200, 600].astype(int), first[200, 300], atol=6)


def test_flow_frames_share_a_scale_and_its_legend():
    flow = np.zeros((2, 48, 64, 2), np.float16)
    flow[1, ..., 0] = 5
    still, moving = flow_frames(flow, SIZE)
    assert still.shape == (480, 640 + LEGEND_WIDTH, 3)
    assert (still[:, :640] == 255).all() and (moving[:, :640] == flow_to_color(np.array([[[5.0, 0.0]]]))[0, 0]).all()
    np.testing.assert_array_equal(still[:, 640:], moving[:, 640:])


def test_the_legend_is_the_wheel_that_colours_flow():
    picture = with_flow_legend(np.zeros((240, 320, 3), np.uint8), 7.0)
    disc = picture[:, 320:]
    ys, xs = np.nonzero(np.ptp(disc.astype(int), axis=-1) > 20)
    centre, radius = (xs.min() + xs.max()) / 2, (xs.max() - xs.min()) / 2
    middle = (ys.min() + ys.max()) / 2
    for direction in ([1, 0], [0, 1], [-1, 0], [0, -1], [0.6, 0.8]):
        x, y = np.round(np.array([centre, middle]) + 0.9 * radius * np.array(direction)).astype(int)
        expected = flow_to_color(np.array([[direction]]) * 0.9 * 7, 7.0)[0, 0].astype(int)
        np.testing.assert_allclose(disc[y, x].astype(int), expected, atol=12)


def test_middleburys_wheel_has_its_corner_colours():
    turn = np.array([0, 15, 21, 25, 36, 49]) / 55 * 2 * np.pi  # steps of the published wheel: RY 15, YG 6, GC 4, …
    colors = flow_to_color(np.stack([np.cos(turn), np.sin(turn)], -1)[None], 1.0)[0].astype(int)
    expected = [[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]]
    np.testing.assert_allclose(colors, expected, atol=2)


def test_hue_turns_with_the_angle_about_the_median_point():
    angles = np.arange(0, 2 * np.pi, np.pi / 3)
    ring = np.stack([np.cos(angles), np.sin(angles)], -1) * 100 + (300, 200)
    colors = draw.angle_colors(np.concatenate([ring, [[300, 200]]]))
    expected = [[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]]
    np.testing.assert_array_equal(colors[:6], expected)
    assert colors[6].min() > 120  # pale in the middle
    assert draw.angle_colors(np.zeros((0, 2))).shape == (0, 3)


def test_jet_runs_from_the_highest_point_to_the_lowest():
    colors = draw.jet_colors(np.array([[5.0, 300.0], [9.0, 2.0], [1.0, 150.0]])).astype(int)
    assert colors[1, 2] > 100 > colors[1, 0] and colors[0, 0] > 100 > colors[0, 2] and colors[2, 1] > 200
