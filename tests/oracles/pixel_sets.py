"""Probabilities of drawing sets of pixels without replacement, by enumeration."""

from itertools import permutations

import numpy as np
import pytest

from loaders.batches import PairBatches
from loaders.flow_store import PairMask
from loaders.mapped_flow import MappedFlowStore

VALID = np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
WEIGHTS = np.array([[1.0, 4, 50, 2], [9, 0.5, 8, 20]])  # the heaviest are not valid
DRAWS = 20_000


class SmallStore(MappedFlowStore):
    """Three frames of 2 x 4 pixels, of which the first and the last have flow: 0, valid where `VALID`."""

    def __init__(self):
        self.valid_counts = np.array([[0, 0, 5], [0, 0, 0], [5, 0, 0]])

    def count_map(self, i: int) -> np.ndarray:
        return np.array([[0, 3, 0, 1], [8, 24, 5, 2]], np.uint16)

    def mask(self, i: int, j: int) -> PairMask:
        return PairMask(VALID, np.zeros_like(VALID))

    def flow_at(self, i: int, j: int, mask: PairMask, index: np.ndarray) -> np.ndarray:
        return np.zeros((len(index), 2), np.float32)

    def packed(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        planes = np.packbits(np.stack([VALID, np.zeros_like(VALID)]).reshape(2, -1), axis=1)
        return planes, np.zeros((VALID.sum(), 2), np.int16)


def set_probabilities(weights: np.ndarray, valid: np.ndarray, count: int) -> dict[frozenset[int], float]:
    """P of every set of `count` valid pixels, each drawn with P ∝ weight among those that are left."""
    probabilities: dict[frozenset[int], float] = {}
    weights = weights.ravel()
    for sequence in permutations(np.flatnonzero(valid).tolist(), count):
        left, p = weights[valid.ravel()].sum(), 1.0
        for pixel in sequence:
            p *= weights[pixel] / left
            left -= weights[pixel]
        probabilities[frozenset(sequence)] = probabilities.get(frozenset(sequence), 0.0) + p
    return probabilities


def assert_distribution(probabilities: dict[frozenset[int], float], drawn: list[frozenset[int]]) -> None:
    """Pearson's χ² of the counts lies within five standard deviations of its mean, and no other set was drawn."""
    assert set(drawn) <= set(probabilities)
    expected = np.array(list(probabilities.values())) * len(drawn)
    observed = np.array([drawn.count(pixels) for pixels in probabilities])
    assert expected.sum() == pytest.approx(len(drawn)) and expected.min() > 5
    freedom = len(probabilities) - 1
    assert ((observed - expected) ** 2 / expected).sum() < freedom + 5 * np.sqrt(2 * freedom)


def assert_batches_draw(batches: PairBatches, by_error: bool, draws: int = DRAWS) -> None:
    """Sets of four pixels of frame 0 of `SmallStore` come by `WEIGHTS` as error map, or by the count map."""
    rng, drawn = np.random.default_rng(2), []
    for _ in range(draws):
        x, y = np.asarray(batches.draw_correspondences(0, 2, rng).px).astype(int).T
        drawn.append((4 * y + x).tolist())
    if by_error:  # half by error, half uniform; the halves may share a pixel
        for half, weights in ((slice(0, 2), WEIGHTS), (slice(2, 4), np.ones_like(WEIGHTS))):
            assert_distribution(set_probabilities(weights, VALID, 2), [frozenset(pixels[half]) for pixels in drawn])
    else:
        weights = 1 / np.sqrt(SmallStore().count_map(0) + 1.0)
        assert_distribution(set_probabilities(weights, VALID, 4), [frozenset(pixels) for pixels in drawn])
