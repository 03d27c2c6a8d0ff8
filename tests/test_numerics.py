"""Numbers that are not finite stop a run wherever they come from; odd clips train with a warning; float32's errors.

Values and gradients that one pair of frames spoils are in test_trainer.py.
"""

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trainer as trainer_module
from criterion import TERMS, Schedule, TrainingDiverged, loss_weights
from loaders.batches import SamplingConfig
from loaders.clip import load_video
from loaders.flow_store import FlowStore
from loaders.training_data import DataConfig, TrainingData
from networks.checkpoints import newest_checkpoint, read_checkpoint
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.optimizer import OptimizerConfig
from preprocessing.sequence_paths import SequencePaths
from tests.test_trainer import assert_same_state
from tests.test_warp import RELEASED, SMALL, local_points, make_warp
from train import main
from trainer import Trainer, TrainingConfig
from utils.images import write_image

NO_WEIGHT = {"canonical_unit_sphere"}  # a term that the released schedule computes and leaves out


@pytest.fixture
def trainer(scene_dir, tmp_path) -> Trainer:
    """At a step at which every term with a weight counts."""
    paths = SequencePaths(scene_dir)
    names, video = load_video(paths)
    num_frames, height, width, _ = video.shape
    sizes: dict[str, Any] = {"coupling_width": 8, "code_size": 8, "code_width": 8, "volume_width": 8}
    tiny = ModelConfig(num_frames, height, width, num_samples_ray=4, use_affine=False, **sizes)
    model = OmniMotion.initialised(tiny, seed=0)
    scale, store = 1e-6, FlowStore(paths, names)
    sampling = SamplingConfig(
        num_pairs=4, num_pts=16, start_interval=20, use_count_map=True, seed=12, schedule_scale=scale
    )
    data = TrainingData(DataConfig(sampling), video, store, None, tmp_path, model.device)
    config = TrainingConfig(num_iters=10, mask_near=True, schedule_scale=scale)
    made = Trainer(config, OptimizerConfig(num_iters=10), model, names, data, tmp_path)
    made.step = 1
    return made


SPOILING = {  # of a term, with a 0 that has a gradient
    "NaN": lambda term, zero: term * torch.nan,
    "infinite": lambda term, zero: term + torch.inf,
    "gradient": lambda term, zero: term + zero.sqrt(),  # the same value, an infinite gradient
}


def test_every_term_that_has_a_weight_counts_here(trainer):
    weights = loss_weights(Schedule(trainer.step, scale=trainer.config.schedule_scale))
    assert {term.name for term in TERMS} - weights.keys() == NO_WEIGHT | {"depth_prior"}


@pytest.mark.parametrize("spoil", SPOILING)
@pytest.mark.parametrize("name", [term.name for term in TERMS if term.name != "depth_prior"])
def test_a_term_that_is_not_finite_stops_the_step_before_the_update(trainer, monkeypatch, name, spoil):
    compute = trainer_module.batch_losses

    def spoilt(model, *args, **kwargs):
        terms = compute(model, *args, **kwargs)
        zero = (model.volume.net.output.bias * 0).sum()
        return terms | ({name: SPOILING[spoil](terms[name], zero)} if name in terms else {})

    monkeypatch.setattr(trainer_module, "batch_losses", spoilt)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    batch = trainer.dataset()[1]
    if name in NO_WEIGHT:
        trainer.train_step(batch)
        assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())
        return
    with pytest.raises(TrainingDiverged, match=f"loss_{name} is not finite"):
        trainer.train_step(batch)
    assert all(torch.equal(before[key], value) for key, value in trainer.model.state_dict().items())


