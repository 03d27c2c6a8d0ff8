"""Pixels drawn from the whole image follow the law of drawing one by one among the valid ones."""

from dataclasses import fields
from itertools import permutations

import numpy as np
import pytest
import torch

from loaders import pair_sampling
from loaders.batches import Batch, FlowBatches, SamplingConfig
from loaders.clip import colors_at, load_video
from loaders.flow_store import FlowStore, PairMask
from loaders.pair_sampling import draw_pixels
from preprocessing.sequence_paths import SequencePaths
from tests.oracles.plain_loader import PlainBatches
from utils.coords import sample_bilinear

VALID = np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
WEIGHTS = np.array([[1.0, 4, 50, 2], [9, 0.5, 8, 20]])  # the heaviest are not valid
DRAWS = 20_000


def ordered_law(weights: np.ndarray, valid: np.ndarray, count: int) -> dict[tuple[int, ...], float]:
    """P of every sequence of `count` different valid pixels: each drawn with P ∝ weight among what is left."""
    law, weights = {}, weights.ravel()
    for sequence in permutations(np.flatnonzero(valid).tolist(), count):
        left, p = weights[valid.ravel()].sum(), 1.0
        for pixel in sequence:
            p *= weights[pixel] / left
            left -= weights[pixel]
        law[sequence] = p
    return law


def set_law(weights: np.ndarray, valid: np.ndarray, count: int) -> dict[frozenset, float]:
    """P of every set of `count` pixels, whatever their order."""
    law: dict[frozenset, float] = {}
    for sequence, p in ordered_law(weights, valid, count).items():
        law[frozenset(sequence)] = law.get(frozenset(sequence), 0.0) + p
    return law


def assert_drawn_by(law: dict[frozenset, float], drawn: list[frozenset]) -> None:
    """Pearson's χ² of the counts, within five standard deviations of its mean; nothing beside the law's sets."""
    assert set(drawn) <= set(law)
    expected = np.array(list(law.values())) * len(drawn)
    observed = np.array([drawn.count(pixels) for pixels in law])
    assert expected.sum() == pytest.approx(len(drawn)) and expected.min() > 5
    freedom = len(law) - 1
    assert ((observed - expected) ** 2 / expected).sum() < freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("few,rounds", [(0, 8), (0, 1), (100, 8)], ids=["image", "image, then keys", "keys"])
@pytest.mark.parametrize("weights", [WEIGHTS, np.ones_like(WEIGHTS)], ids=["weights", "uniform"])
def test_sets_of_pixels_come_as_often_as_stated(monkeypatch, few, rounds, weights):
    monkeypatch.setattr(pair_sampling, "FEW_PIXELS", few)
    monkeypatch.setattr(pair_sampling, "ROUNDS", rounds)
    rng, cumulative = np.random.default_rng(1), np.cumsum(weights)
    drawn = [draw_pixels(VALID, cumulative, 3, rng) for _ in range(DRAWS)]
    assert all(len(set(pixels.tolist())) == 3 for pixels in drawn)
    assert_drawn_by(set_law(weights, VALID, 3), [frozenset(pixels.tolist()) for pixels in drawn])


def test_the_test_sees_a_wrong_law():
    """Starting anew where the rounds were too few would favour sets without heavy pixels, which repeat."""
    rng, valid, law = np.random.default_rng(1), np.flatnonzero(VALID), set_law(WEIGHTS, VALID, 3)
    p = WEIGHTS.ravel()[valid] / WEIGHTS.ravel()[valid].sum()
    drawn = []
    while len(drawn) < DRAWS:
        pixels = frozenset(rng.choice(valid, 3, p=p).tolist())
        drawn += [pixels] * (len(pixels) == 3)
    with pytest.raises(AssertionError):
        assert_drawn_by(law, drawn)


class SmallStore:
    """Two frames further apart than neighbours, of 2 x 4 pixels; a third between them is never a partner."""

    valid_counts = np.array([[0, 0, 5], [0, 0, 0], [5, 0, 0]])

    def count_map(self, i: int) -> np.ndarray:
        return np.array([[0, 3, 0, 1], [8, 24, 5, 2]], np.uint16)

    def mask(self, i: int, j: int) -> PairMask:
        return PairMask(VALID, np.zeros_like(VALID))

    def flow_at(self, i: int, j: int, mask: PairMask, index: np.ndarray) -> np.ndarray:
        return np.zeros((len(index), 2), np.float32)


def assert_sets_come_as_stated(batches: FlowBatches, guided: bool) -> None:
    """Sets of four pixels of frame 0, drawn by error maps (`guided`) or by the count map."""
    rng, drawn = np.random.default_rng(2), []
    for _ in range(DRAWS):
        x, y = np.asarray(batches.correspondences(0, 2, rng).px).astype(int).T
        drawn.append((4 * y + x).tolist())
    if guided:  # half by error, half uniform; the halves may share a pixel
        for half, weights in ((slice(0, 2), WEIGHTS), (slice(2, 4), np.ones_like(WEIGHTS))):
            assert_drawn_by(set_law(weights, VALID, 2), [frozenset(pixels[half]) for pixels in drawn])
    else:
        weights = 1 / np.sqrt(SmallStore().count_map(0) + 1.0)
        assert_drawn_by(set_law(weights, VALID, 4), [frozenset(pixels) for pixels in drawn])


@pytest.mark.parametrize("guided", [False, True], ids=["count map", "error map"])
def test_batches_draw_by_count_or_error_map(monkeypatch, guided):
    monkeypatch.setattr(pair_sampling, "FEW_PIXELS", 0)
    monkeypatch.setattr("loaders.batches.partner_probabilities", lambda *args: np.array([0, 0, 1.0]))
    config = SamplingConfig(num_pairs=1, num_pts=4, start_interval=2, use_count_map=True, seed=0)
    errors = np.stack([WEIGHTS] * 3) if guided else None
    batches = FlowBatches(np.zeros((3, 2, 4, 3), np.uint8), SmallStore(), config, errors)
    assert_sets_come_as_stated(batches, guided)


def test_large_images_give_what_was_asked_for():
    valid = np.zeros((200, 200), bool)
    valid[:100] = True
    weights = np.where(valid, 1e-6, 1.0)  # nothing valid is likely: the rounds find almost none
    index = draw_pixels(valid, np.cumsum(weights), 256, np.random.default_rng(0))
    assert len(set(index.tolist())) == 256 and valid.ravel()[index].all()


def test_few_valid_pixels_are_drawn_as_the_plain_way_draws_them(scene_dir):
    paths = SequencePaths(scene_dir)
    names, video = load_video(paths)
    config = SamplingConfig(num_pairs=4, num_pts=16, start_interval=20, use_count_map=True, seed=3)
    errors = np.random.default_rng(0).random(video.shape[:3], np.float32) + 0.1
    for error_maps in (None, errors):
        plain, ours = (kind(video, FlowStore(paths, names), config, error_maps) for kind in (PlainBatches, FlowBatches))
        for field in fields(Batch):
            torch.testing.assert_close(getattr(ours[5], field.name), getattr(plain[5], field.name))


def test_colours_are_those_of_the_whole_frame_s_interpolation():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (7, 9, 3), np.uint8)
    px = np.concatenate([rng.uniform(-3, 12, (50, 2)), [[0, 0], [8, 6], [8, 0]]]).astype(np.float32)
    expected = sample_bilinear(torch.from_numpy(frame)[None].float() / 255, torch.from_numpy(px)[None])[0]
    torch.testing.assert_close(torch.from_numpy(colors_at(frame, px)), expected, rtol=0, atol=1e-5)
