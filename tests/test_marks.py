"""Marks on pictures, read off the pixels."""

import numpy as np
import pytest

from tests.pictures import GREY, RED, SIZE, blank, redness, touched
from visualization.marks import draw_marks, enlarge


def marked(px: tuple[float, float], occluded: bool, radius: float = 6) -> np.ndarray:
    canvas = blank(1)[0]
    draw_marks(canvas, np.array([px], float), np.array([occluded]), RED, radius)
    return canvas


def test_a_visible_point_is_a_disc_and_an_occluded_one_a_cross():
    dot, cross = redness(marked((100, 50), False)) > 200, redness(marked((100, 50), True)) > 200
    up, diagonal = (50 - 4, 100), (50 - 4, 100 - 4)
    assert dot[50, 100] and dot[up] and dot[50, 104]
    assert cross[50, 100] and cross[diagonal]
    assert not cross[up] and not cross[50, 104]


@pytest.mark.parametrize("occluded", [False, True])
def test_marks_have_a_dark_edge(occluded):
    image = marked((100, 50), occluded)
    assert (image.max(-1)[touched(image)] < 70).any()


@pytest.mark.parametrize("occluded", [False, True])
@pytest.mark.parametrize("px", [(100.0, 50.0), (100.25, 50.75), (33.5, 47.5)])
def test_marks_lie_on_their_point_to_a_fraction_of_a_pixel(px, occluded):
    weight = np.abs(marked(px, occluded).astype(float) - GREY).sum(-1)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    centre = (weight * xs).sum() / weight.sum(), (weight * ys).sum() / weight.sum()
    np.testing.assert_allclose(centre, px, atol=0.15)


@pytest.mark.parametrize("px", [(-9, 50), (650, 50), (50, -9), (50, 490), (np.nan, 50), (1e12, np.inf)])
def test_points_outside_the_image_are_not_drawn(px):
    for occluded in (False, True):
        assert not touched(marked(px, occluded)).any()


def test_enlarging_moves_points_with_the_pixels_they_are_in():
    image = np.zeros((96, 160, 3), np.uint8)
    image[40, 70] = 255
    large, px = enlarge(image, np.array([[70, 40]]))
    assert large.shape == (384, 640, 3)
    ys, xs = np.mgrid[:384, :640]
    weight = large[..., 0].astype(float)
    np.testing.assert_allclose(px[0], [(weight * xs).sum() / weight.sum(), (weight * ys).sum() / weight.sum()])


def test_a_large_image_keeps_its_size_and_its_points():
    image, points = blank(1)[0], np.array([[3.25, 4.5]])
    same, px = enlarge(image, points)
    assert same.shape == image.shape
    np.testing.assert_array_equal(px, points)
