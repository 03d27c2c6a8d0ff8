"""Every benchmark can be imported; preprocessing, tracking, precision and the work of points are measured here, too."""

import importlib
import json
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY
from test_same_computation import KINDS, make_model

from benchmarks import gpu_step, inference, measure, precision, preprocess, step_time, visualization_cost
from benchmarks.correspondence import VALID_WRONG, as_text, quality
from evaluation.ground_truth import TrackTruth
from loaders.flow_store import PairMask
from preprocessing.sequence_paths import SequencePaths

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_it_can_be_imported(name):
    importlib.import_module(f"benchmarks.{name}")


def test_preprocessing_is_measured(scene_dir, monkeypatch):
    for module in ("benchmarks.preprocess", "preprocessing.flow_raft"):
        monkeypatch.setattr(f"{module}.NUM_UPDATES", 1)
    monkeypatch.setattr(preprocess, "RAFT_FRAMES", 2)
    monkeypatch.setattr(preprocess, "FILTER_FRAMES", 4)
    args = Namespace(device="cpu", keep=None, num_frames=3, pairs="all")
    raft = preprocess.part_raft(SequencePaths(scene_dir), args)
    assert raft["largest difference of the flows, px"] < 1e-3 and raft["s a pair, torchvision's forward"] > 0
    assert set(preprocess.part_filter(SequencePaths(scene_dir), args)) >= {"dino: ratio", "sift: ratio"}
    for stage in preprocess.STAGES:  # which it replaces
        monkeypatch.setattr(f"preprocessing.pipeline.{stage}", getattr(preprocess.pipeline, stage))
    whole = preprocess.part_whole(SequencePaths(scene_dir), args)
    assert whole["frames, width, height, pairs"] == [3, 56, 40, 6] and whole["chain_flow, s"] > 0


@pytest.mark.parametrize("kind", ["affine", "both"])
def test_tracking_is_measured(kind, monkeypatch):
    monkeypatch.setattr(measure, "PRODUCT", 64)
    monkeypatch.setattr(inference, "NUM_FRAMES", 7)
    monkeypatch.setattr(inference, "QUERY", 2)
    model = make_model(torch.float32, **KINDS[kind])
    plain, ours = inference.measure(model, "with occlusion", repeats=1).values()
    assert plain["faster"] == 1 and plain["GFLOP"] > ours["GFLOP"] > 0 and ours["px apart"] < 1e-2


def test_precision_is_measured():
    warp, errors = make_model(torch.float32).warp, {}
    for name, rounded in precision.PRECISIONS.items():
        with rounded():
            errors[name] = precision.round_trip_error(warp)
    assert errors["float32"] < 1e-5 < errors["bfloat16"] and errors["float32"] < errors["TF32"] < errors["bfloat16"]


def test_tf32_keeps_ten_bits():
    x = torch.tensor([1 + 2**-10, 1 + 2**-12, 1 + 3 * 2**-12, -1 - 2**-11])
    assert precision.to_tf32(x).tolist() == [1 + 2**-10, 1, 1 + 2**-10, -1 - 2**-10]


def test_points_that_pass_are_counted_and_cost_something():
    model = make_model(torch.float32)
    with visualization_cost.counted_points() as passed:
        model.map_points(2, torch.rand(5, 2) * 30, [1, 3, 4], with_occlusion=False)
    samples = model.config.num_samples_ray
    assert passed == {"warp": 5 * samples + 3 * 5, "volume": 5 * samples}
    assert min(visualization_cost.gflop_per_point(model).values()) > 0


def test_flow_is_compared_with_exact_tracks():
    """Points that stand still, one of them hidden in the last frame; flow that is off by as much as is said."""
    points = np.full((4, 3, 2), 2.0) + np.arange(4)[:, None, None]
    occluded = np.zeros((4, 3), bool)
    occluded[0, 2] = True
    truth, yes = TrackTruth(points, occluded, (8, 8), exact=True), np.ones((8, 8), bool)
    valid = yes.copy()
    valid[2, 2] = False  # where the first point is
    mask = PairMask(consistent=valid, rescued=~yes)
    for off, right, wrong in ((0, 1, 0), (4, 0, 0), (6, 0, 1)):
        flow = np.tile(np.float32((0, off)), (8, 8, 1))
        store = SimpleNamespace(names="abc", known=~np.eye(3, dtype=bool), flow=lambda *_: flow, mask=lambda *_: mask)  # noqa: B023
        found = quality(store, truth)
        assert found["1"] == {"error": off, "right": right, "valid": 12 / 14, "wrong": wrong}
        assert found["2-2"] == {"error": off, "right": right, "valid": 1.0, "wrong": wrong}
    assert as_text({"1": {"valid": 0.5, "wrong": 0.25}}, VALID_WRONG) == "gap 1 50%, 25.0%"


def test_a_training_step_is_timed_after_the_depth_prior(monkeypatch):
    monkeypatch.setattr(gpu_step, "WARM_UP", 1)
    monkeypatch.setattr(gpu_step, "STEPS", 3)
    steps, train_step = [], gpu_step.Trainer.train_step
    monkeypatch.setattr(
        gpu_step.Trainer,
        "train_step",
        lambda self, batch: steps.append(batch.src_px.shape) or train_step(self, batch),
    )
    row = gpu_step.measure([*TINY.split(), "--depth_prior", "5", "--num_iters", "3600000"], "cpu")
    assert steps == [(4, 16, 2)] * 4
    assert row["hours"] == pytest.approx(row["ms"]) and row["ms"] > 0


def test_each_row_of_a_gpu_is_kept_as_soon_as_it_is_there(monkeypatch, tmp_path, capsys):
    def row_of(module, word):
        if "--amp true" in word:
            raise KeyboardInterrupt
        return {"ms": 7.0}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")
    monkeypatch.setattr(gpu_step, "alone", row_of)
    with pytest.raises(SystemExit):
        gpu_step.main(["--configs", "my configs/x.txt", "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert list(rows) == ["--config 'my configs/x.txt'", "--config 'my configs/x.txt' --tf32 true"]
    assert all(
        row["ms"] == 7.0 and row["torch"] == torch.__version__ and row["gpu"] == "a GPU" for row in rows.values()
    )
    assert "a GPU" in capsys.readouterr().out


def test_without_a_gpu_there_is_nothing_to_time(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as refusal:
        gpu_step.main([])
    assert refusal.value.code == 2 and "torch sees no GPU here" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--nonsense", "1"]])
def test_a_mistake_is_told_before_steps_are_timed(monkeypatch, capsys, flags):
    monkeypatch.setattr(sys, "argv", ["step_time", *flags])
    with pytest.raises(SystemExit) as refusal:
        step_time.main()
    assert refusal.value.code == 2 and capsys.readouterr().err.startswith("error: ")
