"""Dense pictures: their size and their one scale for all frames."""

import numpy as np
import pytest

from tests.pictures import SIZE
from visualization.colors import flow_to_color
from visualization.dense import canonical_frames, color_frames, depth_frames, evenly_spread_px, flow_frames
from visualization.legends import WHEEL_WIDTH


@pytest.mark.parametrize(("longest", "shape"), [(None, (6, 10)), (100, (6, 10)), (5, (3, 5))])
def test_dense_points_are_pixels_or_the_centres_of_equal_cells(longest, shape):
    px, found = evenly_spread_px((6, 10), longest)
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


def test_depth_and_canonical_coordinates_have_one_scale_for_all_frames():
    depths = np.linspace(0, 1, 64)[None, None] + np.zeros((3, 48, 64))
    depths[1] *= 0.5
    first, second, third = depth_frames(depths, SIZE)
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(second[:, 640:], first[:, 640:])  # the bar
    np.testing.assert_allclose(second[200, 600].astype(int), first[200, 300], atol=12)  # half as deep at twice as far
    positions = np.stack([depths, 1 - depths, depths * 0], -1).astype(np.float16)
    first, second, _ = canonical_frames(positions, SIZE)
    assert first[200, 5, 0] < 10 < 240 < first[200, 635, 0] and first[200, 5, 1] > 240 > 10 > first[200, 635, 1]
    np.testing.assert_allclose(second[200, 600].astype(int), first[200, 300], atol=6)


def test_flow_frames_share_a_scale_and_its_legend():
    flow = np.zeros((2, 48, 64, 2), np.float16)
    flow[1, ..., 0] = 5
    still, moving = flow_frames(flow, SIZE)
    assert still.shape == (480, 640 + WHEEL_WIDTH, 3)
    assert (still[:, :640] == 255).all() and (moving[:, :640] == flow_to_color(np.array([[[5.0, 0.0]]]))[0, 0]).all()
    np.testing.assert_array_equal(still[:, 640:], moving[:, 640:])
