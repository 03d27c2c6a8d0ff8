"""Parts of `benchmarks.gpu`: what each needs, what it does, and its share of the minutes.

A part reports a flat dictionary, or rows by name, as often as it likes: what was reported last counts. It fails by
raising, or by `sys.exit` with a sentence.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.accuracy import call, copy_scene
from benchmarks.accuracy_tables import mean_over_scenes, rows_by_scene
from benchmarks.gpu_setup import CLIP, GOLDEN, TAPVID, WEIGHTS, Part, Setup, lacks
from benchmarks.stage_times import StageTimes, watch_bars
from configs.flags import parse_train
from evaluation.provenance import REPOSITORY
from utils.config import select

# Modules that measure are imported by the part that uses them: an import must not delay, or break, another part.

TAPVID_SIDE = 256  # pixels of the clips with labels: TAP-Vid's protocol
GPU_JOBS = 3  # trainings at a time where only scores are wanted: most of a training's minute is the host's
CHECKS = ("tests/test_step_graph.py", "tests/test_same_computation.py", "tests/test_flow_raft.py")


def run_tests(setup: Setup, part: str, *files: str) -> None:
    """Run the tests of these files that are for any device, on this one; report what they record."""
    kind, xml = setup.device.split(":")[0], setup.folder(part) / "tests.xml"
    xml.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *files,
        "-k",
        kind,
        "--junitxml",
        str(xml),
    ]
    subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"OMNIMOTION_GOLDEN": str(setup.shared / GOLDEN)})
    if not xml.exists():
        folder = setup.folder(part)
        sys.exit(f"pytest made no report (see {folder}); it needs: pip install -r requirements-dev.txt")
    cases = list(ElementTree.parse(xml).iter("testcase"))
    ends = [(case.get("name", ""), end) for case in cases for end in case if end.tag in ("failure", "error", "skipped")]
    failed = {name: " ".join((end.get("message") or "").split())[:300] for name, end in ends if end.tag != "skipped"}
    recorded = {each.get("name", ""): each.get("value") for case in cases for each in case.iter("property")}
    counts = {"passed": len(cases) - len(ends), "failed": len(failed), "skipped": len(ends) - len(failed)}
    setup.report(part, counts | recorded | failed)
    if failed or not counts["passed"]:
        sys.exit(f"failed: {', '.join(failed)}" if failed else "no test ran")


def step(setup: Setup) -> None:
    """Compare a step in float32 with a CPU's float64, replayed steps with launched ones, float16 with float32."""
    run_tests(setup, "step", *CHECKS)


def parity(setup: Setup) -> None:
    """Compare with numbers of the released implementation."""
    run_tests(setup, "parity", "tests/test_parity.py")


def resume(setup: Setup) -> None:
    """Kill a training, stop it by Ctrl-C, and compare it with undisturbed ones."""
    from benchmarks.gpu_resume import compare_interrupted

    config, report = setup.configs / "demo.txt", partial(setup.report, "resume")
    if wrong := compare_interrupted(config, setup.device, setup.folder("resume"), report):
        sys.exit(wrong)


def steps(setup: Setup) -> None:
    """Time steps of random batches."""
    from benchmarks.step_time import measure_rows
    from utils.device import pick_device

    measure_rows(setup.measured_configs(), pick_device(setup.device), None, partial(setup.report, "steps"))


def prepared_clip(setup: Setup) -> Path:
    """Return the folder of the clip that is preprocessed here, with its frames."""
    folder = setup.out / "clips" / CLIP.name
    copy_scene(setup.shared / CLIP, folder)
    return folder


def preprocess(setup: Setup) -> None:
    """Preprocess the clip as whole runs do, then chain; report wall seconds of every progress bar."""
    import torch

    from preprocessing import pipeline
    from preprocessing.sequence_paths import SequencePaths
    from preprocessing.settings import Settings
    from utils.device import pick_device

    paths, device = SequencePaths(prepared_clip(setup)), pick_device(setup.device)
    args = parse_train(
        ["--config", str(setup.measured_configs()[0]), "--data_dir", str(paths.root), *setup.run_flags()]
    )
    settings, times = select(Settings, args), StageTimes()
    watch_bars(times)
    try:
        for chain in (False, True):
            pipeline.preprocess(paths, replace(settings, chain=chain), device=device)
    finally:
        times.count()
        seconds = {f"{name or 'rest'}, s": wall for name, (_, wall) in times.seconds.items()}
        num_pairs = len(list(paths.root.glob("raft_exhaustive/[!.]*")))
        memory = {"GPU memory, GB": torch.cuda.max_memory_reserved() / 1e9} if setup.is_gpu else {}
        setup.report("preprocess", {"pairs with flow": num_pairs, **seconds, **memory})


