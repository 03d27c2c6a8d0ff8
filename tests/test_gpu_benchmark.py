"""`benchmarks.gpu`, on a CPU and a tiny scene: parts end in their own ways, and the others go on."""

import json
import shutil
from pathlib import Path

import pytest
from tqdm import tqdm

from tests.benchmark_commands import run_benchmark
from tests.conftest import tiny_config

NEVER_READY = "import pathlib, sys, time\npathlib.Path(sys.argv[1]).mkdir()\ntime.sleep(3600)\n"


@pytest.fixture
def given(scene_dir, tmp_path, monkeypatch) -> list[str]:
    """Flags for a shared folder with one clip, and settings of seconds."""
    monkeypatch.chdir(tmp_path)
    for name in ("color", "mask"):
        shutil.copytree(scene_dir / name, Path("shared/data/davis/dog") / name)
    for name, text in {"shared/tools/tapvid32.py": NEVER_READY, "configs/fast.txt": ""}.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    return ["--shared", "shared", "--configs", "configs", "--device", "cpu", "--out", "kept"]


def settings(**more: object) -> str:
    left_out = ("expname", "device", "use_error_map", *more)
    lines = [line for line in tiny_config().splitlines() if line.split(" = ")[0] not in left_out]
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in more.items())])


def outcomes(given: list[str], *flags: str) -> tuple[int, dict[str, dict]]:
    """Run the benchmark; return its exit status and what it has kept."""
    status = 0
    try:
        run_benchmark("gpu", *given, *flags)
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    return status, json.loads(Path("kept/gpu.json").read_text())["parts"]


def test_parts_that_fail_or_cannot_run_or_never_end_are_recorded_and_made_later(given, capsys):
    Path("configs/fast.txt").write_text("nonsense = 1\n")
    status, parts = outcomes(given, "--parts", "parity", "steps", "batches")
    assert status == 1, "the golden folder is missing"
    assert {name: part["status"] for name, part in parts.items()} == {
        **{"parity": "skipped", "steps": "failed", "batches": "skipped"}
    }
    assert parts["parity"]["reason"].endswith("golden") and "nonsense" in parts["steps"]["reason"]
    status, parts = outcomes(given, "--parts", "accuracy", "--minutes", "0.2")
    assert status == 0 and list(parts) == ["parity", "steps", "batches", "accuracy"]
    assert parts["accuracy"]["status"] == "over its limit" and parts["steps"]["status"] == "failed"
    Path("configs/fast.txt").write_text(settings())
    done = outcomes(given, "--parts", "steps")[1]["steps"]
    assert done["status"] == "done" and done["result"]["fast.txt, as it is"]["ms"] > 0
    capsys.readouterr()
    assert outcomes(given, "--parts", "steps")[1]["steps"] == done, "it is not made again"
    printed = capsys.readouterr().out
    assert "| fast.txt, as it is |" in printed and Path("kept/gpu.md").read_text().strip() in printed


def test_an_interrupted_training_is_compared_with_undisturbed_ones(given, scene_dir):
    scene = Path(shutil.copytree(scene_dir, "scene")).resolve()
    Path("configs/demo.txt").write_text(settings(num_iters=100, i_weight=20, i_print=10, data_dir=scene))
    run_benchmark("gpu", *given, "--part", "resume")
    found = json.loads(Path("kept/resume/report.json").read_text())
    assert found["killed"] and found["stopped by Ctrl-C"] and "not exact" not in found["resumed at steps"]
    assert {value for name, value in found.items() if "differs" in name} == {0.0}, "a CPU adds in one order"


def test_preprocessing_is_timed_by_stage_and_serves_the_whole_run(given, monkeypatch):
    for name in ("__init__", "close"):  # which are watched
        monkeypatch.setattr(tqdm, name, getattr(tqdm, name))
    Path("configs/fast.txt").write_text(settings(chain="false"))
    run_benchmark("gpu", *given, "--part", "preprocess")
    found = json.loads(Path("kept/preprocess/report.json").read_text())
    assert found["pairs with flow"] == 30 and all(found[f"{stage}, s"] > 0 for stage in ("flow", "filter", "chain"))
