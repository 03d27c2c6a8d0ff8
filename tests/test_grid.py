"""Points in two frames beside each other, read off the pixels."""

import numpy as np
import pytest

from tests.pictures import GREY, RED, blank, redness, touched
from visualization.grid import draw_correspondences, draw_grid


def test_pairs_show_the_query_beside_each_frame_with_dots_and_crosses():
    video = blank(2, 96, 160)
    tracks = np.array([[[20.0, 30.0], [40, 60]], [[60.0, 30.0], [900, 60]]])
    occluded = np.array([[False, True], [False, True]])
    drawn = np.stack(list(draw_grid(video[0], "query", tracks[0], video, tracks, occluded, np.repeat(RED, 2, 0), 6)))
    assert drawn.shape == (2, 384, 2 * 640 + 2, 3) and (video == GREY).all()
    np.testing.assert_array_equal(drawn[0, :, :640], drawn[1, :, :640])
    for frame, px in zip(drawn[:, :250, 642:], tracks[:, 0], strict=True):
        ys, xs = np.nonzero(redness(frame[:180]) > 100)
        np.testing.assert_allclose([xs.mean(), ys.mean()], (px + 0.5) * 4 - 0.5, atol=0.2)
    x, y = (40 + 0.5) * 4 - 0.5, (60 + 0.5) * 4 - 0.5
    above = round(y) - 4, round(x)
    assert redness(drawn[0, :, :640])[above] > 200 > redness(drawn[0, :, 642:])[above]  # a dot and a cross
    assert not touched(drawn[1, 200:, 642:], 2).any()  # outside the image


@pytest.mark.parametrize(("height", "width", "shape"), [(480, 640, (960, 640, 3)), (640, 480, (640, 960, 3))])
def test_correspondences_join_both_frames(height, width, shape):
    frame = np.full((height, width, 3), GREY, np.uint8)
    px = np.array([[100.0, 200.0]])
    picture = draw_correspondences(frame, frame, px, px, np.array([False]))
    assert picture.shape == shape
    second = np.array([0, height]) if shape[0] > height else np.array([width, 0])
    ends = px[0], px[0] + second
    for share in np.linspace(0, 1, 9):
        x, y = np.round(ends[0] * (1 - share) + ends[1] * share).astype(int)
        assert touched(picture)[y, x]
    occluded = draw_correspondences(frame, frame, px, px, np.array([True]))
    np.testing.assert_array_equal(occluded[:height, :width], picture[:height, :width])
    assert (occluded != picture).any()
