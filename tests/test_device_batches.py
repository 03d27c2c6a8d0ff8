"""Batches drawn on the device: stated probabilities, the flow of the file, the same batch for the same step."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.flags import parse_train
from loaders.batches import SamplingConfig
from loaders.clip import colors_at, load_video
from loaders.device_batches import DeviceFlowBatches, choose_on_device
from loaders.flow_batches import FlowBatches
from loaders.mapped_flow import MappedFlowStore
from preprocessing.sequence_paths import SequencePaths
from tests.conftest import TINY
from tests.oracles.batches import same
from tests.oracles.pixel_sets import WEIGHTS, SmallStore, assert_batches_draw
from tests.test_trainer import train
from utils.errors import InputError

CPU = torch.device("cpu")
CONFIG = SamplingConfig(num_pairs=4, num_pts=16, start_interval=20, use_count_map=True, seed=3)


@pytest.mark.parametrize("by_error", [False, True], ids=["count map", "error map"])
def test_sets_of_pixels_come_as_often_as_stated(monkeypatch, by_error):
    monkeypatch.setattr("loaders.device_batches.partner_probabilities", lambda *args: np.array([0, 0, 1.0]))
    config = replace(CONFIG, num_pairs=1, num_pts=4, start_interval=2)
    errors = np.stack([WEIGHTS] * 3) if by_error else None
    batches = DeviceFlowBatches(np.zeros((3, 2, 4, 3), np.uint8), SmallStore(), config, errors, device=CPU)
    assert_batches_draw(batches, by_error, draws=5000)


def test_few_valid_pixels_are_repeated():
    valid = torch.zeros(16, dtype=torch.bool)
    valid[[6, 15]] = True
    index = choose_on_device(valid, 2, torch.ones(16), 5, torch.Generator().manual_seed(0)).tolist()
    assert set(index) == {6, 15} and index[:2] == index[2:4]


@pytest.fixture
def batches(scene_dir: Path, tmp_path: Path) -> DeviceFlowBatches:
    paths = SequencePaths(Path(shutil.copytree(scene_dir, tmp_path / "scene")))
    names, video = load_video(paths)
    return DeviceFlowBatches(video, MappedFlowStore(paths, names), CONFIG, device=CPU)


def test_flow_colours_and_weights_are_those_of_the_products(batches):
    rng, num_occluded = np.random.default_rng(0), 0
    for i in [0, 2, 5] * 8:
        found = batches.draw_correspondences(i, 5, rng)
        x, y = found.px.long().T.numpy()
        mask = batches.store.mask(i, found.partner)
        assert (mask.consistent | mask.rescued)[y, x].all() or abs(i - found.partner) == 1
        flow = torch.from_numpy(batches.store.flow(i, found.partner)[y, x])
        torch.testing.assert_close(found.partner_px - found.px, flow, rtol=0, atol=1 / 32)
        assert ((found.weights_back > 0).numpy() == mask.consistent[y, x]).all() and (found.weights > 0).all()
        num_occluded += (found.weights_back == 0).sum()
        expected = torch.from_numpy(colors_at(batches.video[i], found.partner_px.numpy()))
        torch.testing.assert_close(batches.colors(i, found.partner_px), expected, rtol=0, atol=1e-5)
    assert num_occluded > 0


def test_a_batch_is_a_function_of_seed_rank_and_step(batches):
    assert same(batches[7], batches[7]) and not same(batches[7], batches[8])
    for config in (replace(CONFIG, seed=4), replace(CONFIG, rank=1, world_size=2)):
        other = DeviceFlowBatches(batches.video, batches.store, config, device=CPU)
        assert not same(batches[7], other[7])


def test_moving_pixels_weigh_as_on_the_cpu(batches):
    probability, config = np.random.default_rng(0).random(batches.video.shape[:3]), replace(CONFIG, motion_share=0.7)
    here = DeviceFlowBatches(batches.video, batches.store, config, moving_probability=probability, device=CPU)
    there = FlowBatches(batches.video, batches.store, config, moving_probability=probability)
    np.testing.assert_allclose(here.weights.numpy(), np.diff(there.cumulative_weights, prepend=0), rtol=1e-4)
    assert not np.allclose(here.weights.numpy(), batches.weights.numpy())


def test_it_trains_past_the_first_error_maps(tiny_flags):
    assert train([*tiny_flags, "--draw_on_device", "--num_workers", "2"], "--num_iters", "5")["step"] == 5


def test_tracks_are_refused():
    with pytest.raises(InputError, match="--draw_on_device samples only flow"):
        parse_train(
            [*TINY.split(), "--data_dir", "x", "--draw_on_device", "--dataset_types", "tracks", "--tracks", "x.npz"]
        )
