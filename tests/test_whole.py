"""`benchmarks.whole`: time belongs to the innermost bar, and both checkouts are measured and scored alike."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmark_commands import run_benchmark
from tests.conftest import REPOSITORY

# Clocks that a script moves itself: wall time, and CPU time of the process and of its children.
CLOCKED = """
import resource, sys, time
from types import SimpleNamespace
from tqdm import tqdm, trange
import evaluation  # a module beside the script, not the package of this project

used = {resource.RUSAGE_SELF: 0.0, resource.RUSAGE_CHILDREN: 0.0}
wall = 0.0
time.perf_counter = lambda: wall
resource.getrusage = lambda whose: SimpleNamespace(ru_utime=used[whose], ru_stime=0.0)

def spend(seconds, whose=resource.RUSAGE_SELF):
    global wall
    wall += seconds
    used[whose] += seconds / 2

outer = tqdm(total=1, desc="training")
spend(1)
for _ in trange(2, desc="error maps"):
    spend(10, resource.RUSAGE_CHILDREN)
for _ in tqdm(range(2), desc="quiet", disable=True):
    spend(100)
for _ in tqdm(range(2), desc="left early"):
    spend(1000)
    break
spend(10000)
outer.close()
spend(100000)
late = tqdm(desc="never closed")
spend(1000000)
sys.exit(int(sys.argv[2]))
"""

TRAIN = """
import sys
from tqdm import trange
with open({made!r}, "a") as file:
    file.write({side!r})
assert "--num_iters" in sys.argv
for _ in trange(2, desc="training"):
    for _ in trange(2, desc={tracking!r}):
        pass
for _ in trange(2, desc={drawing!r}):
    pass
"""

EVALUATE = """
import pathlib, sys
import numpy as np
clip = pathlib.Path(sys.argv[sys.argv.index("--data_dir") + 1])
truth = np.load(clip / "gt_tracks.npz")
frames, ids = np.nonzero(~truth["occluded"].T[::5])
pathlib.Path("out/run").mkdir(parents=True)
tracks = truth["points"][ids].swapaxes(0, 1) / 2 - 0.25  # of frames half as large
if {still}:
    tracks[:] = tracks[5 * frames, np.arange(len(ids))]
np.savez("out/run/tracks_strided.npz", tracks=tracks, visibility=~truth["occluded"][ids].T)
"""


@pytest.fixture
def checkouts(tmp_path, monkeypatch) -> Path:
    """Two checkouts whose commands take no time; the old one's tracks stand still, the new one's are exact."""
    monkeypatch.chdir(tmp_path)
    for side, tracking, drawing, still in (
        ("old", "tracking queries", "00000_trails", True),
        ("new", "tracking points", "00000_grid", False),
    ):
        made = str(tmp_path / "made.txt")
        files = {"train.py": TRAIN.format(made=made, side=f"{side} ", tracking=tracking, drawing=drawing)}
        files |= {"evaluate.py": EVALUATE.format(still=still), "configs/tiny.txt": "num_pts = 8\n"}
        for name, text in files.items():
            (tmp_path / side / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / side / name).write_text(text)
        by = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        for words in (["init", "-q"], ["add", "."], [*by, "commit", "-qm", side]):
            subprocess.run(["git", *words], cwd=tmp_path / side, check=True)
    return tmp_path


def measured(scene_dir: Path, *flags: str) -> None:
    given = ["--old", "old", "--new", "new", "--config", "configs/tiny.txt", "--clips", scene_dir, "--out", "kept"]
    run_benchmark("whole", *given, *flags, "--", "--num_iters", "1", "--max_side", "28")


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[0:1] == "|"]


def test_time_belongs_to_the_innermost_bar(tmp_path):
    (tmp_path / "script.py").write_text(CLOCKED)
    (tmp_path / "evaluation.py").touch()
    command = [REPOSITORY / "benchmarks" / "stage_times.py", "report.json", tmp_path / "script.py", "--status", "3"]
    done = subprocess.run([sys.executable, *map(str, command)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    seconds = json.loads((tmp_path / "report.json").read_text())
    seconds.pop("")  # its beginning is that of the true clocks
    assert seconds == {
        "training": [10201 / 2, 10201],
        "training > error maps": [10, 20],
        "training > left early": [500, 1000],
        "never closed": [500000, 1000000],
    }


def test_both_checkouts_run_in_turn_and_finished_runs_are_kept(checkouts, scene_dir, capfd):
    measured(scene_dir)
    measured(scene_dir, "--repeats", "2")
    assert (checkouts / "made.txt").read_text() == "old new old new ", "the first of each is not made again"
    rows = rows_of(capfd.readouterr().out)
    runs = {row[1]: row[4:] for row in rows if len(row) == 7}
    assert set(runs) >= {"old, seed 0, repeat 1", "new, seed 0, repeat 1"}
    assert runs["new, median"][0] == "1.000", "exact positions"
    # Occlusion is right but for a point at the border, which is outside of the smaller frames.
    assert min(float(runs[f"{side}, median"][2]) for side in ("old", "new")) > 0.98
    assert float(runs["old, median"][0]) < 0.9
    stages = {tuple(row[1:3]): row[3:] for row in rows if len(row) == 9}
    assert "-" not in stages["train.py", "training (evaluation)"], "bars of both names"
    assert ("evaluate.py", "whole") in stages
    assert "-" not in stages["train.py", "pictures"], "trails of the old, the grid of the new"
    run = json.loads(Path("kept/runs/scene_new_seed0_repeat1.json").read_text())
    assert set(run["times"]) == {"train.py", "evaluate.py"}
    for times in run["times"].values():
        for clock in (0, 1):
            parts = [seconds[clock] for name, seconds in times.items() if name != "whole"]
            assert sum(parts) == pytest.approx(times["whole"][clock])
    assert sorted(path.name for path in Path().iterdir()) == ["kept", "made.txt", "new", "old"]
    assert sorted(path.name for path in Path("kept").iterdir()) == [*("code", "runs", "whole.json", "whole.md")]


def test_mistakes_are_one_sentence(checkouts, scene_dir, capsys):
    def refusal(*flags: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            measured(scene_dir, *flags)
        printed = capsys.readouterr().err
        assert stopped.value.code == 2 and printed.count("error: ") == 1
        return printed

    assert "kept is no checkout" in refusal("--old", "kept")
    assert "old is no clip" in refusal("--clips", "old")
    assert "--seeds" in refusal("--seeds", "0")
    assert "nonsense" in refusal("--nonsense", "1")
    assert "--data_dir is chosen for each run" in refusal("--", "--data_dir", "x")
    assert "configs/none.txt" in refusal("--config", "configs/none.txt")
    assert not Path("made.txt").exists()
    measured(scene_dir)
    capsys.readouterr()
    assert "made with another threads" in refusal("--threads", "1")
    (checkouts / "new" / "train.py").write_text("# other code\n")
    assert "made with another code" in refusal()


def test_sigterm_ends_the_running_command_too(checkouts, scene_dir):
    ends = "import os, signal, time\nos.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(20)\nopen({!r}, 'w')\n"
    (checkouts / "old" / "train.py").write_text(ends.format(str(checkouts / "made.txt")))
    with pytest.raises(SystemExit) as stopped:
        measured(scene_dir)
    assert stopped.value.code == 143
    assert not Path("made.txt").exists() and [path.name for path in Path("kept").iterdir()] == ["code"]
