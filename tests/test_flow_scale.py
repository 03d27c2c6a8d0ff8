"""Flow on enlarged frames, and what `auto` stands for."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_large

from preprocessing import flow_choice
from preprocessing.flow_choice import choose_flow
from preprocessing.flow_dis import DisFlow
from preprocessing.flow_scale import ScaledFlow, enlarge_flow, enlarged_frames, shrink_flow
from preprocessing.frames import prepare_sequence
from preprocessing.pipeline import preprocess
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from utils.errors import InputError
from utils.images import write_image

SIZE = 40, 56  # (H, W)


def random_flow(height, width):
    return np.random.default_rng(0).normal(size=(height, width, 2)).astype(np.float32)


@pytest.mark.parametrize("scale", [2, 3])
def test_a_working_pixel_gets_the_mean_flow_of_what_it_covers(scale):
    flow = random_flow(scale * SIZE[0], scale * SIZE[1])
    blocks = flow.reshape(SIZE[0], scale, SIZE[1], scale, 2).mean((1, 3))
    assert np.allclose(shrink_flow(flow, scale), blocks / scale, atol=1e-6)


def test_a_start_keeps_its_motion_on_enlarged_frames():
    """A linear flow survives both ways, but at the borders, where it is repeated."""
    ys, xs = np.indices(SIZE, np.float32)
    flow = np.stack([0.1 * xs + 2, 0.2 * ys - xs / 8], -1)
    assert np.allclose(shrink_flow(enlarge_flow(flow, 2), 2)[1:-1, 1:-1], flow[1:-1, 1:-1], atol=1e-4)


class Uniform:
    """Estimator whose flow of a pair i→j is (j − i, i) everywhere, or the start."""

    block, workers = 3, 2

    def estimate_sweeps(self, sweeps):
        for source, targets in sweeps:
            for target in targets:
                yield (source, target), np.full((2 * SIZE[0], 2 * SIZE[1], 2), (target - source, source), np.float32)

    def estimate_from(self, pairs, starts):
        yield from zip(pairs, starts, strict=True)


def test_it_estimates_the_same_pairs_in_working_pixels():
    scaled = ScaledFlow(Uniform(), 2)
    assert (scaled.block, scaled.workers) == (3, 2)
    flows = dict(scaled.estimate_sweeps([(4, [5, 6])]))
    assert list(flows) == [(4, 5), (4, 6)] and flows[4, 6].shape == (*SIZE, 2)
    assert np.allclose(flows[4, 6], (1, 2))
    start = np.full((*SIZE, 2), (3.0, -1.0), np.float32)
    assert np.allclose(dict(scaled.estimate_from([(0, 8)], [start]))[0, 8], start)


def moving_square(side):
    """Two frames of a square on a textured ground; it moves by 3 px, the ground by none."""
    rng = np.random.default_rng(1)
    ground = np.kron(rng.integers(40, 90, (24, 32, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    square = rng.integers(120, 255, (side, side, 3)).astype(np.uint8)
    frames = [ground.copy(), ground.copy()]
    for frame, x in zip(frames, (60, 63), strict=True):
        frame[40 : 40 + side, x : x + side] = square
    return frames, (slice(41, 39 + side), slice(61, 59 + side))


def test_enlarged_frames_show_a_small_object(tmp_path):
    frames, inside = moving_square(7)
    for index, frame in enumerate(frames):
        write_image(tmp_path / "color" / f"{index:05d}.png", frame)
    errors = {}
    for scale in (1, 2):
        read = enlarged_frames(SequencePaths(tmp_path), ["00000.png", "00001.png"], scale)
        ((_, flow),) = ScaledFlow(DisFlow(read), scale).estimate_sweeps([(0, [1])])
        errors[scale] = np.linalg.norm(flow[inside] - (3, 0), axis=-1).mean()
    assert errors[2] < 0.5 * errors[1]


def test_pixels_come_from_a_larger_source_while_it_exists(tmp_path):
    source, working = tmp_path / "source", 4
    frames = np.random.default_rng(2).integers(0, 256, (2, 32 * working, 32 * working, 3)).astype(np.uint8)
    for index, frame in enumerate(frames):
        write_image(source / f"{index}.png", frame)
    paths = prepare_sequence(source, 32, tmp_path / "data")
    names = ["00000.png", "00001.png"]
    means = frames.reshape(2, 64, 2, 64, 2, 3).mean((2, 4))
    read = enlarged_frames(paths, names, 2)
    assert np.abs(read(1) - means[1]).max() <= 0.5
    (source / "0.png").unlink()
    from_copy = enlarged_frames(paths, names, 2)
    assert from_copy(1).shape == (64, 64, 3) and np.abs(from_copy(1) - means[1]).max() > 10


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(3)
    for index in range(3):
        write_image(tmp_path / "scene" / "color" / f"{index}.png", rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))
    return SequencePaths(tmp_path / "scene")


def test_a_folder_of_another_scale_is_refused_by_name(paths):
    settings = Settings(flow="dis", chain=False)
    preprocess(paths, settings)
    assert "scale" not in json.loads(paths.manifest.read_text())["settings"]["flow"]  # as by earlier versions
    with pytest.raises(InputError, match="preprocessed with scale 1, but 2 is requested"):
        preprocess(paths, replace(settings, flow_scale=2))
    preprocess(paths, replace(settings, flow_scale=2), redo=True)
    assert json.loads(paths.manifest.read_text())["settings"]["flow"]["scale"] == 2


@pytest.mark.parametrize("side, scale", [(40, 2), (256, 2), (320, 2), (321, 1), (854, 1)])
def test_small_frames_are_enlarged(tmp_path, side, scale):
    write_image(tmp_path / "color" / "0.png", np.zeros((24, side, 3), np.uint8))
    settings, _ = choose_flow(Settings(flow="dis", flow_scale="auto"), SequencePaths(tmp_path), "0.png", redo=False)
    assert settings.flow_scale == scale


AUTO = Settings(flow="auto", features="sift", flow_scale="auto", chain=False)


def test_auto_takes_raft_where_it_has_weights(paths, offline, monkeypatch, tmp_path):
    settings, line = choose_flow(AUTO, paths, "0.png", redo=False)
    assert settings.flow == "dis" and line.startswith(
        "flow: DIS, because RAFT has no weights here (cannot get https://"
    )
    settings, line = choose_flow(replace(AUTO, raft_weights=tmp_path / "own.pth"), paths, "0.png", redo=False)
    assert settings.flow == "raft" and line == "flow: RAFT, whose weights are given"
    monkeypatch.setattr(flow_choice, "load_raft", lambda weights, device: raft_large(weights=None))
    settings, line = choose_flow(AUTO, paths, "0.png", redo=False)
    assert settings.flow == "raft" and "cache" in line


def test_auto_keeps_what_the_folder_has(paths, offline, monkeypatch, capsys):
    preprocess(paths, AUTO)
    assert "flow: DIS, because RAFT has no weights here" in capsys.readouterr().out
    monkeypatch.setattr(flow_choice, "load_raft", lambda weights, device: raft_large(weights=None))
    settings, line = choose_flow(AUTO, paths, "0.png", redo=False)
    assert (settings.flow, settings.flow_scale) == ("dis", 2) and "already has" in line
    preprocess(paths, AUTO)
    assert not capsys.readouterr().out  # nothing is missing
    assert choose_flow(AUTO, paths, "0.png", redo=True)[0].flow == "raft"
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"preprocessed with flow dis, but raft|no weights file"):
        preprocess(paths, replace(AUTO, raft_weights=paths.root / "none.pth"))


def test_raft_takes_the_updates_it_is_given(monkeypatch, paths, tmp_path):
    torch.manual_seed(0)
    torch.save(raft_large(weights=None).state_dict(), tmp_path / "raft.pth")
    settings = Settings(flow="raft", features="sift", raft_weights=tmp_path / "raft.pth", raft_iters=1, chain=False)
    preprocess(paths, settings)
    assert json.loads(paths.manifest.read_text())["settings"]["flow"]["updates"] == 1
    with pytest.raises(InputError, match="preprocessed with updates 1, but 20 is requested"):
        preprocess(paths, replace(settings, raft_iters=20))


def test_an_unknown_scale_is_refused():
    with pytest.raises(InputError, match="--flow_scale is 0, expected auto or 1 to 4"):
        Settings(flow="dis", flow_scale=0)
