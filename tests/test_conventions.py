"""Each conversion between a benchmark's coordinates and ours, on positions whose meaning is known beforehand."""

import cv2
import numpy as np
import pytest

from utils.conventions import (
    BADJA_SIZE,
    corner_from_px,
    napari_from_px,
    nuke_from_px,
    px_from_badja,
    px_from_corner,
    px_from_unit,
    raster_from_px,
    scale_points,
    scene_from_px,
    stmap_from_px,
    tapvid_queries,
    to_opengl_axes,
)

SIZE = (96, 160)  # height, width
CORNERS = np.array([[-0.5, -0.5], [159.5, 95.5]])  # outer edges of the image, in our pixels


def test_the_raster_spans_the_outer_edges():
    np.testing.assert_allclose(raster_from_px(CORNERS, SIZE), [[0, 0], [256, 256]])
    np.testing.assert_allclose(raster_from_px(np.array([0, 0]), (256, 256)), [0.5, 0.5])  # the first pixel's centre


def test_unit_coordinates_span_the_outer_edges():
    np.testing.assert_allclose(px_from_unit(np.array([[0, 0], [1, 1]]), SIZE), CORNERS)
    # TAP-Vid scores positions on the raster as stored times 256.
    stored = np.random.default_rng(0).random((5, 3, 2))
    np.testing.assert_allclose(raster_from_px(px_from_unit(stored, SIZE), SIZE), stored * 256)


def test_the_first_pixels_centre_is_0_for_us_and_a_half_for_others():
    assert px_from_corner(np.array([0.5, 3.5], np.float32)).tolist() == [0, 3]


def test_badja_is_row_column_and_a_resized_picture_agrees():
    """A bright square of the full picture, labelled by its middle pixel, is where the resized picture is brightest."""
    row, column = 712, 1234
    picture = np.zeros(BADJA_SIZE, np.float32)
    picture[row - 10 : row + 11, column - 10 : column + 11] = 1
    small = cv2.resize(picture, (240, 135), interpolation=cv2.INTER_AREA).astype(np.float64)
    ys, xs = np.mgrid[:135, :240]
    mass = [(small * grid).sum() / small.sum() for grid in (xs, ys)]
    # Half a pixel of the large picture is 0.06 here, and a corner taken for a centre would be 0.44.
    np.testing.assert_allclose(px_from_badja(np.array([[row, column]]), (135, 240))[0], mass, atol=0.06)


def test_scaling_there_and_back_is_the_identity_and_keeps_the_type():
    points = np.random.default_rng(1).uniform(0, 90, (4, 2)).astype(np.float32)
    there = scale_points(points, SIZE, (48, 320))
    assert there.dtype == np.float32
    np.testing.assert_allclose(scale_points(there, (48, 320), SIZE), points, rtol=1e-5)


def test_nuke_counts_from_the_lower_left_corner():
    first_and_last = np.array([[0, 0], [159, 95]])
    there = nuke_from_px(np.concatenate([first_and_last, CORNERS]), 96)
    np.testing.assert_allclose(there, [[0.5, 95.5], [159.5, 0.5], [0.0, 96.0], [160.0, 0.0]])


def test_positions_in_after_effects_and_rerun_count_from_the_upper_left_corner():
    np.testing.assert_allclose(corner_from_px(CORNERS), [[0, 0], [160, 96]])
    np.testing.assert_allclose(corner_from_px(np.array([[0, 0], [159, 95]], np.float32)), [[0.5, 0.5], [159.5, 95.5]])


def test_napari_is_row_column_with_whole_numbers_at_pixel_centres():
    """As an array is indexed: the pixel at row 3, column 7 of an image shows the point (3, 7)."""
    assert napari_from_px(np.array([[7.0, 3.0], [0, 0]])).tolist() == [[3, 7], [0, 0]]


def test_blenders_markers_are_edge_to_edge_from_the_lower_left_corner():
    np.testing.assert_allclose(stmap_from_px(np.array([[39.5, 71.5]]), SIZE), [[0.25, 0.25]])  # 40 of 160, 24 of 96


@pytest.mark.parametrize(
    ("size", "corners"), [((96, 160), [[-1, 0.6], [1, -0.6]]), ((160, 96), [[-0.6, 1], [0.6, -1]])]
)
def test_a_view_2_wide_shows_the_image_before_an_orthographic_camera(size, corners):
    edges = np.array([[-0.5, -0.5], [size[1] - 0.5, size[0] - 0.5]])
    there = scene_from_px(edges, np.array([0.25, 1.5]), size)
    np.testing.assert_allclose(there[:, :2], corners)
    assert there[:, 2].tolist() == [-0.25, -1.5]  # the nearer point is nearer to a camera that looks along -z
    middle = scene_from_px(np.array([size[1] / 2 - 0.5, size[0] / 2 - 0.5]), np.array(1.0), size)
    np.testing.assert_allclose(middle, [0, 0, -1])


def test_an_stmap_looks_up_edge_to_edge_with_v_upwards():
    np.testing.assert_allclose(stmap_from_px(CORNERS, SIZE), [[0, 1], [1, 0]])
    np.testing.assert_allclose(stmap_from_px(np.array([[79.5, 71.5]]), SIZE), [[0.5, 0.25]])


def test_tapvid_queries_are_time_row_column_on_the_raster():
    assert tapvid_queries(np.array([[3, 10, 20]], np.float32)).tolist() == [[3, 20.5, 10.5]]
    positions = np.array([[10.25, 7], [-3, 2]], np.float32)
    np.testing.assert_array_equal(px_from_corner(corner_from_px(positions)), positions)


def test_upright_points_are_turned_not_mirrored():
    x_right, y_down, z_away = np.eye(3)
    right, down, away = to_opengl_axes(np.stack([x_right, y_down, z_away]))
    assert down.tolist() == [0, -1, 0] and away.tolist() == [0, 0, -1]
    np.testing.assert_allclose(np.cross(right, down), away)
