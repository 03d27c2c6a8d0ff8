"""Accuracy over scenes, settings and seeds: `python -m benchmarks.accuracy --scenes DIR … [--configs FILE …]`.

A scene is a folder with `color/` and `gt_tracks.npz`, or `mask/` and `badja.json`. It is copied into --out and trained
with each config and seed (of networks, pairs and rays). The figures of a run are kept there as one JSON: the same
command goes on where it was stopped, and several may share --out with other scenes. Any other flag goes to train.py
and evaluate.py, as `--flow dis --max_side 256`. Mean and standard deviation over the seeds are printed beside direct
and chained flow, and written as `accuracy.md` and `accuracy.json`.
"""

import argparse
import filecmp
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean

from evaluation.provenance import code_and_machine
from evaluation.tables import Row, markdown_table, mean_and_deviation
from utils.atomic import atomic_path, write_atomic
from utils.config import build_parser, parse_config
from utils.errors import InputError, exit_on_input_error

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = [REPOSITORY / "configs" / name for name in ("demo.txt", "cpu_large.txt")]
INPUTS = ("color", "mask", "gt_tracks.npz", "badja.json")  # of a scene; whatever else is there stays behind
MODEL = "OmniMotion"
FILES = ("raft_weights", "dino_weights", "gt", "tracks", "foreground_mask_path")  # flags that name one
OWN = ("config", "data_dir", "expname", "save_dir", "loader_seed", "synthetic")  # flags that tell the runs apart


def call(script: str, flags: list[str], folder: Path) -> None:
    """Run one of the commands in `folder`, where its `data/`, `out/` and `logs/` then are; a failure ends this, too."""
    process = subprocess.Popen([sys.executable, str(REPOSITORY / script), *flags], cwd=folder)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C reached it, too: a training saves before it ends
        raise
    except SystemExit:  # SIGTERM did not
        process.terminate()
        process.wait()
        raise
    if code:
        sys.exit(code)


def train_and_score(out: Path, scene: str, config: Path, seed: int, flags: list[str]) -> dict:
    """Train one run, or go on with it, and score it."""
    kind = "badja" if (out / "scenes" / scene / "badja.json").exists() else "tracks"
    expname = f"{config.stem}_seed{seed}"
    common = ["--config", str(config.resolve()), "--benchmark", kind, *flags, "--synthetic", "false"]
    common += ["--data_dir", f"scenes/{scene}", "--save_dir", "out", "--expname", expname, "--loader_seed", str(seed)]
    folder, start = out / "out" / f"{expname}_{scene}", time.perf_counter()
    resumed = any(folder.glob("model_*.pth"))
    call("train.py", common, out)
    seconds = None if resumed else round(time.perf_counter() - start)  # of a whole training, preprocessing included
    call("evaluate.py", common, out)
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return {"scene": scene, "config": config.stem, "seed": seed, "training_seconds": seconds, "scores": scores}


def prepare(out: Path, scenes: list[Path], configs: list[Path], flags: list[str]) -> None:
    """Copy the scenes into `out`, and record what its runs are made with.

    Raises:
        InputError: a folder that is no scene, two of one name, or `out` holds runs of other settings.
    """
    sources = {scene.resolve().name: str(scene.resolve()) for scene in scenes}
    if len(sources) < len(scenes) or len({config.stem for config in configs}) < len(configs):
        raise InputError(f"runs are named after scene and config: give each another name ({', '.join(sources)})")
    for scene in scenes:
        truth = (scene / "gt_tracks.npz").is_file() or (scene / "badja.json").is_file()
        if not (scene / "color").is_dir() or not truth:
            raise InputError(f"{scene} is no scene: expected color/ and gt_tracks.npz, or color/, mask/ and badja.json")
    texts = {}
    for config in configs:
        require_possible(config, flags, scenes)
        texts[config.stem] = config.read_text(encoding="utf-8")
    record, wanted = out / "settings.json", {"scenes": sources, "configs": texts, "flags": {"all": flags}}
    found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {part: {} for part in wanted}
    for part, entries in wanted.items():
        for name, value in entries.items():
            if found[part].setdefault(name, value) != value:
                raise InputError(
                    f"{out} holds runs with other {part} ({name}): give another --out, or remove that folder"
                )
    for scene in scenes:
        copy_scene(scene, out / "scenes" / scene.resolve().name)
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")


def require_possible(config: Path, flags: list[str], scenes: list[Path]) -> None:
    """Raise InputError for wrong flags and missing files now, not after hours."""
    asked = parse_config(["--config", str(config), *flags, "--data_dir", str(scenes[0])])
    named = [Path(getattr(asked, name)) for name in FILES if getattr(asked, name)]
    if asked.benchmark == "badja" and not asked.gt:
        named += [scene / "badja.json" for scene in scenes]
    for path in named:
        if not path.is_file():
            raise InputError(f"{path} is missing, which the flags ask for: give it, or other flags")


def for_any_folder(flags: list[str]) -> list[str]:
    """The flags with the files that they give named in full: the commands run in another folder.

    Raises:
        InputError: flags that this gives to each run itself.
    """
    for name in OWN:
        if any(flag.split("=")[0] == f"--{name}" for flag in flags):
            raise InputError(f"--{name} is chosen for each run: leave it out (settings: --configs, folders: --scenes)")
    parsed = vars(build_parser().parse_args(flags))
    files = {name: parsed[name] for name in FILES if parsed[name]}
    return flags + [text for name, path in files.items() for text in (f"--{name}", str(Path(path).resolve()))]


