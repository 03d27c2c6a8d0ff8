"""Tracks of other trackers: layouts agree, mistakes are refused, pairs are exact, and they train."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from criterion import Schedule, loss_weights, weighted_sum
from loaders.batches import MixedBatches, SamplingConfig
from loaders.clip import load_video
from loaders.flow_batches import FlowBatches
from loaders.flow_store import FlowStore
from loaders.prefetch import iterate_batches
from loaders.track_batches import TrackBatches
from loaders.track_file import InputTracks, read_tracks
from networks.checkpoints import newest_checkpoint, read_checkpoint
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from preprocessing.sequence_paths import SequencePaths
from preprocessing.synthetic import Scene, make_scene
from tests.oracles.batches import same
from train import main
from trainer import batch_losses
from utils.errors import InputError

SHAPE = (6, 40, 56)
CONFIG = SamplingConfig(num_pairs=4, num_pts=16, start_interval=20, use_count_map=True, seed=3)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(*SHAPE, seed=3)


@pytest.fixture(scope="module")
def exact(scene: Scene) -> InputTracks:
    return InputTracks(scene.points.swapaxes(0, 1), ~scene.occluded.T, "exact")


@pytest.fixture(scope="module")
def arrays(exact: InputTracks) -> dict[str, dict[str, np.ndarray]]:
    """The exact tracks as each tracker would save them."""
    px, visible = exact.px, exact.visible
    by_point, raster = px.swapaxes(0, 1), (px + 0.5).swapaxes(0, 1)
    return {
        "plain": {"tracks": px, "visibility": visible},
        "CoTracker": {"pred_tracks": px[None], "pred_visibility": visible[None]},
        "CoTracker ": {"pred_tracks": px[None], "pred_visibility": visible[None, ..., None].astype(np.float32)},
        "CoTracker  ": {"pred_tracks": px, "pred_visibility": visible},
        "TAPIR": {"tracks": raster, "visibles": visible.T, "note": np.array([None])},
        "TAPIR ": {"tracks": raster, "occluded": ~visible.T},
        "gt_tracks.npz": {"points": by_point, "occluded": ~visible.T},
    }


def read(folder: Path, saved: dict[str, np.ndarray]) -> InputTracks:
    np.savez(folder / "tracks.npz", allow_pickle=True, **saved)
    return read_tracks(folder / "tracks.npz", *SHAPE)


def test_every_layout_means_the_same(tmp_path, arrays, exact):
    for name, saved in arrays.items():
        tracks = read(tmp_path, saved)
        assert tracks.layout.startswith(name.strip()) and tracks.px.dtype == np.float32 and tracks.visible.dtype == bool
        np.testing.assert_allclose(tracks.px, exact.px, atol=1e-5)
        np.testing.assert_array_equal(tracks.visible, exact.visible)


def test_occluded_points_may_be_anywhere_and_points_outside_count_as_occluded(tmp_path, exact):
    px, visible = exact.px.copy(), exact.visible.copy()
    px[~visible] = np.nan
    frame, point = np.argwhere(visible)[0]
    px[frame, point] = [-5, 10]
    tracks = read(tmp_path, {"tracks": px, "visibility": visible})
    assert not tracks.visible[frame, point] and tracks.visible.sum() == visible.sum() - 1


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda px, visible: {"tracks": px, "seen": visible}, "'seen', 'tracks'.*CoTracker"),
        (lambda px, visible: {"tracks": px[..., :1], "visibility": visible}, "one flag for each position"),
        (lambda px, visible: {"tracks": px, "visibility": visible[:, 1:]}, "one flag for each position"),
        (lambda px, visible: {"tracks": px[:5], "visibility": visible[:5]}, "5 frames, but the clip has 6"),
        (lambda px, visible: {"tracks": px.swapaxes(0, 1), "visibility": visible.T}, "but the clip has 6"),
        (lambda px, visible: {"tracks": px, "visibility": visible * 7.0}, "outside of 0..1"),
        (lambda px, visible: {"tracks": px, "visibility": np.full(visible.shape, np.nan)}, "outside of 0..1"),
        (lambda px, visible: {"tracks": px.astype(str), "visibility": visible}, "expected numbers"),
        (lambda px, visible: {"tracks": px.astype(object), "visibility": visible}, "cannot be read"),
        (lambda px, visible: {"tracks": np.where(visible[..., None], np.nan, px), "visibility": visible}, "not finite"),
        (lambda px, visible: {"tracks": px * 1.5, "visibility": visible}, "56x40: scale"),
        (lambda px, visible: {"tracks": px / [56, 40], "visibility": visible}, "56x40: scale"),
        (lambda px, visible: {"tracks": px, "visibility": visible & False}, "no point is visible"),
        (lambda px, visible: {"tracks": px[:, :0], "visibility": visible[:, :0]}, "no point is visible"),
    ],
)
def test_mistakes_are_refused(tmp_path, exact, change, part):
    with pytest.raises(InputError, match=part):
        read(tmp_path, change(exact.px, exact.visible))


def test_other_files_than_npz_are_refused(tmp_path):
    np.save(tmp_path / "tracks.npy", np.zeros(3))
    for name, part in (("nowhere.npz", "missing"), ("tracks.npy", "no npz file"), (".", "no npz file")):
        with pytest.raises(InputError, match=part):
            read_tracks(tmp_path / name, *SHAPE)


def test_pairs_are_exact_correspondences(scene, exact):
    dataset = TrackBatches(scene.video, exact, CONFIG)
    flipped = 0
    for step in range(20):
        batch = dataset[step]
        assert batch.src_px.shape == batch.tgt_px.shape == (4, 16, 2) and batch.src_rgb.shape == (4, 16, 3)
        for p in range(4):
            i, j = int(batch.src_ids[p]), int(batch.tgt_ids[p])
            both = exact.visible[i] & exact.visible[j]
            known = {(*a, *b) for a, b in zip(exact.px[i, both].tolist(), exact.px[j, both].tolist(), strict=True)}
            drawn = [(*a, *b) for a, b in zip(batch.src_px[p].tolist(), batch.tgt_px[p].tolist(), strict=True)]
            assert set(drawn) <= known and len(set(drawn)) == 16
            expected = np.cos((abs(i - j) - 1) / 5 * np.pi / 2)  # the largest gap of six frames is 5
            np.testing.assert_allclose(batch.weights[p], expected, rtol=1e-6)
            flipped += i > j
    assert 20 < flipped < 60


def test_largest_gap_and_single_tracks(scene, exact):
    close = TrackBatches(scene.video, exact, replace(CONFIG, start_interval=2))
    gaps = torch.cat([(close[s].src_ids - close[s].tgt_ids).abs() for s in range(20)])
    assert gaps.max() == 2
    visible = np.zeros_like(exact.visible)
    visible[[0, 3], exact.visible[[0, 3]].all(0).argmax()] = True  # one point, in two frames
    batch = TrackBatches(scene.video, replace(exact, visible=visible), replace(CONFIG, num_pairs=6))[0]
    taught = (batch.weights > 0).all(1)
    assert taught.sum() == 2 and ((batch.weights > 0).any(1) == taught).all()
    assert (torch.stack([batch.src_ids, batch.tgt_ids])[:, taught].sort(0).values == torch.tensor([[0], [3]])).all()
    inside = (batch.src_px >= 0) & (batch.src_px <= torch.tensor([55, 39]))
    assert inside.all() and torch.isfinite(batch.tgt_px).all()


@pytest.fixture(scope="module")
def mixed(scene_dir: Path, exact: InputTracks) -> MixedBatches:
    paths = SequencePaths(scene_dir)
    names, video = load_video(paths)
    flow = FlowBatches(video, FlowStore(paths, names), CONFIG)
    return MixedBatches([flow, TrackBatches(video, exact, CONFIG)], [0.6, 0.2])


def test_shares_follow_the_weights(mixed):
    batches = [mixed[step] for step in range(150)]
    whole = [((b.src_px == b.src_px.round()) | (b.tgt_px == b.tgt_px.round())).all((1, 2)) for b in batches]
    assert torch.cat(whole).float().mean() == pytest.approx(0.75, abs=0.06)  # 600 pairs: three and a half deviations


def test_mixed_batches_are_functions_of_seed_rank_and_step(mixed):
    assert same(mixed[7], mixed[7]) and not same(mixed[7], mixed[8])
    alone = [mixed[step] for step in range(5, 10)]
    assert all(same(a, b) for a, b in zip(alone, iterate_batches(mixed, range(5, 10), 2), strict=True))


def test_noisy_tracks_train(scene, exact):
    noise = np.random.default_rng(0).normal(0, 0.5, exact.px.shape).astype(np.float32)
    batches = TrackBatches(scene.video, replace(exact, px=exact.px + noise), replace(CONFIG, num_pts=64))
    sizes: dict[str, Any] = {
        "coupling_width": 32,
        "code_size": 16,
        "code_width": 32,
        "volume_width": 16,
        "use_affine": False,
        "plane_size": 8,
        "soft_bound": 1.0,
    }
    model = OmniMotion.initialised(ModelConfig(*SHAPE, num_samples_ray=4, **sizes), seed=0)

    def error() -> float:
        """Mean distance from the exact tracks of the points visible in the first frame, where they are visible."""
        seen = exact.visible[0]
        tracked = model.map_points(0, torch.from_numpy(exact.px[0, seen]), list(range(1, 6)), True).px.numpy()
        return float(np.linalg.norm(tracked - exact.px[1:, seen], axis=-1)[exact.visible[1:, seen]].mean())

    before, losses = error(), []
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(120):
        terms = batch_losses(model, batches[step], model.depths().expand(4, 64, 4))
        optimizer.zero_grad()
        weighted_sum(terms, loss_weights(Schedule(step))).backward()
        optimizer.step()
        losses.append(terms["flow"].item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert error() < 0.6 * before


def without(flags: list[str], name: str) -> list[str]:
    return [flag for flag in flags if flag != name]


def test_tracks_alone_need_no_flow(tiny_flags, tmp_path, scene_dir, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(scene_dir / "color", bare / "color")
    shutil.copy(scene_dir / "gt_tracks.npz", bare)
    flags = [*without(tiny_flags, "--use_error_map"), "--data_dir", str(bare), "--preprocess", "never"]
    main([*flags, "--dataset_types", "tracks", "--tracks", str(bare / "gt_tracks.npz"), "--num_iters", "3"])
    printed = capsys.readouterr().out
    assert printed.count("gt_tracks.npz's layout") == 1 and "OmniMotion" in printed and "direct flow" not in printed
    assert sorted(path.name for path in bare.iterdir()) == ["color", "gt_tracks.npz"]
    images = EventAccumulator(str(Path("logs") / "tiny_bare")).Reload().Tags()["images"]
    assert "depth" in images and "flow" not in images


def test_flow_and_tracks_resume_bit_for_bit(tiny_flags, tmp_path, scene_dir, monkeypatch):
    tracks = ["--dataset_types", "flow+tracks", "--dataset_weights", "0.5", "0.5"]
    flags = [*tiny_flags, *tracks, "--tracks", str(scene_dir / "gt_tracks.npz")]
    runs = []
    for name, commands in (("whole", [["7"]]), ("again", [["5"], ["7", "--num_workers", "2"]])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        for command in commands:
            main([*flags, "--num_iters", *command])
        runs.append(read_checkpoint(newest_checkpoint(Path("out") / "tiny_scene"))["model"])
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
