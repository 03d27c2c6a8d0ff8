"""benchmarks/time_to_accuracy.py: what a run reached within a time, and that it is measured while it trains."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_config

from benchmarks import time_to_accuracy
from benchmarks.time_to_accuracy import PANELS, WHOLE, Stopwatch, at, curves, table
from criterion import TrainingDiverged
from trainer import Trainer


def test_pauses_take_no_time(monkeypatch):
    monkeypatch.setattr(time_to_accuracy.time, "perf_counter", iter([0, 10, 15, 20]).__next__)
    watch = Stopwatch()
    with watch.paused():  # from 10 to 15
        pass
    assert watch.seconds == 15


def run_of(seed: int, reached: float, **figures: float) -> dict:
    """A run that was measured after 1, 2 and 4 minutes."""
    figures = {"AJ": 0.5, "OA": 0.5, "TC": 0.5, "px visible": 1.0} | figures
    rows = [{"seconds": 60.0 * k, "step": 2.0 * k, "<d_avg": reached * k / 4, **figures} for k in (1, 2, 4)]
    run = {"scene": "a", "config": "fast", "seed": seed, "rows": rows, "flow": {"direct flow": rows[0]}}
    return run | {"GFLOP of a step": 1000.0, "ended": WHOLE, "commit": "abc", "gpu": None, "processor": "one"}


def cells_of(text: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[0:1] == "|"]
    return {f"{line[0]}, {line[1]}": line[2:] for line in lines}


def test_what_is_reached_is_what_was_measured_last():
    run = run_of(0, 0.8)
    assert at(run, 0.99) is None
    assert [at(run, minutes)["<d_avg"] for minutes in (1, 1.99, 2, 20)] == [0.2, 0.2, 0.4, 0.8]
    assert at(run, 20)["minutes"] == 4 and at(run, 20)["TFLOP"] == 8


def test_the_last_row_is_the_last_score_whatever_its_second():
    run = run_of(0, 0.8)
    run["rows"][-1]["seconds"] = 1006.633369570616  # 60 times a 60th of which is less
    assert cells_of(table([run], []))["a, fast, 16.8 min"][1] == "0.800"


def test_the_table_has_the_mean_and_the_worst_seed():
    text = table([run_of(0, 0.8), run_of(1, 0.6)], [0.5, 2, 10])
    cells = cells_of(text)
    header, *rows = cells
    assert cells[header] == ["AJ", "<d_avg", "OA", "TC", "px visible", "px occluded", "TFLOP", "worst <d_avg"]
    assert rows[1:] == ["a, direct flow", "a, fast, 2 min", "a, fast, 4 min"], "none before the first, nor past the end"
    early = cells["a, fast, 2 min"]
    assert early[1] == "0.350 ± 0.071" and early[5:] == ["-", "4.000 ± 0.000", "0.300"]
    assert cells["a, fast, 4 min"][1] == "0.700 ± 0.141" and cells["a, fast, 4 min"][7] == "0.600"
    assert "abc on one" in text


def test_a_run_that_diverged_is_told_and_hides_no_time_of_the_others():
    whole, lost = run_of(0, 0.8), run_of(1, 0.4)
    lost["rows"], lost["ended"] = lost["rows"][:1], "step 3: loss_flow is not finite"
    cells = cells_of(table([whole, lost], [2]))
    assert cells["a, fast (1 of 2 diverged), 4 min"][1] == "0.450 ± 0.495", "at what it had come to"
    assert "a, fast (1 of 2 diverged), 2 min" in cells


def test_hidden_points_that_the_truth_does_not_know_leave_a_panel_empty():
    figure = curves([run_of(0, 0.8)])
    assert len(figure.axes) == len(PANELS)
    known = curves([run_of(0, 0.8, **{"px occluded": 2.0})])
    lines = [np.isfinite(drawn.axes[1].lines[0].get_ydata()).any() for drawn in (figure, known)]
    assert lines == [False, True]


def test_runs_are_measured_while_they_train_and_kept(scene_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.txt").write_text(tiny_config())
    flags = ["--scenes", str(scene_dir), "--configs", "tiny.txt", "--seeds", "1", "--out", "kept"]
    time_to_accuracy.main([*flags, "--seconds", "0.2", "--every", "2"])
    (run,) = json.loads(Path("kept/time_to_accuracy.json").read_text())
    assert [row["step"] for row in run["rows"]] == list(range(2, 2 * len(run["rows"]) + 1, 2))
    assert run["rows"][-1]["seconds"] > 0.2 >= max([row["seconds"] for row in run["rows"][:-1]], default=0)
    assert run["ended"] == WHOLE and run["settings"]["config"] == tiny_config()
    assert Path("kept/time_to_accuracy.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert {"scene, direct flow"} < set(cells_of(printed)) and "tiny, " in printed
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
    """OneDNN's are most of them on a CPU, and torch's counter does not know them by itself."""
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