def batches(setup: Setup) -> None:
    """Time steps of batches that are drawn from the clip."""
    from benchmarks.step_time import measure_rows
    from utils.device import pick_device

    report = partial(setup.report, "batches")
    measure_rows(setup.measured_configs(), pick_device(setup.device), prepared_clip(setup), report)


def clip(setup: Setup) -> None:
    """Run the whole train.py on the clip; report wall seconds of every progress bar."""
    folder, config = setup.folder("clip"), setup.measured_configs()[0]
    names = ["--config", str(config), "--data_dir", str(prepared_clip(setup)), "--save_dir", "out"]
    times, start = folder / "stages.json", time.perf_counter()
    times.unlink(missing_ok=True)
    runner = REPOSITORY / "benchmarks" / "stage_times.py"
    try:
        call(runner, [str(times), str(REPOSITORY / "train.py"), *names, *setup.run_flags()], folder)
    finally:
        bars = json.loads(times.read_text(encoding="utf-8")) if times.exists() else {}
        seconds = {f"{name or 'rest'}, s": wall for name, (_, wall) in bars.items()}
        setup.report("clip", {"config": config.name, "whole, s": time.perf_counter() - start, **seconds})


def accuracy(setup: Setup) -> None:
    """Train on clips with labelled tracks and score them, several at a time on a GPU; report each clip's scores."""
    folder = setup.folder("accuracy")
    side = ["--size", str(TAPVID_SIDE)]
    subprocess.run([sys.executable, str(setup.shared / TAPVID), str(folder / "given"), *side], check=True)
    scenes = sorted(map(str, (folder / "given").iterdir()))
    count = GPU_JOBS if setup.is_gpu else 1
    configs = {config.name: config for config in setup.measured_configs()}  # the shortest training that there is
    config = configs.get("fast.txt") or next(iter(configs.values()))
    words = ["--configs", str(config), "--seeds", "1", "--benchmark", "tapvid"]
    words += ["--out", str(folder / "runs"), *setup.run_flags()]
    module = [sys.executable, "-m", "benchmarks.accuracy"]
    jobs = [
        subprocess.Popen([*module, "--scenes", *scenes[k::count], *words], cwd=REPOSITORY)
        for k in range(min(count, len(scenes)))
    ]
    while any([job.poll() is None for job in jobs]):
        time.sleep(1)
        report_scores(setup, folder / "runs" / "runs")
    report_scores(setup, folder / "runs" / "runs")
    if any(job.returncode for job in jobs):
        sys.exit("a training or its scoring failed, see stderr.txt")


def report_scores(setup: Setup, folder: Path) -> None:
    """Report the scores of the finished runs, and their mean."""
    scenes = rows_by_scene([json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("[!.]*.json"))])
    if len(scenes) > 1:
        scenes[f"mean of {len(scenes)}"] = mean_over_scenes(list(scenes.values()))
    rows = {f"{scene}, {name}": row for scene, trackers in scenes.items() for name, (row,) in trackers.items()}
    setup.report("accuracy", rows)


def unprepared(setup: Setup) -> str:
    """Return what `batches` lacks."""
    prepared = (setup.out / "clips" / CLIP.name / "flow_stats.json").exists()
    return "" if prepared else "preprocessing did not end before"


PARTS: dict[str, Part] = {
    "step": Part(step, 1.2, is_check=True),
    "parity": Part(parity, 0.8, lacks(GOLDEN), is_check=True),
    "resume": Part(resume, 1.5, is_check=True),
    "steps": Part(steps, 2.0),
    "preprocess": Part(preprocess, 2.0, lacks(CLIP, WEIGHTS)),
    "batches": Part(batches, 0.5, unprepared),
    "clip": Part(clip, 1.0, lacks(CLIP, WEIGHTS)),
    "accuracy": Part(accuracy, 2.0, lacks(TAPVID, WEIGHTS)),
}
