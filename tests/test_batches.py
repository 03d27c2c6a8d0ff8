"""Batches follow the released probabilities, and depend on seed, rank and step only."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders import pair_sampling
from loaders.batches import SamplingConfig
from loaders.clip import colors_at, load_video
from loaders.error_maps import load_error_maps, save_error_maps
from loaders.flow_batches import MAX_BOOST, FlowBatches
from loaders.flow_store import FlowStore, PairMask
from preprocessing.sequence_paths import SequencePaths
from tests.oracles.batches import same
from tests.oracles.pixel_sets import WEIGHTS, SmallStore, assert_batches_draw
from tests.oracles.plain_loader import PlainBatches
from utils.coords import sample_bilinear
from utils.errors import InputError

CONFIG = SamplingConfig(num_pairs=4, num_pts=16, start_interval=20, use_count_map=True, seed=3)


@pytest.fixture(scope="module")
def dataset(scene_dir: Path) -> FlowBatches:
    paths = SequencePaths(scene_dir)
    names, video = load_video(paths)
    return FlowBatches(video, FlowStore(paths, names), CONFIG)


def test_shapes_and_meaning(dataset):
    batch = dataset[0]
    assert batch.src_px.shape == batch.tgt_px.shape == (4, 16, 2) and batch.src_rgb.shape == (4, 16, 3)
    assert batch.weights.shape == (4, 16) and batch.src_ids.shape == (4,)
    assert (batch.src_ids != batch.tgt_ids).all()
    for p in range(4):
        i, j = int(batch.src_ids[p]), int(batch.tgt_ids[p])
        forward = batch.src_px[p] == batch.src_px[p].round()
        if not forward.all():  # a swapped pair: pixels are in the target frame, its flow leads to the source
            i, j, src, tgt = j, i, batch.tgt_px[p], batch.src_px[p]
        else:
            src, tgt = batch.src_px[p], batch.tgt_px[p]
            x, y = src.long().T
            torch.testing.assert_close(batch.src_rgb[p], torch.from_numpy(dataset.video[i][y, x]).float() / 255)
        x, y = src.long().T.numpy()
        torch.testing.assert_close(tgt - src, torch.from_numpy(dataset.store.flow(i, j)[y, x].astype(np.float32)))


def test_both_directions_are_drawn(dataset):
    whole = [
        bool((b.src_px[p] == b.src_px[p].round()).all()) for b in map(dataset.__getitem__, range(20)) for p in range(4)
    ]
    assert 20 < sum(whole) < 60


def test_occluded_points_have_no_weight_in_the_reversed_pair(dataset):
    for step in range(40):
        batch = dataset[step]
        for p in range(4):
            if (batch.src_px[p] == batch.src_px[p].round()).all():
                continue
            x, y = batch.tgt_px[p].long().T.numpy()
            consistent = dataset.store.mask(int(batch.tgt_ids[p]), int(batch.src_ids[p])).consistent[y, x]
            assert ((batch.weights[p] > 0).numpy() == consistent).all()


@pytest.mark.parametrize("columns, share", [(14, 0.7), (1, 0.7), (50, 0.3)], ids=["raised", "limited", "enough"])
def test_moving_pixels_hold_a_share_of_the_weights(dataset, columns, share):
    probability = np.zeros(dataset.video.shape[:3], np.float32)
    probability[:, :, :columns] = 1
    config = replace(CONFIG, motion_share=share)
    guided = FlowBatches(dataset.video, dataset.store, config, moving_probability=probability)
    weights, plain = (np.diff(batches.cumulative_weights, prepend=0) for batches in (guided, dataset))
    moving = probability.reshape(weights.shape) > 0
    np.testing.assert_allclose(weights[~moving], plain[~moving], rtol=1e-6)
    for i in range(len(weights)):
        raised, unchanged = (each[i, moving[i]].sum() / each[i].sum() for each in (weights, plain))
        if columns == 1:
            np.testing.assert_allclose(weights[i, moving[i]], MAX_BOOST * plain[i, moving[i]], rtol=1e-6)
        else:
            assert raised == pytest.approx(max(share, unchanged))


def test_a_batch_is_a_function_of_seed_rank_and_step(dataset):
    assert same(dataset[7], dataset[7])
    assert not same(dataset[7], dataset[8])
    for config in (replace(CONFIG, seed=4), replace(CONFIG, rank=1, world_size=2)):
        other = FlowBatches(dataset.video, dataset.store, config)
        assert not same(dataset[7], other[7])


def test_error_maps_stay_finite_however_large_the_error(tmp_path):
    save_error_maps(tmp_path / "maps.npy", np.full((2, 4, 4), [[np.inf], [1e6], [0], [1]]))
    maps = load_error_maps(tmp_path / "maps.npy", (2, 4, 4))
    assert np.isfinite(maps).all() and (maps > 0).all()


def test_error_maps_decide_frames_and_pixels(dataset, tmp_path):
    errors = np.zeros(dataset.video.shape[:3], np.float32)
    errors[4, 10:20, 10:20] = 100
    save_error_maps(tmp_path / "maps.npy", errors)
    guided = FlowBatches(dataset.video, dataset.store, CONFIG, load_error_maps(tmp_path / "maps.npy", errors.shape))
    frames = np.concatenate([np.stack([guided[s].src_ids.numpy(), guided[s].tgt_ids.numpy()]) for s in range(10)], 1)
    assert ((frames == 4).any(0)).mean() > 0.9


def test_missing_and_foreign_statistics_are_refused(scene_dir, tmp_path):
    with pytest.raises(InputError, match="preprocessing"):
        FlowStore(SequencePaths(tmp_path), ["a.png", "b.png"])
    with pytest.raises(InputError, match="other frames"):
        FlowStore(SequencePaths(scene_dir), ["a.png", "b.png"])


class FormulaStore(FlowStore):
    """Flow products that are formulas, exact in float32 whatever made them."""

    def __init__(self):
        self.y, self.x = np.mgrid[:8, :10]
        self.valid_counts = 60 - 10 * np.abs(np.subtract.outer(np.arange(5), np.arange(5)))

    def flow(self, i: int, j: int) -> np.ndarray:
        return np.stack([(j - i) * 0.5 + self.x / 8, (j - i) * 0.25 - self.y / 8], -1).astype(np.float32)

    def flow_at(self, i: int, j: int, mask: PairMask, index: np.ndarray) -> np.ndarray:
        return self.flow(i, j).reshape(-1, 2)[index]

    def mask(self, i: int, j: int) -> PairMask:
        return PairMask((self.x + self.y + i) % 3 > 0, (self.x + j) % 5 == 0)

    def count_map(self, i: int) -> np.ndarray:
        return ((self.x * self.y + i) % 7).astype(np.uint16)


def test_batches_of_flow_are_those_of_earlier_runs():
    """Numbers from when flow was the only input: a run started then resumes with the same batches."""
    video = (np.arange(5 * 8 * 10 * 3) * 7 % 256).astype(np.uint8).reshape(5, 8, 10, 3)
    config = SamplingConfig(num_pairs=3, num_pts=4, start_interval=3, use_count_map=True, seed=5)
    batch = FlowBatches(video, FormulaStore(), config)[7]
    cos30 = np.cos(np.pi / 6).astype(np.float32)
    assert batch.src_ids.tolist() == [0, 2, 1] and batch.tgt_ids.tolist() == [1, 4, 0]
    assert batch.tgt_px[0].tolist() == [[9, 3], [2, 7], [1, 0], [8, 0]]
    assert batch.src_px[1].tolist() == [[1, 7], [8, 1], [0, 5], [4, 5]]
    assert batch.src_px[2].tolist() == [[10.625, 6.375], [10.625, 2], [3.875, 0.25], [5, 0.25]]
    assert batch.weights.tolist() == [[1, 1, 1, 0], [cos30] * 4, [1, 1, 0, 1]]
    np.testing.assert_allclose(batch.src_rgb.sum((1, 2)), [3.7867646, 6.3490195, 7.4367647], rtol=1e-6)
    errors = np.abs(np.sin(np.arange(400.0))).reshape(5, 8, 10) + 0.1
    batch = FlowBatches(video, FormulaStore(), config, errors)[0]
    assert batch.src_ids.tolist() == [4, 4, 2] and batch.tgt_ids.tolist() == [2, 3, 1]
    assert batch.src_px[1].tolist() == [[5, 7], [0, 0], [9, 2], [1, 6]]
    assert batch.tgt_px[2].tolist() == [[-0.5, 0.625], [0.625, 1.5], [8.5, 5.875], [5.125, 4.125]]
    assert batch.weights.tolist() == [[cos30] * 4, [1] * 4, [1] * 4]


@pytest.mark.parametrize("by_error", [False, True], ids=["count map", "error map"])
def test_pixels_are_drawn_by_count_or_error_map(monkeypatch, by_error):
    monkeypatch.setattr(pair_sampling, "FEW_PIXELS", 0)
    monkeypatch.setattr("loaders.flow_batches.partner_probabilities", lambda *args: np.array([0, 0, 1.0]))
    config = SamplingConfig(num_pairs=1, num_pts=4, start_interval=2, use_count_map=True, seed=0)
    errors = np.stack([WEIGHTS] * 3) if by_error else None
    assert_batches_draw(FlowBatches(np.zeros((3, 2, 4, 3), np.uint8), SmallStore(), config, errors), by_error)


def test_few_valid_pixels_are_drawn_as_by_the_plain_loader(dataset):
    errors = np.random.default_rng(0).random(dataset.video.shape[:3], np.float32) + 0.1
    for error_maps in (None, errors):
        plain, ours = (
            kind(dataset.video, dataset.store, CONFIG, error_maps)[5] for kind in (PlainBatches, FlowBatches)
        )
        for name, values in vars(plain).items():
            torch.testing.assert_close(getattr(ours, name), values)


def test_colours_equal_an_interpolation_of_the_whole_frame():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (7, 9, 3), np.uint8)
    px = np.concatenate([rng.uniform(-3, 12, (50, 2)), [[0, 0], [8, 6], [8, 0]]]).astype(np.float32)
    expected = sample_bilinear(torch.from_numpy(frame)[None].float() / 255, torch.from_numpy(px)[None])[0]
    torch.testing.assert_close(torch.from_numpy(colors_at(frame, px)), expected, rtol=0, atol=1e-5)
