"""Occlusion votes on squares that pass in front of one another, with exact flow."""

import numpy as np
import pytest

from loaders.depth_prior import FAR, NEAR, TRACK_GAPS, estimate_depth_prior, occlusion_votes, sum_along_tracks
from loaders.flow_store import FlowStore, PairMask

HEIGHT, WIDTH, NUM_FRAMES = 48, 72, 12
BACKGROUND, MIDDLE, FRONT = range(3)
SPEED = np.array([-1, 3, -3])  # pixels a frame to the right


class PassingSquares(FlowStore):
    """A square passes behind another; all flow is known, and consistent where the point is visible in both frames."""

    def __init__(self):
        self.size, self.known = (HEIGHT, WIDTH), ~np.eye(NUM_FRAMES, dtype=bool)

    def layers(self, i: int) -> np.ndarray:
        layers = np.full(self.size, BACKGROUND)
        layers[14:36, 10 + 3 * i : 28 + 3 * i] = MIDDLE
        layers[18:40, 46 - 3 * i : 64 - 3 * i] = FRONT
        return layers

    def flow(self, i: int, j: int) -> np.ndarray:
        across = SPEED[self.layers(i)] * (j - i)
        return np.stack([across, np.zeros_like(across)], -1).astype(np.float32)

    def mask(self, i: int, j: int) -> PairMask:
        here = self.layers(i)
        rows, columns = np.indices(self.size)
        columns = columns + SPEED[here] * (j - i)
        inside = (columns >= 0) & (columns < WIDTH)
        visible = inside & (self.layers(j)[rows, columns.clip(0, WIDTH - 1)] == here)
        return PairMask(visible, np.zeros_like(visible))


class NoFlow(PassingSquares):
    def __init__(self):
        super().__init__()
        self.known[:] = False


def test_the_front_occludes_and_the_background_is_occluded():
    store = PassingSquares()
    votes = occlusion_votes(store)
    sums = np.stack([sum_along_tracks(store, i, list(votes)) for i in range(NUM_FRAMES)], 1)
    layers = np.stack([store.layers(i) for i in range(NUM_FRAMES)])
    occluder, occluded = (
        np.array([part[layers == layer].sum() for layer in (FRONT, MIDDLE, BACKGROUND)]) for part in sums
    )
    front, middle, background = occluded / (occluder + occluded)
    assert front < 0.06 < 0.2 < middle < 0.4 < 0.6 < background, "rounding and blur move some across an edge"


def test_rescued_pixels_count_as_occluded():
    class Rescued(PassingSquares):
        def mask(self, i: int, j: int) -> PairMask:
            consistent = super().mask(i, j).consistent
            return PairMask(consistent, ~consistent)

    np.testing.assert_array_equal(occlusion_votes(Rescued()), occlusion_votes(PassingSquares()))


def test_depth_follows_the_order_of_occlusion():
    store = PassingSquares()
    depth = estimate_depth_prior(store)
    assert depth.dtype == np.float32 and depth.shape == (NUM_FRAMES, HEIGHT, WIDTH)
    for i in range(NUM_FRAMES):
        front, middle, background = (depth[i][store.layers(i) == layer] for layer in (FRONT, MIDDLE, BACKGROUND))
        assert np.nanmedian(front) == pytest.approx(NEAR, abs=0.05) and np.nanmedian(background) == FAR
        if i not in (5, 6, 7):  # nearly all that is visible of the middle square then is never occluded
            assert np.nanmean(front) + 0.1 < np.nanmean(middle) < FAR - 0.4


def test_sums_along_a_track_by_hand():
    store = PassingSquares()
    ones = np.ones((NUM_FRAMES, HEIGHT, WIDTH))
    ones[4, 38, 46 - 3 * 4 + 5] = 100
    (sums,) = sum_along_tracks(store, 2, [ones])
    always_visible = sums[38, 46 - 3 * 2 + 5]  # a point of the front square
    frames = [2 + sign * gap for gap in TRACK_GAPS for sign in (-1, 1) if 0 <= 2 + sign * gap < NUM_FRAMES]
    assert 4 in frames and always_visible == 1 + (len(frames) - 1) + 100
    assert sums.min() >= 1, "a point's own frame counts"


def test_without_flow_there_are_no_votes():
    votes = occlusion_votes(NoFlow())
    assert not votes[0].any() and not votes[1].any()
    assert np.isnan(estimate_depth_prior(NoFlow())).all()


@pytest.mark.parametrize("side", [0, 1])
def test_leaving_the_image_is_no_occlusion(side):
    """The background leaves on the left, and enters on the right."""
    occluded = occlusion_votes(PassingSquares())[1]
    assert occluded[:, :10, (0, -6)[side] : (6, WIDTH)[side]].max() < 0.01 < occluded.max()
