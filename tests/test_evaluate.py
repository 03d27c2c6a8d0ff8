"""evaluate.py: the scores of trained runs; tables, files and refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import evaluate
import preprocessing.main_processing as main_processing
import viz
from tests.conftest import TINY
from train import main as train


@pytest.fixture(scope="module")
def run_folder(scene_dir, tmp_path_factory) -> Path:
    """The folder of a run of two training steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        train([*TINY.split(), "--data_dir", str(scene_dir), "--num_iters", "2"])
        return Path("out/tiny_scene").resolve()


@pytest.fixture
def trained(tiny_flags, run_folder) -> list[str]:
    """Flags of that training, whose run is in the test's own folder."""
    shutil.copytree(run_folder, "out/tiny_scene")
    return tiny_flags


def refusal(flags: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(flags)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_scores_are_printed_and_written_with_where_they_come_from(trained, capsys):
    evaluate.main(trained)
    printed, folder = capsys.readouterr().out, Path("out") / "tiny_scene"
    content = json.loads((folder / "scores.json").read_text())
    rows = content["videos"]["scene"]
    assert list(rows) == ["direct flow", "chained flow", "OmniMotion"] and content["mean"] == rows
    for name, row in rows.items():
        assert f"{name}, gap 1-2" in printed and f"{row['AJ']:.3f}" in printed
        assert 0 <= row["AJ"] <= row["<d_avg"] <= 1 and row["TC"] >= 0
        assert set(content["by_gap"]["scene"][name]) == {"gap 1-2", "gap 3-4", "gap 5-5"}
        groups = content["by_group"]["scene"][name]
        assert f"foreground, {name}" in printed and {"foreground", "background"} < set(groups)
        sizes = [group["queries"] for label, group in groups.items() if "%" in label]
        assert sum(sizes) == groups["foreground"]["queries"] > 0
    assert content["settings"]["num_samples_ray"] == 4 and content["benchmark"] == "tracks"
    trained_by = content["trained"]["scene"]
    assert trained_by["checkpoint"].endswith("model_000002.pth") and trained_by["step"] == 2
    assert trained_by["flags"]["num_pts"] == 16
    assert (
        "commit" in content
        and all(content[key] for key in ("date", "processor", "cores", "torch", "python"))
        and content["seconds"] >= 0
    )
    assert (folder / "errors.png").exists()


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_stored_tracks_of_the_model_score_as_the_model(mode, trained, scene_dir, capsys):
    evaluate.main([*trained, "--query_mode", mode])
    folder = Path("out") / "tiny_scene"
    model = json.loads((folder / "scores.json").read_text())["videos"]["scene"]["OmniMotion"]
    tracks, gt = str(folder / f"tracks_{mode}.npz"), str(scene_dir / "gt_tracks.npz")
    # The flags of a training may be among them: they name a folder, but tracks that it was not trained on.
    evaluate.main([*(trained if mode == "first" else []), "--tracks", tracks, "--gt", gt, "--query_mode", mode])
    stored = json.loads((folder / f"tracks_{mode}.scores.json").read_text())["videos"]["scene"][f"tracks_{mode}"]
    assert stored == pytest.approx(model)


def test_a_folder_of_sequences_is_scored_run_by_run(trained, scene_dir, capsys):
    for name in ("one", "two", ".unfinished"):
        shutil.copytree(scene_dir, Path("videos") / name)
    flags = [*trained, "--data_dir", "videos"]
    shutil.copytree("out/tiny_scene", "out/tiny_one")
    assert "no checkpoint in out/tiny_two" in refusal(flags, capsys)
    checkpoint = ["--ckpt_path", "out/tiny_scene/model_000002.pth"]
    assert "one checkpoint, but videos holds 2" in refusal([*flags, *checkpoint], capsys)
    shutil.copytree("out/tiny_scene", "out/tiny_two")
    evaluate.main(flags)
    assert "mean of 2 videos" in capsys.readouterr().out
    content = json.loads(Path("out/tiny_scores.json").read_text())
    assert list(content["videos"]) == ["one", "two"] and Path("out/tiny_two/scores.json").exists()
    assert content["mean"]["OmniMotion"] == pytest.approx(content["videos"]["one"]["OmniMotion"])


@pytest.mark.parametrize("command", [train, evaluate.main, viz.main, main_processing.main])
def test_a_url_is_refused_as_it_was_given(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command(["--data_dir", "https://a.org/v.mp4"])
    assert stopped.value.code == 2
    assert "--data_dir: https://a.org/v.mp4 is a URL, expected a file: download it" in capsys.readouterr().err


def test_without_a_model_or_exact_tracks_it_refuses(tiny_flags, scene_dir, tmp_path, capsys):
    assert "train first" in refusal(tiny_flags, capsys)
    said = refusal([*tiny_flags, "--data_dir", "nowhere"], capsys)
    assert "--data_dir: nothing at nowhere" in said and "checkpoint" not in said
    assert "--gt is not given" in refusal(["--tracks", "x.npz"], capsys)
    assert "--gt nowhere.npz" in refusal(["--tracks", "x.npz", "--gt", "nowhere.npz"], capsys)
    np.savez("alone.npz", points=np.zeros((1, 3, 2)), occluded=np.zeros((1, 3)))
    assert "no color/" in refusal(["--tracks", "x.npz", "--gt", "alone.npz"], capsys)
    train([*tiny_flags, "--num_iters", "1"])
    (tmp_path / "bare" / "scene").mkdir(parents=True)
    (tmp_path / "bare" / "scene" / "color").symlink_to(scene_dir / "color")
    assert "gt_tracks.npz is missing" in refusal([*tiny_flags, "--data_dir", "bare/scene"], capsys)
    assert "badja.json" in refusal([*tiny_flags, "--benchmark", "badja"], capsys)
