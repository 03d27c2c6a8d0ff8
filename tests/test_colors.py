"""Colours of points, flow and depth, and their legends."""

import numpy as np

from tests.pictures import SIZE
from visualization.colors import angle_colors, depth_to_color, flow_to_color, jet_colors, point_colors, spread_colors
from visualization.legends import with_depth_bar, with_flow_wheel
from visualization.query_points import grid_points


def test_neighbours_on_a_grid_have_different_colours_and_close_points_similar_ones():
    px = grid_points(*SIZE, 300)
    colors = point_colors(px, *SIZE)
    assert colors.dtype == np.uint8 and colors.shape == (len(px), 3)
    assert len(np.unique(colors, axis=0)) == len(px)
    moved = point_colors(px + 1, *SIZE).astype(int)
    assert np.abs(moved - colors).max() < 10


def test_a_small_object_uses_the_whole_rainbow():
    px = np.stack(np.meshgrid(np.arange(300, 330), np.arange(200, 220)), -1).reshape(-1, 2)
    assert np.ptp(spread_colors(px), axis=0).min() > 150 > np.ptp(point_colors(px, *SIZE), axis=0).max()


def test_hue_turns_with_the_angle_about_the_median_point():
    angles = np.arange(0, 2 * np.pi, np.pi / 3)
    ring = np.stack([np.cos(angles), np.sin(angles)], -1) * 100 + (300, 200)
    colors = angle_colors(np.concatenate([ring, [[300, 200]]]))
    expected = [[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]]
    np.testing.assert_array_equal(colors[:6], expected)
    assert colors[6].min() > 120  # pale in the middle
    assert angle_colors(np.zeros((0, 2))).shape == (0, 3)


def test_jet_runs_from_the_highest_point_to_the_lowest():
    colors = jet_colors(np.array([[5.0, 300.0], [9.0, 2.0], [1.0, 150.0]])).astype(int)
    assert colors[1, 2] > 100 > colors[1, 0] and colors[0, 0] > 100 > colors[0, 2] and colors[2, 1] > 200


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


def test_middleburys_wheel_has_its_corner_colours():
    turn = np.array([0, 15, 21, 25, 36, 49]) / 55 * 2 * np.pi  # steps of the published wheel: RY 15, YG 6, GC 4, …
    colors = flow_to_color(np.stack([np.cos(turn), np.sin(turn)], -1)[None], 1.0)[0].astype(int)
    expected = [[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]]
    np.testing.assert_allclose(colors, expected, atol=2)


def test_the_legend_is_the_wheel_that_colours_flow():
    picture = with_flow_wheel(np.zeros((240, 320, 3), np.uint8), 7.0)
    disc = picture[:, 320:]
    ys, xs = np.nonzero(np.ptp(disc.astype(int), axis=-1) > 20)
    centre, radius = (xs.min() + xs.max()) / 2, (xs.max() - xs.min()) / 2
    middle = (ys.min() + ys.max()) / 2
    for direction in ([1, 0], [0, 1], [-1, 0], [0, -1], [0.6, 0.8]):
        x, y = np.round(np.array([centre, middle]) + 0.9 * radius * np.array(direction)).astype(int)
        expected = flow_to_color(np.array([[direction]]) * 0.9 * 7, 7.0)[0, 0].astype(int)
        np.testing.assert_allclose(disc[y, x].astype(int), expected, atol=12)


def test_near_is_red_far_is_blue_and_the_bar_says_so():
    near, far = depth_to_color(np.array([[0.0, 2.0]]), 0.0, 2.0)[0].astype(int)
    assert near[0] > near[2] + 60 and far[2] > far[0] + 60
    picture = with_depth_bar(np.zeros((96, 160, 3), np.uint8), 0.0, 2.0, "depth")
    assert picture.shape[0] == 384 and picture.shape[1] > 640
    bar = picture[:, 640:]
    column = bar[:, 25]
    colored = np.flatnonzero(np.ptp(column.astype(int), axis=-1) > 60)
    np.testing.assert_allclose(column[colored[0] + 2], near, atol=12)
    np.testing.assert_allclose(column[colored[-1] - 2], far, atol=12)
    assert (bar.max(-1) < 60).sum() > 100  # tick labels, in black


def test_constant_depth_is_no_error():
    assert depth_to_color(np.ones((2, 3)), 1.0, 1.0).shape == (2, 3, 3)
