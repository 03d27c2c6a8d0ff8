"""Accuracy over scenes, settings and seeds: `python -m benchmarks.accuracy --scenes DIR … [--configs FILE …]`.

A scene is a folder with `color/` and `gt_tracks.npz`, or `mask/` and `badja.json`. It is copied into --out and trained
with each config and seed (of networks, pairs and rays). The scores of a run are kept there as one JSON: after a stop
the same command continues, and several may share --out with other scenes. Further flags go to train.py, as `--flow dis
--max_side 256`. Mean, standard deviation and the worst of the seeds are printed beside direct and chained flow, overall
and by group of queries, and written as `accuracy.md` and `accuracy.json`.
"""

import argparse
import filecmp
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy_tables import accuracy_tables
from configs.flags import parse_train
from utils.atomic import atomic_folder, write_atomic
from utils.config import config_chain
from utils.errors import InputError, exit_on_input_error

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = [REPOSITORY / "configs" / name for name in ("demo.txt", "fast.txt")]
SCENE_FILES = ("color", "mask", "gt_tracks.npz", "badja.json")  # what is copied of a scene
FILE_FLAGS = ("raft_weights", "dino_weights", "tracks", "foreground_mask_path")
RUN_FLAGS = ("config", "data_dir", "expname", "save_dir", "loader_seed", "synthetic")  # given to each run by this


@dataclass(frozen=True)
class Scoring:
    """How evaluate.py scores the runs; benchmark None: by what a scene holds."""

    benchmark: str | None
    gt: str  # empty: the scene's own
    query_mode: str


