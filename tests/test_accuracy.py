"""`benchmarks.accuracy`: runs are made once, with one kind of settings, and their table is mean and spread."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from preprocessing import get_tapvid
from preprocessing.synthetic import make_scene
from tests.archive_files import pickled
from tests.benchmark_commands import run_benchmark
from tests.conftest import tiny_config


@pytest.fixture
def flags(scene_dir, tmp_path, monkeypatch) -> list[str]:
    """Flags for one scene, one tiny config and one seed."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(scene_dir, "given/scene")
    Path("tiny.txt").write_text(tiny_config())
    return ["--scenes", "given/scene", "--configs", "tiny.txt", "--out", "kept", "--num_iters", "1", "--seeds", "1"]


def keep_run(scene: str, config: str, seed: int, groups: dict | None = None, **rows: dict) -> None:
    """Write what a finished run leaves; one of an earlier version has no groups."""
    scores = {"mean": rows, "commit": "abc", "gpu": None, "processor": "some CPU"}
    scores |= {} if groups is None else {"by_group": {scene: groups}}
    run = {"scene": scene, "config": config, "seed": seed, "training_seconds": 1, "scores": scores}
    path = Path("kept/runs") / f"{scene}_{config}_seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run))


def printed_rows(capsys) -> list[list[str]]:
    """Return the cells of the printed tables."""
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def refusal(flags: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        run_benchmark("accuracy", *flags)
    assert stopped.value.code == 2 and not list(Path("kept").glob("out/*"))
    return capsys.readouterr().err


def test_a_run_is_trained_scored_and_kept(flags, capfd):
    """Two seeds, of which the first is there: the second alone is made, and the table holds both."""
    flow = {"AJ": 0.5, "<d_avg": 0.5, "OA": 0.5, "TC": 0.25, "px visible": 1.0, "visible 90%": 2.0}
    flow |= {"px occluded": 1.0, "occluded 90%": 2.0}
    keep_run("scene", "tiny", 0, **{"direct flow": flow, "OmniMotion": flow})
    run_benchmark("accuracy", *flags, "--seeds", "2")
    printed = capfd.readouterr().out
    assert printed.count("wrote out/tiny_seed1_scene/scores.json") == 1
    assert Path("kept/accuracy.md").read_text() in printed and "kept/accuracy.md" in printed
    assert [path.name for path in Path("kept/out").iterdir()] == ["tiny_seed1_scene"]
    first, second = (run["scores"] for run in json.loads(Path("kept/accuracy.json").read_text()))
    assert second["settings"]["loader_seed"] == 1 and second["settings"]["num_iters"] == 1
    row = next(line for line in printed.splitlines() if "| tiny" in line)
    mean = (first["mean"]["OmniMotion"]["TC"] + second["mean"]["OmniMotion"]["TC"]) / 2
    assert f"{mean:.3f} ± " in row and "direct flow" in printed and "chained flow" in printed


def test_other_settings_never_mix_with_kept_runs(flags, capsys):
    keep_run("scene", "tiny", 0, OmniMotion={"AJ": 1.0})
    run_benchmark("accuracy", *flags)  # whose run is there
    assert "other flags" in refusal([*flags, "--num_pts", "8"], capsys)
    assert "other scoring" in refusal([*flags, "--query_mode", "first"], capsys)
    Path("tiny.txt").write_text(Path("tiny.txt").read_text() + "num_layers = 2\n")
    assert "other configs (tiny)" in refusal(flags, capsys)


def test_a_changed_scene_is_not_mixed_with_kept_runs(flags, capsys):
    keep_run("scene", "tiny", 0, OmniMotion={"AJ": 1.0})
    run_benchmark("accuracy", *flags)
    given, copy = Path("given/scene"), Path("kept/scenes/scene")
    assert not (copy / "raft_masks").exists(), "only what a scene is given with is copied"
    (copy / "raft_masks").mkdir()  # as preprocessing does
    run_benchmark("accuracy", *flags)
    with np.load(given / "gt_tracks.npz") as file:
        points, occluded = file["points"], file["occluded"]
    np.savez(given / "gt_tracks.npz", points=points + 1, occluded=occluded)
    assert "copied from other files" in refusal(flags, capsys)
    shutil.copyfile(copy / "gt_tracks.npz", given / "gt_tracks.npz")
    run_benchmark("accuracy", *flags)
    frame = given / "color" / "00002.png"
    frame.write_bytes(frame.read_bytes()[:-1] + b"x")  # as long as before
    assert "copied from other files" in refusal(flags, capsys)


def test_mistakes_are_found_before_any_run(flags, capsys):
    Path("bare/color").mkdir(parents=True)
    assert "bare is no scene" in refusal([*flags, "--scenes", "bare"], capsys)
    assert "another name" in refusal([*flags, "--scenes", "given/scene", "given/../given/scene"], capsys)
    assert "num_pst" in refusal([*flags, "--num_pst", "4"], capsys)
    assert "--config is chosen for each run" in refusal([*flags, "--config", "tiny.txt"], capsys)
    assert "--expname is chosen" in refusal([*flags, "--expname=mine"], capsys)
    assert "num_threads" in refusal([*flags, "--num_threads", "-1"], capsys)
    assert "raft.pth is missing" in refusal([*flags, "--raft_weights", "raft.pth"], capsys)
    assert "badja.json is missing" in refusal([*flags, "--benchmark", "badja"], capsys)
    assert not Path("kept").exists()


def test_the_table_by_hand(flags, capsys):
    """Two scenes, two seeds; BADJA's other metrics have their own table; a missing value is a dash."""
    flow = {"AJ": 0.5, "TC": None}
    for scene, base in (("a", 0.4), ("b", 0.8), ("scene", 0.0)):
        for seed in (0, 1):
            keep_run(scene, "tiny", seed, flow=flow, OmniMotion={"AJ": base + 0.1 * seed, "TC": 1 + 0.1 * seed})
    keep_run("dog", "tiny", 0, OmniMotion={"3 px": 0.25})
    run_benchmark("accuracy", *flags)
    lines = printed_rows(capsys)
    assert ["a", "flow", "1", "0.500", "-"] in lines
    assert ["b", "tiny", "2", "0.850 ± 0.071", "1.050 ± 0.071"] in lines
    assert lines[lines.index(["mean of 3", "tiny", "2", "0.450 ± 0.071", "1.050 ± 0.071"]) + 1 :][0] == [
        *("mean of 3", "tiny, worst", "", "0.400", "1.100")
    ]
    assert ["dog", "tiny", "1", "0.250"] in lines and "abc on some CPU" in Path("kept/accuracy.md").read_text()


def test_the_table_of_groups_by_hand(flags, capsys):
    """A group counts in the scenes that have it, and a score in those of them where it exists."""
    for seed in (0, 1):
        for scene, queries, lost in (("a", 10, 0.2), ("b", 30, None), ("scene", 0, 0.0)):
            model = {"queries": queries, "AJ": 0.5 + 0.1 * seed, "visible lost": lost and lost + seed}
            groups = {
                "direct flow": {"static": {"queries": queries, "AJ": 0.25, "visible lost": lost}},
                "OmniMotion": {"static": model},
            }
            keep_run(scene, "tiny", seed, groups if queries else None, OmniMotion={"AJ": 1.0})
    run_benchmark("accuracy", *flags)
    lines = printed_rows(capsys)
    at = lines.index(["group", "scenes", "queries", "tracker", "runs", "AJ", "visible lost"])
    assert [line[3:] for line in lines[at + 2 :]] == [
        ["direct flow", "1", "0.250", "0.200"],
        ["tiny", "2", "0.550 ± 0.071", "0.700 ± 0.707"],
        ["tiny, worst", "", "0.500", "1.200"],
    ]
    assert {tuple(line[:3]) for line in lines[at + 2 :]} == {("static", "2", "40")}


def test_the_first_frames_of_a_tapvid_pickle_are_scored(flags, capfd):
    """Of 8 frames 6 are used: a point seen only in the last two is no query. Without masks, motion makes the groups."""
    scene = make_scene(num_frames=8, height=40, width=56, seed=3)
    occluded = scene.occluded.copy()
    occluded[0] = np.arange(8) < 6
    sequence = {"video": scene.video, "points": (scene.points + 0.5) / [56, 40], "occluded": occluded}
    archive = pickled(Path("tapvid.pkl"), {"goat": sequence})
    get_tapvid.main(["--archive", str(archive), "--out", "given", "--size", "0", "--sequences", "goat"])
    flags += ["--scenes", "given/goat", "--benchmark", "tapvid", "--num_imgs", "6"]
    run_benchmark("accuracy", *flags)
    (run,) = json.loads(Path("kept/accuracy.json").read_text())
    assert set(run["scores"]["mean"]["OmniMotion"]) > {"AJ", "<d_avg", "OA", "occl. found", "visible lost"}
    with np.load("kept/out/tiny_seed0_goat/tracks_strided.npz") as file:
        assert file["tracks"].shape[0] == 6
        queried = file["queries"]
    visible = ~occluded[:, [0, 5]].T
    assert queried[:, 0].tolist() == [5 * frame for frame in np.nonzero(visible)[0]]
    np.testing.assert_allclose(queried[:, 1:], scene.points[:, [0, 5]].swapaxes(0, 1)[visible], atol=1e-3)
    groups = run["scores"]["by_group"]["goat"]
    assert set(groups) == {"direct flow", "chained flow", "OmniMotion"}
    for rows in groups.values():
        assert set(rows) <= {"moving", "static"} and sum(row["queries"] for row in rows.values()) == len(queried)
    assert "Groups of queries" in capfd.readouterr().out
    run_benchmark("accuracy", *flags)  # whose run is there
    assert "wrote" not in capfd.readouterr().out
