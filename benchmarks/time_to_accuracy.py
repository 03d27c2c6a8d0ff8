"""Accuracy against training time: `python -m benchmarks.time_to_accuracy --scenes DIR … --configs FILE … --seconds S`.

Trains each config on each scene (a folder with `color/` and `gt_tracks.npz`; preprocessed first, in a copy) with each
seed, and scores it every --every steps until it ends, or finds that the training has taken --seconds; preprocessing and
scoring do not count. Each whole run is kept in --out as one JSON, and the same command does those that are missing.
Prints a table, and writes curves (PNG) and `time_to_accuracy.json` of the runs that were asked for. `--own_scenes N`
adds N scenes of `benchmarks.other_scenes`, with other sizes, counts of objects, camera motions and textures.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as train.py has it, before torch starts its threads

import argparse
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import nan
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.accuracy import copy_scene
from benchmarks.measure import gflop_of
from benchmarks.other_scenes import other_scene
from evaluation.ground_truth import exact_tracks
from evaluation.provenance import code_and_machine, provenance
from evaluation.scoring import score, trackers_of
from evaluation.tables import Row, markdown_table, mean_and_deviation
from loaders.clip import open_clip
from loaders.training_data import open_store
from networks.divergence import TrainingDiverged
from networks.run_checkpoints import build_model
from networks.runtime import configure_runtime
from preprocessing.sequence_paths import SequencePaths
from preprocessing.synthetic import write_scene
from trainer import Trainer
from utils.atomic import atomic_path
from utils.config import parse_config
from utils.device import pick_device
from utils.errors import InputError, exit_on_input_error
from utils.figures import figure_image
from utils.images import write_image
from utils.run_log import RunLog

SHOWN = ("AJ", "<d_avg", "OA", "TC", "px visible", "px occluded", "TFLOP")
WHOLE = "at its last step or by the time"
DASHED = {"color": "grey", "linestyle": "--", "linewidth": 0.8}
PANELS = (("minutes", "<d_avg"), ("minutes", "px occluded"), ("TFLOP", "<d_avg"))  # abscissa and ordinate of curves


class Stopwatch:
    """Seconds since the start without those spent in `paused()`."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of work so far."""
        return time.perf_counter() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside takes no time."""
        before = time.perf_counter()
        yield
        self._start += time.perf_counter() - before


def train(scene: Path, config: Path, seed: int, args: argparse.Namespace) -> dict:
    """One run: its figures by training time, those of its flow, and the FLOPs of a step.

    One that diverges is whole: what it had come to is its last row, and `ended` says what happened.
    """
    made_by = {"settings": settings(config, args), **provenance()}
    flags = ["--config", str(config), "--data_dir", str(scene), "--synthetic", "false", "--loader_seed", str(seed)]
    save_dir = args.out / "checkpoints"
    options = parse_config(
        [*flags, "--expname", f"{config.stem}_{seed}", "--save_dir", str(save_dir), "--i_img", str(args.every)]
    )
    device, clip = pick_device(options.device), open_clip(options)
    store = open_store(options, clip, device)
    truth = exact_tracks(clip.paths.gt_tracks, clip.video.shape[1:3], len(clip.names))
    model = build_model(options, clip.video, None, device)
    configure_runtime(model, options)
    trackers = trackers_of(model, clip.paths, clip.names, options)
    ours = trackers.pop("OmniMotion")
    rows: list[Row] = []

    def look() -> None:
        seconds = watch.seconds
        with watch.paused():
            rows.append({"seconds": seconds, "step": float(trainer.step), **score(ours, truth).row})

    def measure() -> dict[str, float]:
        look()
        if rows[-1]["seconds"] > args.seconds:
            signal.raise_signal(signal.SIGINT)  # the trainer ends after this step
        return {name: rows[-1][name] for name in ("AJ", "OA")}

    folder = save_dir / f"{config.stem}_{scene.name}_{seed}"
    log = RunLog(folder / "log")
    trainer = Trainer(
        options, model, clip.video, clip.names, store, None, folder, log, images=lambda step: {}, scores=measure
    )
    watch, ended = Stopwatch(), WHOLE
    batch = trainer.dataset()[0].to(device)
    flops, _ = gflop_of(lambda: trainer.train_step(batch))  # the first step, which is taken
    try:
        if not trainer.train() and not (rows and rows[-1]["seconds"] > args.seconds):
            raise KeyboardInterrupt  # the user's: the run is not whole
    except TrainingDiverged as error:
        ended = str(error)
        print(f"{scene.name}, {config.stem}, seed {seed} diverged: {error}")
        look()
    log.close()
    flow = {name: score(track, truth).row for name, track in trackers.items()}
    return {
        "scene": scene.name,
        "config": config.stem,
        "seed": seed,
        "GFLOP of a step": flops,
        "ended": ended,
        "rows": rows,
        "flow": flow,
        **made_by,
    }


def settings(config: Path, args: argparse.Namespace) -> dict:
    """What a run is made with, beside its scene and seed."""
    return {"config": config.read_text(encoding="utf-8"), "seconds": args.seconds, "every": args.every}


def kept(path: Path, config: Path, args: argparse.Namespace) -> dict | None:
    """The run that was kept there, if there is one.

    Raises:
        InputError: it was made with other settings.
    """
    if not path.exists():
        return None
    run, wanted = json.loads(path.read_text(encoding="utf-8")), settings(config, args)
    found, wanted = ({**made, "config": _set(made["config"])} for made in (run["settings"], wanted))
    different = [name for name in wanted if found[name] != wanted[name]]
    if different:
        raise InputError(f"{path} was made with another {different[0]}: give another --out, or remove that file")
    return run


def _set(text: str) -> set[str]:
    """The lines of a config that set something."""
    return {line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")}


def table(runs: list[dict], minutes: list[float]) -> str:
    """Markdown: each scene's flow, and each config after some minutes and at its end, over the seeds."""
    cells = []
    for scene in sorted({run["scene"] for run in runs}):
        of_scene = [run for run in runs if run["scene"] == scene]
        cells += [[scene, name, *_cells([row])] for name, row in of_scene[0]["flow"].items()]
        for config in sorted({run["config"] for run in of_scene}):
            same = [run for run in of_scene if run["config"] == config]
            diverged = sum(run["ended"] != WHOLE for run in same)
            name = f"{config} ({diverged} of {len(same)} diverged)" if diverged else config
            end = max(run["rows"][-1]["seconds"] for run in same) / 60
            for after in [*sorted(m for m in minutes if m < end), end]:
                reached = [at(run, after) for run in same]
                if None not in reached:
                    cells.append([scene, f"{name}, {after:.3g} min", *_cells(reached)])
    made = f"Mean ± standard deviation over the seeds, and the worst. Code and machine: {code_and_machine(runs)}."
    return f"{markdown_table(['scene', 'tracker', *SHOWN, 'worst <d_avg'], cells)}\n\n{made}"


