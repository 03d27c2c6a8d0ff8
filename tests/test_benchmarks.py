"""Benchmarks as commands: all answer --help, and some measure a tiny scene."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocessing.flow_files import write_flow
from preprocessing.pair_files import write_pair_mask
from preprocessing.sequence_paths import SequencePaths
from tests.benchmark_commands import run_benchmark
from tests.conftest import tiny_config
from utils.images import write_image

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
COMMANDS = sorted(path.stem for path in FOLDER.glob("*.py") if "ArgumentParser" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_printed(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_benchmark(name, "--help")
    assert stopped.value.code == 0 and "usage" in capsys.readouterr().out


def test_flow_is_compared_with_exact_tracks(tmp_path, capsys):
    """Four points stand still, one of them occluded in the last frame; flow is wrong by a known distance."""
    names, points = [f"{t}.png" for t in range(3)], np.full((4, 3, 2), 2.0) + np.arange(4)[:, None, None]
    occluded = np.zeros((4, 3), bool)
    occluded[0, 2] = True
    valid = np.ones((8, 8), bool)
    valid[2, 2] = False  # where the first point is
    for error, right, wrong in ((0, "100%", "0.0%"), (4, "0%", "0.0%"), (6, "0%", "100.0%")):
        paths = SequencePaths(tmp_path / str(error))
        for a in names:
            write_image(paths.color / a, np.zeros((8, 8, 3), np.uint8))
            for b in names:
                if a != b:
                    write_flow(paths, a, b, np.tile(np.array([0, error], np.float32), (8, 8, 1)))
                    write_pair_mask(paths, a, b, valid, np.zeros_like(valid))
        paths.flow_stats.write_text(json.dumps({a: {b: 63 for b in names if a != b} for a in names}))
        np.savez(paths.gt_tracks, points=points, occluded=occluded)
        run_benchmark("correspondence", paths.root)
        flow, filtered = capsys.readouterr().out.splitlines()
        assert flow == f"{error}, flow: gap 1 {error:.2f} px ({right}); gap 2-2 {error:.2f} px ({right})"
        # The first point counts in the pairs between frames 0 and 1: 2 of 14.
        assert filtered == f"{error}, filtered: gap 1 86%, {wrong}; gap 2-2 100%, {wrong}"


def measured_row(capsys, name: str, *flags: object) -> dict:
    run_benchmark(name, *flags)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_preprocessing_is_measured(scene_dir, capsys):
    given = ("--data_dir", scene_dir, "--num_frames", 3)
    assert set(measured_row(capsys, "preprocess", *given, "--row", "filter")) >= {"dino: ratio", "sift: ratio"}
    whole = measured_row(capsys, "preprocess", *given, "--row", "whole")
    assert whole["frames, width, height, pairs"] == [3, 56, 40, 6] and whole["chain_flow, s"] > 0


def test_batches_are_measured(scene_dir, capsys):
    for form in ("plain", "ours"):
        row = measured_row(capsys, "loader", "--data_dir", scene_dir, "--batches", 1, "--row", form)
        assert 0 <= row["GB"] < 10


def test_training_steps_are_timed_after_the_depth_prior(scene_dir, tmp_path):
    """Steps of random batches, and of those that workers and the device draw."""
    config, report = tmp_path / "tiny.txt", tmp_path / "rows.json"
    config.write_text(tiny_config() + "depth_prior = 5\nmotion_share = 0.5\nnum_iters = 3600000\n")
    scene = shutil.copytree(scene_dir, tmp_path / "scene")
    given = ("--configs", config, "--device", "cpu", "--json", report)
    for more, names in (([], ["as it is"]), (["--data_dir", scene], ["--num_workers 4", "--draw_on_device"])):
        run_benchmark("step_time", *given, *more)
        rows = json.loads(report.read_text())
        assert list(rows) == [f"tiny.txt, {name}" for name in names]
        for row in rows.values():
            assert row["hours"] == pytest.approx(row["ms"]) and row["ms"] > 0 and "GB" not in row


def test_a_missing_gpu_and_wrong_flags_are_one_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (tmp_path / "wrong.txt").write_text("nonsense = 1\n")
    wrong = ["--configs", tmp_path / "wrong.txt", "--device", "cpu"]
    for flags, sentence in ((["--device", "cuda"], "--device cuda"), (wrong, "nonsense")):
        with pytest.raises(SystemExit) as stopped:
            run_benchmark("step_time", *flags)
        printed = capsys.readouterr().err
        assert stopped.value.code == 2 and printed.startswith("error: ") and sentence in printed
