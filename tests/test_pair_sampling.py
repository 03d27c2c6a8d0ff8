"""Pairs and pixels come with the stated probabilities."""

import numpy as np
import pytest

from loaders import pair_sampling
from loaders.pair_sampling import choose_pixels, cycled_frames, draw_pixels, pair_weight, partner_probabilities
from tests.oracles.pixel_sets import DRAWS, VALID, WEIGHTS, assert_distribution, set_probabilities


def test_frames_cycle():
    frames = cycled_frames(0, 60, 6, seed=1).reshape(10, 6)
    assert (np.sort(frames, 1) == np.arange(6)).all()
    assert len({tuple(order) for order in frames}) > 1, "each cycle has an order of its own"
    assert (cycled_frames(13, 9, 6, seed=1) == frames.ravel()[13:22]).all()


def test_partner_probabilities_by_hand():
    counts = np.zeros((6, 6), int)
    counts[2] = [30, 50, 0, 10, 10, 99]
    # Within gap 2: 30, 50, -, 10, 10 of 100; adjacent frames get 0.5 each, and all are normalised again.
    expected = np.array([0.3, 0.5, 0.0, 0.5, 0.1, 0.0]) / 1.4
    np.testing.assert_allclose(partner_probabilities(2, counts, max_gap=2), expected)


def test_a_frame_without_valid_flow_keeps_its_adjacent_frames():
    np.testing.assert_allclose(partner_probabilities(0, np.zeros((4, 4), int), 3), [0, 1, 0, 0])


def test_pair_weight_falls_with_the_gap():
    assert pair_weight(1, 20) == 1.0
    np.testing.assert_allclose(pair_weight(11, 20), np.cos(np.pi / 4))


def test_pixels_are_chosen_by_weight_without_repeats():
    rng = np.random.default_rng(0)
    valid = np.ones((10, 10), bool)
    valid[:, 5:] = False
    weights = np.ones((10, 10))
    weights[0] = 50
    hits = np.zeros(100)
    for _ in range(400):
        index = choose_pixels(valid, weights, 5, rng)
        assert len(set(index)) == 5
        hits[index] += 1
    image = hits.reshape(10, 10)
    assert (image[:, 5:] == 0).all()
    assert image[0, :5].mean() > 10 * image[1:, :5].mean()


def test_few_valid_pixels_are_repeated():
    valid = np.zeros((4, 4), bool)
    valid[1, 2] = valid[3, 3] = True
    index = choose_pixels(valid, np.ones((4, 4)), 5, np.random.default_rng(0))
    assert set(index) == {6, 15} and len(index) == 5


@pytest.mark.parametrize("few,rounds", [(0, 8), (0, 1), (100, 8)], ids=["rejection", "both", "reservoir"])
@pytest.mark.parametrize("weights", [WEIGHTS, np.ones_like(WEIGHTS)], ids=["weights", "uniform"])
def test_sets_of_pixels_come_as_often_as_stated(monkeypatch, few, rounds, weights):
    monkeypatch.setattr(pair_sampling, "FEW_PIXELS", few)
    monkeypatch.setattr(pair_sampling, "MAX_ROUNDS", rounds)
    rng, cumulative = np.random.default_rng(1), np.cumsum(weights)
    drawn = [draw_pixels(VALID, cumulative, 3, rng) for _ in range(DRAWS)]
    assert all(len(set(pixels.tolist())) == 3 for pixels in drawn)
    assert_distribution(set_probabilities(weights, VALID, 3), [frozenset(pixels.tolist()) for pixels in drawn])


def test_the_test_detects_a_wrong_distribution():
    """Restarting after too few rounds would favour sets without heavy pixels, which repeat."""
    rng, valid = np.random.default_rng(1), np.flatnonzero(VALID)
    p = WEIGHTS.ravel()[valid] / WEIGHTS.ravel()[valid].sum()
    drawn: list[frozenset[int]] = []
    while len(drawn) < DRAWS:
        pixels = frozenset(rng.choice(valid, 3, p=p).tolist())
        drawn += [pixels] * (len(pixels) == 3)
    with pytest.raises(AssertionError):
        assert_distribution(set_probabilities(WEIGHTS, VALID, 3), drawn)


def test_large_images_give_the_number_wanted():
    valid = np.zeros((200, 200), bool)
    valid[:100] = True
    weights = np.where(valid, 1e-6, 1.0)  # nothing valid is likely: rejection finds almost none
    index = draw_pixels(valid, np.cumsum(weights), 256, np.random.default_rng(0))
    assert len(set(index.tolist())) == 256 and valid.ravel()[index].all()