def call(script: Path, flags: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a script in `folder`, where its `data/`, `out/` and `logs/` then are; exit if it fails."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or a training would go on, orphaned
    process = subprocess.Popen([sys.executable, str(script), *flags], cwd=folder, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C reached it, too: a training saves before it ends
        raise
    except SystemExit:  # SIGTERM did not
        process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
    if code:
        sys.exit(code)


def train_and_score(out: Path, scene: str, config: Path, seed: int, flags: list[str], scoring: Scoring) -> dict:
    """Train one run, or continue it, and score it."""
    expname = f"{config.stem}_seed{seed}"
    names = ["--data_dir", f"scenes/{scene}", "--save_dir", "out", "--expname", expname, "--loader_seed", str(seed)]
    run = Path("out") / f"{expname}_{scene}"
    resumed, start = any((out / run).glob("model_*.pth")), time.perf_counter()
    call(REPOSITORY / "train.py", ["--config", str(config.resolve()), *flags, *names], out)
    seconds = None if resumed else round(time.perf_counter() - start)  # of a whole training, preprocessing included
    own = "badja" if (out / "scenes" / scene / "badja.json").exists() else "tracks"
    truth = ["--benchmark", scoring.benchmark or own, "--query_mode", scoring.query_mode]
    truth += ["--gt", str(Path(scoring.gt).resolve())] if scoring.gt else []
    call(REPOSITORY / "evaluate.py", ["--run", str(run), *truth], out)
    scores = json.loads((out / run / "scores.json").read_text(encoding="utf-8"))
    return {"scene": scene, "config": config.stem, "seed": seed, "training_seconds": seconds, "scores": scores}


def prepare(out: Path, scenes: list[Path], configs: list[Path], flags: list[str], scoring: Scoring) -> None:
    """Copy the scenes into `out`, and record what its runs are made with.

    Raises:
        InputError: A folder that is no scene, two of one name, or `out` holds runs of other settings.
    """
    sources = {scene.resolve().name: str(scene.resolve()) for scene in scenes}
    if len(sources) < len(scenes) or len({config.stem for config in configs}) < len(configs):
        raise InputError(f"runs are named after scene and config: give each another name ({', '.join(sources)})")
    for scene in scenes:
        truth = (scene / "gt_tracks.npz").is_file() or (scene / "badja.json").is_file()
        if not (scene / "color").is_dir() or not truth:
            raise InputError(f"{scene} is no scene: expected color/ and gt_tracks.npz, or color/, mask/ and badja.json")
    if scoring.benchmark == "badja" and not scoring.gt:
        require_files([scene / "badja.json" for scene in scenes])
    require_files([Path(scoring.gt)] if scoring.gt else [])
    settings = {config.stem: resolved_settings(config) for config in configs}
    record = out / "settings.json"
    wanted: dict[str, dict[str, Any]] = {
        "scenes": sources,
        "configs": settings,
        "flags": {"all": flags},
        "scoring": vars(scoring),
    }
    found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {part: {} for part in wanted}
    for part, entries in wanted.items():
        for name, value in entries.items():
            if found[part].setdefault(name, value) != value:
                raise InputError(
                    f"{out} holds runs with other {part} ({name}): give another --out, or remove that folder"
                )
    for scene in scenes:
        copy_scene(scene, out / "scenes" / scene.resolve().name)
    write_atomic(record, json.dumps(found, indent=1).encode())


def resolved_settings(config: Path) -> dict[str, str]:
    """Return all settings of a config file and its bases."""
    settings: dict[str, str] = {}
    for _, each in config_chain(config):
        settings |= {name: str(value) for name, value in each.items()}
    return settings


def require_files(paths: list[Path]) -> None:
    """Raise InputError unless all of the files exist."""
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is missing, which the flags need: give it, or other flags")


def training_flags(config: Path, flags: list[str], scene: Path | None) -> list[str]:
    """Return the flags with the files that they or the config name in full, for the runs are in another folder.

    Raises:
        InputError: Flags that this benchmark gives to each run, wrong ones, or files that are missing.
    """
    for name in RUN_FLAGS:
        if any(flag.split("=")[0] == f"--{name}" for flag in flags):
            raise InputError(f"--{name} is chosen for each run: leave it out, see --help for how to choose settings")
    data = ["--data_dir", str(scene)] if scene else []  # otherwise the config's own
    args = parse_train(["--config", str(config), *flags, *data])
    files = {name: Path(getattr(args, name)) for name in FILE_FLAGS if getattr(args, name)}
    require_files(list(files.values()))
    return flags + [word for name, path in files.items() for word in (f"--{name}", str(path.resolve()))]


def copy_scene(scene: Path, target: Path) -> None:
    """Copy what a scene is given with, whole or not at all: preprocessing writes beside it.

    Raises:
        InputError: There is a copy of other frames or truth.
    """
    if target.exists():
        if not _same_files(scene, target):
            raise InputError(f"{target} was copied from other files than are in {scene} now: give another --out")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as staged:
        for name in sorted(_relative_files(scene)):
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(scene / name, staged / name)


def _same_files(scene: Path, copy: Path) -> bool:
    """Compare a copy with its scene byte by byte."""
    names = _relative_files(scene)
    same = (filecmp.cmp(scene / name, copy / name, shallow=False) for name in names)
    return names == _relative_files(copy) and all(same)


def _relative_files(scene: Path) -> set[Path]:
    paths = (path for name in SCENE_FILES for path in (scene / name, *(scene / name).rglob("*")))
    return {path.relative_to(scene) for path in paths if path.is_file()}


def write_report(out: Path) -> str:
    """Write the scores of all runs in `out`, and return the tables."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((out / "runs").glob("[!.]*.json"))]
    text = accuracy_tables(runs)
    write_atomic(out / "accuracy.md", (text + "\n").encode())
    write_atomic(out / "accuracy.json", (json.dumps(runs, indent=1) + "\n").encode())
    return text


@exit_on_input_error
def main() -> None:
    """Make the runs that are missing and print the tables of all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--scenes", nargs="+", type=Path, required=True, help="folders with color/ and a truth")
    parser.add_argument("--configs", nargs="+", type=Path, default=CONFIGS, help="settings to train with")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each scene and config")
    parser.add_argument("--out", type=Path, default=Path("out/accuracy"), help="where everything is kept")
    parser.add_argument(
        "--benchmark", choices=["tracks", "tapvid", "badja"], help="kind of truth (default: the scene's)"
    )
    parser.add_argument("--gt", default="", help="file of the truth (default: the scene's)")
    parser.add_argument("--query_mode", choices=["strided", "first"], default="strided", help="TAP-Vid's queries")
    args, flags = parser.parse_known_args()
    if args.seeds < 1:
        raise InputError(f"--seeds is {args.seeds}, expected at least 1")
    scoring = Scoring(args.benchmark, args.gt, args.query_mode)
    flags_of = {config: training_flags(config, flags, args.scenes[0]) for config in args.configs}
    prepare(args.out, args.scenes, args.configs, flags, scoring)
    for seed in range(args.seeds):  # the first scores of everything come first
        for scene in (scene.resolve().name for scene in args.scenes):
            for config in args.configs:
                result = args.out / "runs" / f"{scene}_{config.stem}_seed{seed}.json"
                if not result.exists():
                    print(f"{scene}, {config.stem}, seed {seed}", flush=True)
                    run = train_and_score(args.out, scene, config, seed, flags_of[config], scoring)
                    write_atomic(result, json.dumps(run, indent=1).encode())
                    write_report(args.out)
    print(write_report(args.out))
    print(f"runs and scores are in {args.out}, these tables in {args.out / 'accuracy.md'} and accuracy.json")


if __name__ == "__main__":
    main()
