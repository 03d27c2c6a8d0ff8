"""benchmarks/time_to_accuracy.py: what a run reached within a time, and that it is measured while it trains."""

import json
import signal
from pathlib import Path

import pytest
import torch
from conftest import tiny_config

from benchmarks import time_to_accuracy
from benchmarks.time_to_accuracy import Stopwatch, at, table
from divergence import TrainingDiverged
from trainer import Trainer


def test_pauses_take_no_time(monkeypatch):
    monkeypatch.setattr(time_to_accuracy.time, "perf_counter", iter([0, 10, 15, 20]).__next__)
    watch = Stopwatch()
    with watch.paused():  # from 10 to 15
        pass
    assert watch.seconds == 15


def test_what_is_reached_is_what_was_measured_last():
    rows = [{"seconds": 10.0, "AJ": 0.1}, {"seconds": 20.0, "AJ": 0.2}, {"seconds": 30.0, "AJ": 0.3}]
    assert [at(rows, seconds)["AJ"] for seconds in (5, 10, 29, 31)] == [0.1, 0.1, 0.2, 0.3]


def test_the_table_has_the_mean_and_the_worst_seed():
    def run(seed: int, reached: float) -> dict:
        figures = dict.fromkeys(("AJ", "OA", "TC", "px occluded"), 0.5)
        rows = [{"seconds": 60.0 * k, "step": 2.0 * k, "<d_avg": reached * k / 4, **figures} for k in (1, 2, 4)]
        flow = {"direct flow": {"<d_avg": 0.4, **figures}}
        return {"scene": "a", "config": "fast", "seed": seed, "rows": rows, "flow": flow, "GFLOP of a step": 1000.0}

    lines = [line.split() for line in table([run(0, 0.8), run(1, 0.6)]).splitlines()]
    header, cells = lines[0], {" ".join(line[:-7]): line[-7:] for line in lines[1:]}
    assert header == ["<d_avg", "AJ", "OA", "TC", "px", "occluded", "worst", "<d_avg", "TFLOP"]
    assert cells["a, fast, 2.0 min"] == ["0.350", "0.500", "0.500", "0.500", "0.500", "0.300", "4.000"]
    assert cells["a, fast, 4.0 min"][0] == "0.700" and cells["a, fast, 4.0 min"][5] == "0.600"


def test_runs_are_measured_while_they_train_and_kept(scene_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.txt").write_text(tiny_config())
    flags = ["--scenes", str(scene_dir), "--configs", "tiny.txt", "--seeds", "1", "--out", "kept"]
    time_to_accuracy.main([*flags, "--seconds", "0.2", "--every", "2"])
    (run,) = json.loads(Path("kept/time_to_accuracy.json").read_text())
    assert [row["step"] for row in run["rows"]] == list(range(2, 2 * len(run["rows"]) + 1, 2))
    assert run["rows"][-1]["seconds"] > 0.2 >= max([row["seconds"] for row in run["rows"][:-1]], default=0)
    assert run["ended"] == "at its last step or by the time" and run["settings"]["config"] == tiny_config()
    assert Path("kept/time_to_accuracy.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "scene, direct flow" in printed and "scene, tiny" in printed
    monkeypatch.setattr(time_to_accuracy, "train", lambda *_: pytest.fail("made again"))
    Path("tiny.txt").write_text("# a comment\n" + tiny_config())
    time_to_accuracy.main([*flags, "--seconds", "0.2", "--every", "2"])
    Path("tiny.txt").write_text(tiny_config().replace("num_pts = 16", "num_pts = 8"))
    with pytest.raises(SystemExit):
        time_to_accuracy.main([*flags, "--seconds", "0.2", "--every", "2"])
    assert "scene_tiny_0.json was made with another config" in capsys.readouterr().err
    Path("tiny.txt").write_text(tiny_config())
    with pytest.raises(SystemExit) as refusal:
        time_to_accuracy.main([*flags, "--seconds", "0.2", "--every", "1"])
    assert refusal.value.code == 2 and "scene_tiny_0.json was made with another every" in capsys.readouterr().err


def test_a_step_has_as_many_products_whatever_multiplies(scene_dir, tmp_path, monkeypatch):
    """oneDNN's are most of them on a CPU, and torch's counter does not know them by itself."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.txt").write_text(tiny_config())
    flags = ["--scenes", str(scene_dir), "--configs", "tiny.txt", "--seeds", "1", "--seconds", "0.01", "--every", "1"]
    counted = []
    for out, one_dnn in (("one_dnn", True), ("other", False)):
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda one_dnn=one_dnn: one_dnn)
        time_to_accuracy.main([*flags, "--out", out])
        counted.append(json.loads(Path(out, "runs/scene_tiny_0.json").read_text())["GFLOP of a step"])
    assert counted[0] == counted[1] > 0


def test_a_run_that_diverges_is_kept_and_said_to(scene_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.txt").write_text(tiny_config())
    step = Trainer.train_step

    def diverging_step(trainer, batch):
        if trainer.step == 3:
            raise TrainingDiverged("step 3: loss_flow is not finite")
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "train_step", diverging_step)
    flags = ["--scenes", str(scene_dir), "--configs", "tiny.txt", "--seeds", "1", "--every", "2", "--out", "kept"]
    time_to_accuracy.main(flags)
    (run,) = json.loads(Path("kept/time_to_accuracy.json").read_text())
    assert [row["step"] for row in run["rows"]] == [2, 3] and run["ended"] == "step 3: loss_flow is not finite"
    assert "scene, tiny, seed 0 diverged: step 3" in capsys.readouterr().out


def test_two_of_one_name_are_refused(scene_dir, tmp_path, capsys):
    for scenes, configs in (([scene_dir, scene_dir], ["a.txt"]), ([scene_dir], ["a.txt", "b/a.txt"])):
        for name in configs:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(tiny_config())
        flags = ["--scenes", *map(str, scenes), "--configs", *(str(tmp_path / name) for name in configs)]
        with pytest.raises(SystemExit) as refusal:
            time_to_accuracy.main([*flags, "--out", str(tmp_path / "kept")])
        assert refusal.value.code == 2 and "give each another name" in capsys.readouterr().err


def test_a_run_that_the_user_stops_is_not_kept(scene_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.txt").write_text(tiny_config())
    step = Trainer.train_step

    def stopped_step(trainer, batch):
        if trainer.step == 2:
            signal.raise_signal(signal.SIGINT)
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "train_step", stopped_step)
    with pytest.raises(SystemExit) as stop:
        time_to_accuracy.main(
            ["--scenes", str(scene_dir), "--configs", "tiny.txt", "--seeds", "1", "--every", "2", "--out", "kept"]
        )
    assert stop.value.code == 130 and not list(Path("kept").glob("runs/*"))
