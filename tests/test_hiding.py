"""Who hides whom, on squares that pass before one another with flow that is exact."""

import numpy as np
import pytest

from loaders.depth_prior import FAR, NEAR, TRACK_GAPS, along_tracks, estimate_depth_prior, occlusion_votes
from loaders.flow_store import FlowStore, PairMask

HEIGHT, WIDTH, NUM_FRAMES = 48, 72, 12
BACKGROUND, BEHIND, BEFORE = range(3)
SPEED = np.array([-1, 3, -3])  # pixels a frame to the right


class PassingSquares(FlowStore):
    """A square passes behind another one; all flow is known, and valid where the point is seen in both frames."""

    def __init__(self):
        self.size, self.known = (HEIGHT, WIDTH), ~np.eye(NUM_FRAMES, dtype=bool)

    def layers(self, i: int) -> np.ndarray:
        layers = np.full(self.size, BACKGROUND)
        layers[14:36, 10 + 3 * i : 28 + 3 * i] = BEHIND
        layers[18:40, 46 - 3 * i : 64 - 3 * i] = BEFORE
        return layers

    def flow(self, i: int, j: int) -> np.ndarray:
        across = SPEED[self.layers(i)] * (j - i)
        return np.stack([across, np.zeros_like(across)], -1).astype(np.float32)

    def mask(self, i: int, j: int) -> PairMask:
        here = self.layers(i)
        rows, columns = np.indices(self.size)
        columns = columns + SPEED[here] * (j - i)
        inside = (columns >= 0) & (columns < WIDTH)
        seen = inside & (self.layers(j)[rows, columns.clip(0, WIDTH - 1)] == here)
        return PairMask(seen, np.zeros_like(seen))


class NoFlow(PassingSquares):
    def __init__(self):
        super().__init__()
        self.known[:] = False


def test_what_is_in_front_hides_and_what_is_behind_is_hidden():
    store = PassingSquares()
    votes = occlusion_votes(store)
    sums = np.stack([along_tracks(store, i, votes) for i in range(NUM_FRAMES)], 1)
    layers = np.stack([store.layers(i) for i in range(NUM_FRAMES)])
    hides, hidden = (np.array([of[layers == layer].sum() for layer in (BEFORE, BEHIND, BACKGROUND)]) for of in sums)
    before, behind, background = hidden / (hides + hidden)
    assert before < 0.06 < 0.2 < behind < 0.4 < 0.6 < background, "rounding and blur move some across a border"


def test_what_is_hidden_counts_though_its_motion_is_believed():
    class Rescued(PassingSquares):
        def mask(self, i: int, j: int) -> PairMask:
            seen = super().mask(i, j).consistent
            return PairMask(seen, ~seen)

    np.testing.assert_array_equal(occlusion_votes(Rescued()), occlusion_votes(PassingSquares()))


def test_depth_is_expected_in_the_order_in_which_they_hide_each_other():
    store = PassingSquares()
    depth = estimate_depth_prior(store)
    assert depth.dtype == np.float32 and depth.shape == (NUM_FRAMES, HEIGHT, WIDTH)
    for i in range(NUM_FRAMES):
        before, behind, background = (depth[i][store.layers(i) == layer] for layer in (BEFORE, BEHIND, BACKGROUND))
        assert np.nanmedian(before) == pytest.approx(NEAR, abs=0.05) and np.nanmedian(background) == FAR
        if i not in (5, 6, 7):  # nearly all that is seen of it then is never hidden
            assert np.nanmean(before) + 0.1 < np.nanmean(behind) < FAR - 0.4


def test_what_is_summed_along_a_track_by_hand():
    store = PassingSquares()
    ones = np.ones((NUM_FRAMES, HEIGHT, WIDTH))
    ones[4, 38, 46 - 3 * 4 + 5] = 100
    (sums,) = along_tracks(store, 2, [ones])
    never_hidden = sums[38, 46 - 3 * 2 + 5]  # of the square in front: seen in all frames that it is asked for
    frames = [2 + sign * gap for gap in TRACK_GAPS for sign in (-1, 1) if 0 <= 2 + sign * gap < NUM_FRAMES]
    assert 4 in frames and never_hidden == 1 + (len(frames) - 1) + 100
    assert sums.min() >= 1, "a point's own frame counts"


def test_without_flow_nothing_is_known():
    votes = occlusion_votes(NoFlow())
    assert not votes[0].any() and not votes[1].any()
    assert np.isnan(estimate_depth_prior(NoFlow())).all()


@pytest.mark.parametrize("side", [0, 1])
def test_what_leaves_the_picture_is_not_hidden(side):
    """The background leaves on the left, and comes in on the right."""
    hidden = occlusion_votes(PassingSquares())[1]
    assert hidden[:, :10, (0, -6)[side] : (6, WIDTH)[side]].max() < 0.01 < hidden.max()
