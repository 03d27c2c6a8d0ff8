"""benchmarks/accuracy.py: runs are made once, of one kind of settings, and their table is mean and spread."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_config

import evaluate
import train
from benchmarks import accuracy


@pytest.fixture
def here(scene_dir, tmp_path, monkeypatch) -> list[str]:
    """Flags of a benchmark of one scene and one tiny config; the commands run in this process."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(scene_dir, "given/scene")
    Path("tiny.txt").write_text(tiny_config())
    started = []

    def in_process(script: str, flags: list[str], folder: Path) -> None:
        started.append(script)
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            {"train.py": train.main, "evaluate.py": evaluate.main}[script](flags)

    monkeypatch.setattr(accuracy, "call", in_process)
    monkeypatch.setattr(accuracy, "started", started, raising=False)
    return ["--scenes", "given/scene", "--configs", "tiny.txt", "--out", "kept", "--num_iters", "1"]


def refusal(flags: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        accuracy.main(flags)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_runs_are_kept_and_only_missing_ones_are_made(here, capsys):
    accuracy.main([*here, "--seeds", "1"])
    assert accuracy.started == ["train.py", "evaluate.py"]
    assert not Path("kept/scenes/scene/report.png").samefile("given/scene/report.png")
    accuracy.main([*here, "--seeds", "2"])
    assert accuracy.started == ["train.py", "evaluate.py"] * 2
    capsys.readouterr()
    accuracy.main([*here, "--seeds", "2"])
    assert len(accuracy.started) == 4
    printed = capsys.readouterr().out
    assert printed.startswith(Path("kept/accuracy.md").read_text()) and "kept/accuracy.md" in printed
    row = next(line for line in printed.splitlines() if "| tiny" in line)
    assert row.count(" ± ") >= 4 and "direct flow" in printed and "chained flow" in printed
    models = [run["scores"]["mean"]["OmniMotion"] for run in json.loads(Path("kept/accuracy.json").read_text())]
    assert models[0] != models[1]  # the seed reaches the networks
    assert f"{(models[0]['TC'] + models[1]['TC']) / 2:.3f} ± " in row


def test_other_settings_never_mix_with_kept_runs(here, capsys):
    accuracy.prepare(Path("kept"), [Path("given/scene")], [Path("tiny.txt")], ["--num_iters", "1"])
    assert "other flags" in refusal([*here, "--num_pts", "8"], capsys)
    Path("tiny.txt").write_text(Path("tiny.txt").read_text() + "num_layers = 2\n")
    assert "other configs (tiny)" in refusal(here, capsys)
    assert accuracy.started == []


def test_a_changed_scene_is_not_mixed_with_kept_runs(here, capsys):
    given, out = Path("given/scene"), Path("kept/scenes/scene")
    accuracy.copy_scene(given, out)
    (out / "raft_masks").mkdir()  # as preprocessing does
    accuracy.copy_scene(given, out)
    with np.load(given / "gt_tracks.npz") as file:
        points, occluded = file["points"], file["occluded"]
    np.savez(given / "gt_tracks.npz", points=points + 1, occluded=occluded)
    assert "copied from other files" in refusal(here, capsys)
    shutil.copyfile(out / "gt_tracks.npz", given / "gt_tracks.npz")
    accuracy.copy_scene(given, out)
    frame = given / "color" / "00002.png"
    frame.write_bytes(frame.read_bytes()[:-1] + b"x")  # as long as before
    assert "copied from other files" in refusal(here, capsys)
    assert accuracy.started == []


def test_files_are_found_from_any_folder(here):
    flags = accuracy.for_any_folder(["--benchmark", "tapvid", "--gt", "x.pkl"])
    assert flags[-2:] == ["--gt", str(Path.cwd() / "x.pkl")]


def test_mistakes_are_told_before_any_run(here, capsys):
    Path("bare/color").mkdir(parents=True)
    assert "bare is no scene" in refusal([*here, "--scenes", "bare"], capsys)
    assert "another name" in refusal([*here, "--scenes", "given/scene", "kept/../given/scene"], capsys)
    assert "num_pst" in refusal([*here, "--num_pst", "4"], capsys)
    assert "--config is chosen for each run" in refusal([*here, "--config", "tiny.txt"], capsys)
    assert "--expname is chosen" in refusal([*here, "--expname=mine"], capsys)
    assert "num_threads is -1" in refusal([*here, "--num_threads", "-1"], capsys)
    assert "raft.pth is missing" in refusal([*here, "--raft_weights", "raft.pth"], capsys)
    assert "badja.json is missing" in refusal([*here, "--benchmark", "badja"], capsys)
    assert accuracy.started == [] and not Path("kept").exists()


def run_of(scene: str, config: str, seed: int, **rows: dict) -> dict:
    scores = {"mean": rows, "commit": "abc", "gpu": None, "processor": "some CPU"}
    return {"scene": scene, "config": config, "seed": seed, "scores": scores}


def test_the_table_by_hand():
    """Two scenes, two seeds; BADJA's other figures stand apart; a figure that does not exist is a dash."""
    flow = {"AJ": 0.5, "TC": None}
    runs = [
        run_of(scene, "demo", seed, flow=flow, OmniMotion={"AJ": base + 0.1 * seed, "TC": 1.0})
        for scene, base in (("a", 0.4), ("b", 0.8))
        for seed in (0, 1)
    ]
    text = accuracy.report([*runs, run_of("dog", "demo", 0, OmniMotion={"3 px": 0.25})])
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    assert ["a", "flow", "1", "0.500", "-"] in lines
    assert ["b", "demo", "2", "0.850 ± 0.071", "1.000 ± 0.000"] in lines
    assert ["mean of 2", "demo", "2", "0.650 ± 0.071", "1.000 ± 0.000"] in lines
    assert ["dog", "demo", "1", "0.250"] in lines and "abc on some CPU" in text
