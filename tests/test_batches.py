"""Batches: what is drawn follows the released probabilities, and depends on seed, rank and step alone."""

import os
import signal
import threading
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders.batches import MOST_OFTEN, Batch, FlowBatches, SamplingConfig, iterate_batches
from loaders.clip import load_video
from loaders.error_maps import load_error_maps, save_error_maps
from loaders.flow_store import FlowStore, PairMask
from loaders.pair_sampling import choose_pixels, cycled_frames, pair_weight, partner_probabilities
from preprocessing.sequence_paths import SequencePaths
from utils.errors import InputError

CONFIG = SamplingConfig(num_pairs=4, num_pts=16, start_interval=20, use_count_map=True, seed=3)


@pytest.fixture(scope="module")
def dataset(scene_dir: Path) -> FlowBatches:
    paths = SequencePaths(scene_dir)
    names, video = load_video(paths)
    return FlowBatches(video, FlowStore(paths, names), CONFIG)


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch))


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


def test_hidden_points_teach_nothing_backwards(dataset):
    for step in range(40):
        batch = dataset[step]
        for p in range(4):
            if (batch.src_px[p] == batch.src_px[p].round()).all():
                continue
            x, y = batch.tgt_px[p].long().T.numpy()
            consistent = dataset.store.mask(int(batch.tgt_ids[p]), int(batch.src_ids[p])).consistent[y, x]
            assert ((batch.weights[p] > 0).numpy() == consistent).all()


@pytest.mark.parametrize("columns, share", [(14, 0.7), (1, 0.7), (50, 0.3)], ids=["raised", "limited", "enough"])
def test_a_share_of_the_weight_is_of_what_moves_by_itself(dataset, columns, share):
    own = np.zeros(dataset.video.shape[:3], np.float32)
    own[:, :, :columns] = 1
    config = replace(CONFIG, motion_share=share)
    guided = FlowBatches(dataset.video, dataset.store, config, own=own)
    weights, plain = (np.diff(of.cumulative_weights, prepend=0) for of in (guided, dataset))
    moving = own.reshape(weights.shape) > 0
    np.testing.assert_allclose(weights[~moving], plain[~moving], rtol=1e-6)
    for i in range(len(weights)):
        drawn, as_they_come = (of[i, moving[i]].sum() / of[i].sum() for of in (weights, plain))
        if columns == 1:
            np.testing.assert_allclose(weights[i, moving[i]], MOST_OFTEN * plain[i, moving[i]], rtol=1e-6)
        else:
            assert drawn == pytest.approx(max(share, as_they_come))


def test_a_batch_is_a_function_of_seed_rank_and_step(dataset):
    assert same(dataset[7], dataset[7])
    assert not same(dataset[7], dataset[8])
    for change in ({"seed": 4}, {"rank": 1, "world_size": 2}):
        other = FlowBatches(dataset.video, dataset.store, replace(CONFIG, **change))
        assert not same(dataset[7], other[7])


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_change_nothing(dataset, num_workers):
    alone = list(iterate_batches(dataset, range(5, 10), 0))
    helped = list(iterate_batches(dataset, range(5, 10), num_workers))
    assert len(alone) == len(helped) == 5
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


class Damaged:
    """Batches from files that cannot be read."""

    def __getitem__(self, step: int) -> Batch:
        raise InputError(f"step {step}: the file is cut short; make it anew")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_a_worker_cannot_read_is_told_in_its_own_sentence(num_workers):
    with pytest.raises(InputError) as raised:
        next(iterate_batches(Damaged(), range(5, 10), num_workers))
    assert str(raised.value) == "step 5: the file is cut short; make it anew"


class Unsent:
    """A batch whose worker dies while the trainer takes it."""

    def __getitem__(self, step: int) -> "Unsent":
        self.pid = os.getpid()
        return self

    def __reduce__(self) -> tuple:
        return (lose, (self.pid,)) if hasattr(self, "pid") else (Unsent, ())


def lose(pid: int) -> None:
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()  # its end is seen after that of its files
    raise ConnectionResetError(104, "Connection reset by peer")


def test_a_worker_that_dies_while_it_hands_over_is_told_as_lost():
    with pytest.raises(InputError, match="a process that prepares batches was killed"):
        next(iterate_batches(Unsent(), range(5), 1))