def test_a_step_that_is_found_late_has_changed_nothing(trainer, monkeypatch):
    """As on a GPU, where most steps are not checked: the steps after it change nothing either, and it is named."""
    compute, dataset = trainer_module.batch_losses, trainer.dataset()
    spoilt_px = dataset[3].src_px[2]

    def spoilt(model, batch, *args, **kwargs):
        terms = compute(model, batch, *args, **kwargs)
        bad = (batch.src_px == spoilt_px).flatten(1).all(1).any()
        return terms | {"flow": torch.where(bad, torch.nan, terms["flow"])}

    monkeypatch.setattr(trainer_module, "batch_losses", spoilt)
    monkeypatch.setattr(Trainer, "_is_checked", lambda self, step: False)
    for step in range(1, 7):
        if step == 3:
            before = deepcopy(trainer.state())
        trainer.train_step(dataset[step])
    i, j = (trainer.names[ids[2]] for ids in (dataset[3].src_ids, dataset[3].tgt_ids))
    with pytest.raises(
        TrainingDiverged, match=f"^step 3: the value of loss_flow is not finite for the pair {i} → {j}$"
    ):
        trainer.require_finite()
    assert_same_state(trainer.state(), before)


def texture(num_frames: int, height: int, width: int, step: float, seed: int = 0) -> np.ndarray:
    """Smooth stripes and noise that move `step` pixels a frame, uint8 [T,H,W,3]."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:height, :width]
    phases = rng.uniform(0, 6, (6, 3))
    frames = []
    for t in range(num_frames):
        moved = (x - step * t)[..., None]
        waves = [np.sin(0.2 * (k + 1) * moved + 0.3 * k * y[..., None] + phases[k]) for k in range(6)]
        frames.append(127 + 20 * sum(waves))
    return np.stack(frames).clip(0, 255).astype(np.uint8)


def noise(num_frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, 40, 56, 3), np.uint8)


# what is odd: (frames, whether a mask of the whole frame lies beside them, what is said)
CLIPS = {
    "static": (lambda: texture(5, 40, 56, 0), False, "nothing moves by more than 0.0"),
    "black": (lambda: np.zeros((5, 40, 56, 3), np.uint8), False, "of one colour (black?)"),
    "black frame": (
        lambda: np.where(np.arange(5).reshape(-1, 1, 1, 1) == 2, 0, texture(5, 40, 56, 1)).astype(np.uint8),
        False,
        "00002.png of one colour",
    ),
    "noise": (lambda: noise(5), False, "most frames look unlike their neighbours"),
    "cut": (
        lambda: np.concatenate([texture(4, 40, 56, 1), 255 - texture(4, 40, 56, 1, seed=5)]),
        False,
        "a cut, or a flash? flow does not explain 00003.png → 00004.png;",
    ),
    "object that fills the frame": (lambda: texture(5, 40, 56, 1), True, "the foreground mask covers the whole frame"),
    "two frames": (lambda: texture(2, 40, 56, 1), False, "2 frames: what is occluded"),
    "tiny frames": (lambda: texture(9, 12, 16, 1), False, "frames of 16x12 pixels"),
}
WARNINGS = (
    "nothing moves",
    "of one colour",
    "most frames look",
    "a cut, or",
    "whole frame",
    "what is occluded",
    "is coarse",
)


def run(video: np.ndarray, tiny_flags: list[str], folder, masked: bool, *more: str) -> dict:
    """Write the clip, preprocess it, train some steps; return the checkpoint."""
    paths = SequencePaths(folder / "odd")
    for t, frame in enumerate(video):
        write_image(paths.color / f"{t:05d}.png", frame)
        if masked:
            write_image(paths.mask / f"{t:05d}.png", np.full(frame.shape[:2], 255, np.uint8))
    main([*tiny_flags, "--data_dir", str(paths.root), "--num_iters", "4", *more])
    return read_checkpoint(newest_checkpoint(folder / "out" / "tiny_odd"))


@pytest.mark.parametrize("kind", CLIPS)
def test_odd_clips_train_with_one_warning(kind, tiny_flags, tmp_path, monkeypatch, capsys):
    # Pictures take longest; that they can be drawn of odd clips is shown in test_input_kinds.py.
    monkeypatch.setattr("visualization.tensorboard.training_images", lambda *args, **kwargs: {})
    for draw in ("save_grid", "save_trails"):
        monkeypatch.setattr(f"visualization.styles.{draw}", lambda view: [])
    video, masked, warning = CLIPS[kind]
    checkpoint = run(video(), tiny_flags, tmp_path, masked)
    assert checkpoint["step"] == 4
    assert all(torch.isfinite(value).all() for value in checkpoint["model"].values())
    output = capsys.readouterr().out
    assert warning in output
    assert sum(words in output for words in WARNINGS) == 1, "no other warning"


@pytest.mark.slow
def test_hundreds_of_tiny_frames_train(tiny_flags, tmp_path, capsys):
    video = texture(300, 12, 16, 0.5)
    checkpoint = run(video, tiny_flags, tmp_path, False, "--pairs", "sparse", "--num_imgs", "280")
    assert all(torch.isfinite(value).all() for value in checkpoint["model"].values())
    output = capsys.readouterr().out
    assert "the first 280 of 300 frames are used" in output and "frames of 16x12 pixels" in output


# Signs of s in the six layers, and how far off a float32 round trip may be (the image is 2 wide).
EXTREMES = {
    "shrink": ([1] * 6, 2e-4),
    "stretch": ([-1] * 6, 2e-2),
    "shrink, then stretch": ([1, 1, 1, -1, -1, -1], 1e-2),
    "stretch, then shrink": ([-1, -1, -1, 1, 1, 1], 1e-2),
    "in turns": ([1, -1] * 3, 0.5),
}


@pytest.mark.parametrize("signs", EXTREMES)
def test_drift_of_the_warp_with_every_scale_at_its_clamp(signs):
    """Released sizes, s = ±8 everywhere in all layers: finite in float32, and invertible in float64 to 1e-8."""
    directions, bound = EXTREMES[signs]
    exact = make_warp(torch.float64, RELEASED)
    with torch.no_grad():
        for layer, sign in zip(exact.layers, directions, strict=True):
            last = layer.scale_shift.last
            last.weight[0], last.bias[0] = 0, 1000 * sign
    rounded = make_warp(torch.float32, RELEASED)
    rounded.load_state_dict(exact.state_dict())
    exact.load_state_dict(rounded.state_dict())
    x, ids = local_points(torch.float32), torch.arange(5)
    with torch.no_grad():
        there, there_exactly = rounded.to_canonical(x, ids), exact.to_canonical(x.double(), ids)
        back, back_exactly = rounded.to_local(there, ids), exact.to_local(there_exactly, ids)
    assert torch.isfinite(there).all() and torch.isfinite(back).all()
    assert ((there - there_exactly).abs() / (there_exactly.abs() + 1)).max() < 0.2
    assert (back_exactly - x).abs().max() < 1e-8
    assert (back - x).abs().max() < bound


def test_soft_scales_stretch_by_less_than_their_bound():
    """Two of the six layers change each coordinate, so that e^2S is the most, whatever the nets' outputs."""
    warp = make_warp(torch.float64, replace(SMALL, soft_bound=1.0), use_affine=False)
    x, ids = local_points(torch.float64), torch.arange(5)
    with torch.no_grad():
        for layer in warp.layers:
            layer.scale_shift.last.weight.zero_()
            layer.scale_shift.last.bias.copy_(torch.tensor([-1000.0, 1000.0]))
        there = warp.to_canonical(x, ids)
        back = warp.to_local(there, ids)
    torch.testing.assert_close(there, ((x - 2) * math.e - 2) * math.e)
    torch.testing.assert_close(back, x)


@pytest.mark.parametrize("more", ["--num_iters 1", "--num_iters 3 --i_weight 1", "--num_iters 3 --i_cache 1"])
def test_an_update_that_overflows_leaves_no_checkpoint(tiny_flags, more, monkeypatch):
    """The gradients before it are finite; the run may end before any other is computed."""
    monkeypatch.setattr("networks.optimizer.learning_rate", lambda *args, **kwargs: 1e38)
    with pytest.raises(SystemExit) as stopped:
        main([*tiny_flags, *more.split()])
    assert "is not finite after the update" in str(stopped.value.code)
    assert not list(Path("out").rglob("*.pth")) and not list(Path("out").rglob("*.npy"))