def copy_scene(scene: Path, target: Path) -> None:
    """Copy what a scene is given with, whole or not at all: preprocessing writes beside it.

    Raises:
        InputError: there is a copy of other frames or truth.
    """
    if target.exists():
        if not _same_files(scene, target):
            raise InputError(f"{target} was copied from other files than are in {scene} now: give another --out")
        return
    staged = target.with_name(f".{target.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    for entry in (scene / name for name in INPUTS if (scene / name).exists()):
        (shutil.copytree if entry.is_dir() else shutil.copyfile)(entry, staged / entry.name)
    staged.rename(target)


def _same_files(scene: Path, copy: Path) -> bool:
    """Whether a copy has what its scene has, byte by byte."""
    of_scene, of_copy = _files(scene), _files(copy)
    return of_scene == of_copy and all(filecmp.cmp(scene / name, copy / name, shallow=False) for name in of_scene)


def _files(scene: Path) -> set[Path]:
    """What is copied of a scene, by paths in its folder."""
    paths = (path for name in INPUTS for path in (scene / name, *(scene / name).rglob("*")))
    return {path.relative_to(scene) for path in paths if path.is_file()}


def gather(runs: list[dict]) -> dict[str, dict[str, list[Row]]]:
    """Scene → tracker → its figures for each seed, flow's once; a model is named after its config."""
    found: dict[str, dict[str, list[Row]]] = {}
    for run in runs:
        rows = found.setdefault(run["scene"], {})
        for tracker, row in run["scores"]["mean"].items():
            each = rows.setdefault(run["config"] if tracker == MODEL else tracker, [])
            if tracker == MODEL or not each:
                each.append(row)
    return found


def over_scenes(scenes: list[dict[str, list[Row]]]) -> dict[str, list[Row]]:
    """The mean over scenes, seed by seed, of the trackers that all scenes have in as many seeds."""
    means = {}
    for tracker, rows in scenes[0].items():
        others = [scene.get(tracker, []) for scene in scenes]
        if all(len(each) == len(rows) for each in others):
            means[tracker] = [
                {key: _mean([each[seed][key] for each in others]) for key in row} for seed, row in enumerate(rows)
            ]
    return means


def report(runs: list[dict]) -> str:
    """Markdown: for each kind of figures a table of all scenes, and of their mean."""
    scenes, lines = gather(runs), []
    kinds: dict[tuple[str, ...], list[str]] = {}
    for name, trackers in scenes.items():
        kinds.setdefault(tuple(next(iter(trackers.values()))[0]), []).append(name)
    for columns, names in kinds.items():
        blocks = {name: scenes[name] for name in names}
        if len(names) > 1:
            blocks[f"mean of {len(names)}"] = over_scenes(list(blocks.values()))
        cells = [
            [name, tracker, str(len(rows)), *(mean_and_deviation([row[key] for row in rows]) for key in columns)]
            for name, trackers in blocks.items()
            for tracker, rows in trackers.items()
        ]
        lines.append(markdown_table(["scene", "tracker", "runs", *columns], cells))
    made = code_and_machine(run["scores"] for run in runs)
    return "\n\n".join([*lines, f"± standard deviation over the seeds. Code and machine: {made}."])


def write_report(out: Path) -> str:
    """Write what all runs in `out` gave, and return it as text."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((out / "runs").glob("[!.]*.json"))]
    text = report(runs)
    write_atomic(out / "accuracy.md", (text + "\n").encode())
    write_atomic(out / "accuracy.json", (json.dumps(runs, indent=1) + "\n").encode())
    return text


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]  # JSON's null: a figure that does not exist
    return mean(known) if known else None


@exit_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Do the runs that are missing and print what all of them gave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--scenes", nargs="+", type=Path, required=True, help="folders with color/ and a truth")
    parser.add_argument("--configs", nargs="+", type=Path, default=CONFIGS, help="settings to train with")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each scene and config")
    parser.add_argument("--out", type=Path, default=Path("out/accuracy"), help="where everything is kept")
    args, flags = parser.parse_known_args(argv)
    if args.seeds < 1:
        raise InputError(f"--seeds is {args.seeds}, expected at least 1")
    flags = for_any_folder(flags)
    prepare(args.out, args.scenes, args.configs, flags)
    for seed in range(args.seeds):  # the first figures of everything come first
        for scene in (scene.resolve().name for scene in args.scenes):
            for config in args.configs:
                result = args.out / "runs" / f"{scene}_{config.stem}_seed{seed}.json"
                if not result.exists():
                    print(f"{scene}, {config.stem}, seed {seed}", flush=True)
                    run = train_and_score(args.out, scene, config, seed, flags)
                    with atomic_path(result) as temporary:
                        temporary.write_text(json.dumps(run, indent=1), encoding="utf-8")
                    write_report(args.out)
    print(write_report(args.out))
    print(f"runs and scores are in {args.out}, this table in {args.out / 'accuracy.md'} and accuracy.json")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or a training would go on, orphaned
    main()