def test_a_worker_that_dies_at_the_start_is_told_as_lost(monkeypatch):
    def killed(loader):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr("loaders.batches.DataLoader.__iter__", killed)
    with pytest.raises(InputError, match="a process that prepares batches was killed"):
        next(iterate_batches(Unsent(), range(5), 1))


def test_frames_cycle():
    frames = cycled_frames(0, 60, 6, seed=1).reshape(10, 6)
    assert (np.sort(frames, 1) == np.arange(6)).all()
    assert len({tuple(order) for order in frames}) > 1, "each cycle has an order of its own"
    assert (cycled_frames(13, 9, 6, seed=1) == frames.ravel()[13:22]).all()


def test_partner_probabilities_by_hand():
    counts = np.zeros((6, 6), int)
    counts[2] = [30, 50, 0, 10, 10, 99]
    # Within gap 2: 30, 50, -, 10, 10 of 100; neighbours become 0.5 each, and all are normalised again.
    expected = np.array([0.3, 0.5, 0.0, 0.5, 0.1, 0.0]) / 1.4
    np.testing.assert_allclose(partner_probabilities(2, counts, max_gap=2), expected)


def test_far_partners_may_come_more_often():
    counts = np.zeros((6, 6), int)
    counts[2] = [30, 50, 0, 10, 10, 99]
    expected = np.array([0.3, 0.2, 0.0, 0.2, 0.1, 0.0]) ** 0.5
    found = partner_probabilities(2, counts, max_gap=2, neighbour_weight=0.2, pair_exponent=0.5)
    np.testing.assert_allclose(found, expected / expected.sum())


def test_a_frame_without_valid_flow_keeps_its_neighbours():
    np.testing.assert_allclose(partner_probabilities(0, np.zeros((4, 4), int), 3), [0, 1, 0, 0])


def test_pair_weight_falls_with_the_gap():
    assert pair_weight(1, 20) == 1.0
    np.testing.assert_allclose(pair_weight(11, 20), np.cos(np.pi / 4))


def test_pixels_are_drawn_by_weight_without_repeats():
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
    hits = hits.reshape(10, 10)
    assert (hits[:, 5:] == 0).all()
    assert hits[0, :5].mean() > 10 * hits[1:, :5].mean()


def test_few_valid_pixels_are_repeated():
    valid = np.zeros((4, 4), bool)
    valid[1, 2] = valid[3, 3] = True
    index = choose_pixels(valid, np.ones((4, 4)), 5, np.random.default_rng(0))
    assert set(index) == {6, 15} and len(index) == 5


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


def test_missing_and_foreign_statistics_are_told(scene_dir, tmp_path):
    with pytest.raises(InputError, match="preprocessing"):
        FlowStore(SequencePaths(tmp_path), ["a.png", "b.png"])
    with pytest.raises(InputError, match="other frames"):
        FlowStore(SequencePaths(scene_dir), ["a.png", "b.png"])


class FormulaStore:
    """Flow products that are formulas, exact in float32 whatever made them."""

    y, x = np.mgrid[:8, :10]
    valid_counts = 60 - 10 * np.abs(np.subtract.outer(np.arange(5), np.arange(5)))

    def flow(self, i: int, j: int) -> np.ndarray:
        return np.stack([(j - i) * 0.5 + self.x / 8, (j - i) * 0.25 - self.y / 8], -1).astype(np.float32)

    def flow_at(self, i: int, j: int, mask: PairMask, index: np.ndarray) -> np.ndarray:
        return self.flow(i, j).reshape(-1, 2)[index]

    def mask(self, i: int, j: int) -> PairMask:
        return PairMask((self.x + self.y + i) % 3 > 0, (self.x + j) % 5 == 0)

    def count_map(self, i: int) -> np.ndarray:
        return ((self.x * self.y + i) % 7).astype(np.uint16)


def test_nothing_grows_with_the_number_of_steps():
    video = np.zeros((5, 8, 10, 3), np.uint8)
    config = SamplingConfig(num_pairs=3, num_pts=4, start_interval=3, use_count_map=True, seed=5)
    dataset, peaks = FlowBatches(video, FormulaStore(), config), []
    for steps in (range(10), range(10**9), range(10**9 - 10, 10**9)):
        tracemalloc.start()
        batches = iterate_batches(dataset, steps, num_workers=0)
        for _ in range(10):
            next(batches)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < peaks[0] + 2**16


def test_batches_of_flow_are_those_of_earlier_runs():
    """Drawn when flow was the only input: a run that began then goes on with the same batches."""
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