def _cells(rows: list[Row]) -> list[str]:
    worst = min(row["<d_avg"] for row in rows)
    return [*(mean_and_deviation([row.get(key) for row in rows]) for key in SHOWN), f"{worst:.3f}"]


def at(run: dict, minutes: float) -> Row | None:
    """The last figures that were measured within a training time, with what they had taken; None before the first."""
    rows = [row for row in run["rows"] if row["seconds"] / 60 <= minutes]
    return rows[-1] | spent(run, rows[-1]) if rows else None


def spent(run: dict, row: Row) -> Row:
    """What a run had taken when a row of it was measured."""
    return {"minutes": row["seconds"] / 60, "TFLOP": row["step"] * run["GFLOP of a step"] / 1000}


def curves(runs: list[dict]) -> Figure:
    """What was reached against training time and against FLOPs, a line for each run; direct flow as a dashed line."""
    scenes, configs = (sorted({run[key] for run in runs}) for key in ("scene", "config"))
    figure = Figure(figsize=(3.2 * len(PANELS), 2.2 * len(scenes) + 0.4), layout="constrained")
    panels = figure.subplots(len(scenes), len(PANELS), squeeze=False)
    for scene, line in zip(scenes, panels, strict=True):
        for axes, (abscissa, ordinate) in zip(line, PANELS, strict=True):
            for run in (run for run in runs if run["scene"] == scene):
                x = [spent(run, row)[abscissa] for row in run["rows"]]
                y = [row.get(ordinate, nan) for row in run["rows"]]  # the truth may not know hidden points
                axes.plot(x, y, color=f"C{configs.index(run['config'])}")
                axes.axhline(run["flow"]["direct flow"].get(ordinate, nan), **DASHED)
            if ordinate.startswith("px"):
                axes.set_yscale("log")
            axes.set_title(f"{scene}: {ordinate}", fontsize=9)
            axes.set_xlabel(f"{abscissa} of training", fontsize=8)
            axes.tick_params(which="both", labelsize=8)
    handles = [panels[0, 0].plot([], [], color=f"C{k}", label=name)[0] for k, name in enumerate(configs)]
    handles.append(panels[0, 0].plot([], [], label="direct flow", **DASHED)[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def make_scenes(args: argparse.Namespace) -> list[Path]:
    """Folders in --out of the scenes that are asked for: copies, and own ones.

    Raises:
        InputError: a folder that is no scene, settings that are no file, or two of one name.
    """
    for source in args.scenes:
        if not (source / "gt_tracks.npz").is_file():
            raise InputError(f"{source} is no scene: expected color/ and gt_tracks.npz")
    for config in args.configs:
        if not config.is_file():
            raise InputError(f"{config} is missing: expected a file of settings")
    own = [f"own{number}" for number in range(1, args.own_scenes + 1)]
    names = [source.resolve().name for source in args.scenes] + own
    if len(set(names)) < len(names) or len({config.stem for config in args.configs}) < len(args.configs):
        raise InputError(f"runs are named after scene and config: give each another name ({', '.join(names)})")
    scenes = [args.out / "scenes" / name for name in names]
    for source, scene in zip(args.scenes, scenes, strict=False):
        copy_scene(source, scene)
    for number, scene in enumerate(scenes[len(args.scenes) :], 1):
        write_scene(other_scene(number), SequencePaths(scene))
    return scenes


@exit_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Do the runs that are missing, then show all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", nargs="*", type=Path, default=[], help="folders with color/ and gt_tracks.npz")
    parser.add_argument("--own_scenes", type=int, default=0, help="how many of the generator's scenes to add")
    parser.add_argument("--configs", nargs="+", type=Path, required=True, help="settings to compare")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each scene and config")
    parser.add_argument("--seconds", type=float, default=600, help="of training in each run")
    parser.add_argument("--every", type=int, default=300, help="steps between two scores")
    parser.add_argument("--minutes", nargs="*", type=float, default=[5, 10, 20], help="rows of the table")
    parser.add_argument("--out", type=Path, default=Path("out/time_to_accuracy"), help="where everything is kept")
    args = parser.parse_args(argv)
    if min(args.seeds, args.every, len(args.scenes) + args.own_scenes) < 1 or not args.seconds > 0:
        raise InputError("nothing to run: give scenes, and --seeds, --every and --seconds above 0")
    scenes = make_scenes(args)
    asked = [(seed, scene, config) for seed in range(args.seeds) for scene in scenes for config in args.configs]
    files = [args.out / "runs" / f"{scene.name}_{config.stem}_{seed}.json" for seed, scene, config in asked]
    runs = [kept(file, config, args) for file, (_, _, config) in zip(files, asked, strict=True)]
    for k, (seed, scene, config) in enumerate(asked):
        if runs[k] is None:
            print(f"{scene.name}, {config.stem}, seed {seed}", flush=True)
            runs[k] = train(scene, config, seed, args)
            with atomic_path(files[k]) as temporary:
                temporary.write_text(json.dumps(runs[k], indent=1), encoding="utf-8")
    (args.out / "time_to_accuracy.json").write_text(json.dumps(runs, indent=1), encoding="utf-8")
    write_image(args.out / "time_to_accuracy.png", figure_image(curves(runs)))
    print(table(runs, args.minutes))


if __name__ == "__main__":
    main()
