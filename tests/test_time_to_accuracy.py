"""`benchmarks.time_to_accuracy`: what a run reached within a time, and that it is measured while it trains."""

import json
import signal
from math import nan
from pathlib import Path

import pytest

from criterion import TrainingDiverged
from tests.benchmark_commands import run_benchmark
from tests.conftest import tiny_config
from trainer import Trainer

WHOLE = "at its last step or by the time"


@pytest.fixture
def flags(scene_dir, tmp_path, monkeypatch) -> list[str]:
    """Flags for one scene, one tiny config and one seed."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.txt").write_text(tiny_config())
    return ["--scenes", str(scene_dir), "--configs", "tiny.txt", "--seeds", "1", "--every", "2", "--out", "kept"]


def keep_runs(flags: list[str], *runs: dict) -> list[str]:
    """Write what finished runs leave, with the settings that the flags stand for, and return flags that read them."""
    settings = [line.split(" = ") for line in tiny_config().splitlines()]
    made_by: dict[str, object] = {"settings": {"config": dict(settings), "seconds": 600.0, "every": 2}}
    made_by |= {"commit": "abc", "gpu": None, "processor": "one"}
    Path("kept/runs").mkdir(parents=True, exist_ok=True)
    for seed, run in enumerate(runs):
        Path(f"kept/runs/scene_tiny_{seed}.json").write_text(json.dumps(run | made_by | {"seed": seed}))
    return [*flags, "--seeds", str(len(runs)), "--minutes", "0.5", "2", "10"]


def make_run(reached: float, **metrics: float) -> dict:
    """Return a run that was scored after 1, 2 and 4 minutes."""
    metrics = {"AJ": 0.5, "OA": 0.5, "TC": 0.5, "px visible": 1.0} | metrics
    rows = [{"seconds": 60.0 * k, "step": 2.0 * k, "<d_avg": reached * k / 4, **metrics} for k in (1, 2, 4)]
    run = {"scene": "scene", "config": "tiny", "rows": rows, "flow": {"direct flow": rows[0]}}
    return run | {"GFLOP of a step": 1000.0, "ended": WHOLE}


def cells_of(text: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[0:1] == "|"]
    return {f"{line[0]}, {line[1]}": line[2:] for line in lines}


def test_the_table_has_the_mean_and_the_worst_seed(flags, capsys):
    run_benchmark("time_to_accuracy", *keep_runs(flags, make_run(0.8), make_run(0.6, **{"px visible": nan})))
    text = capsys.readouterr().out
    cells = cells_of(text)
    header, *rows = cells
    assert cells[header] == ["AJ", "<d_avg", "OA", "TC", "px visible", "px occluded", "TFLOP", "worst <d_avg"]
    assert rows[1:] == ["scene, direct flow", "scene, tiny, 2 min", "scene, tiny, 4 min"], "none before the first score"
    early, end = cells["scene, tiny, 2 min"], cells["scene, tiny, 4 min"]
    assert early[4] == "1.000", "unknown values are left out"
    assert early[1] == "0.350 ± 0.071" and early[5:] == ["-", "4.000 ± 0.000", "0.300"]
    assert end[1] == "0.700 ± 0.141" and end[6:] == ["8.000 ± 0.000", "0.600"] and "abc on one" in text
    assert Path("kept/time_to_accuracy.png").stat().st_size > 10_000


def test_the_last_row_is_the_last_score_whatever_its_second(flags, capsys):
    run = make_run(0.8)
    run["rows"][-1]["seconds"] = 1006.633369570616  # 60 times a 60th of which is less
    run_benchmark("time_to_accuracy", *keep_runs(flags, run))
    assert cells_of(capsys.readouterr().out)["scene, tiny, 16.8 min"][1] == "0.800"


def test_a_diverged_run_is_marked_and_hides_no_time_of_the_others(flags, capsys):
    whole, lost = make_run(0.8), make_run(0.4)
    lost["rows"], lost["ended"] = lost["rows"][:1], "step 3: loss_flow is not finite"
    run_benchmark("time_to_accuracy", *keep_runs(flags, whole, lost))
    cells = cells_of(capsys.readouterr().out)
    assert cells["scene, tiny (1 of 2 diverged), 4 min"][1] == "0.450 ± 0.495", "its last score counts"
    assert "scene, tiny (1 of 2 diverged), 2 min" in cells


def test_runs_are_measured_while_they_train_and_kept(flags, capsys, monkeypatch):
    flags += ["--seconds", "0.2"]
    run_benchmark("time_to_accuracy", *flags)
    (run,) = json.loads(Path("kept/time_to_accuracy.json").read_text())
    assert [row["step"] for row in run["rows"]] == list(range(2, 2 * len(run["rows"]) + 1, 2))
    assert run["rows"][-1]["seconds"] > 0.2 >= max([row["seconds"] for row in run["rows"][:-1]], default=0)
    assert run["ended"] == WHOLE and run["settings"]["config"]["num_pts"] == "16" and run["GFLOP of a step"] > 0
    printed = capsys.readouterr().out
    assert {"scene, direct flow"} < set(cells_of(printed)) and "tiny, " in printed
    monkeypatch.setattr(Trainer, "train_step", lambda *_: pytest.fail("made again"))
    Path("tiny.txt").write_text("# a comment\n" + tiny_config())
    run_benchmark("time_to_accuracy", *flags)
    capsys.readouterr()
    for config, every, different in (
        (tiny_config().replace("num_pts = 16", "num_pts = 8"), "2", "config"),
        (tiny_config(), "1", "every"),
    ):
        Path("tiny.txt").write_text(config)
        with pytest.raises(SystemExit) as refusal:
            run_benchmark("time_to_accuracy", *flags, "--every", every)
        assert refusal.value.code == 2
        assert f"scene_tiny_0.json was made with another {different}" in capsys.readouterr().err


def test_a_run_that_diverges_is_kept_with_its_last_score(flags, monkeypatch, capsys):
    step = Trainer.train_step

    def diverging_step(trainer, batch):
        if trainer.step == 3:
            raise TrainingDiverged("step 3: loss_flow is not finite")
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "train_step", diverging_step)
    run_benchmark("time_to_accuracy", *flags)
    (run,) = json.loads(Path("kept/time_to_accuracy.json").read_text())
    assert [row["step"] for row in run["rows"]] == [2, 3] and run["ended"] == "step 3: loss_flow is not finite"
    assert "scene, tiny, seed 0 diverged: step 3" in capsys.readouterr().out


def test_two_of_one_name_are_refused(flags, scene_dir, capsys):
    Path("b").mkdir()
    Path("b/tiny.txt").write_text(tiny_config())
    for double in (["--scenes", scene_dir, scene_dir], ["--configs", "tiny.txt", "b/tiny.txt"]):
        with pytest.raises(SystemExit) as refusal:
            run_benchmark("time_to_accuracy", *flags, *double)
        assert refusal.value.code == 2 and "give each another name" in capsys.readouterr().err


def test_a_run_that_the_user_stops_is_not_kept(flags, monkeypatch):
    step = Trainer.train_step

    def stopped_step(trainer, batch):
        if trainer.step == 2:
            signal.raise_signal(signal.SIGINT)
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "train_step", stopped_step)
    with pytest.raises(SystemExit) as stop:
        run_benchmark("time_to_accuracy", *flags)
    assert stop.value.code == 130 and not list(Path("kept").glob("runs/*"))
