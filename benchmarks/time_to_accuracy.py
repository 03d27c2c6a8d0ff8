"""Accuracy against training time: `python -m benchmarks.time_to_accuracy --scenes DIR … --configs FILE … --seconds S`.

Trains each config on each scene (a folder with `color/` and `gt_tracks.npz`; preprocessed first, in a copy) with each
seed, and scores it every --every steps until it ends, or until the training has taken --seconds; preprocessing and
scoring do not count. Each whole run is kept in --out as one JSON, and the same command makes those that are missing.
Prints a table, and writes curves (PNG) and `time_to_accuracy.json` of the requested runs. `--own_scenes N` adds N
scenes of `benchmarks.other_scenes`, with other sizes, numbers of objects, camera motions and textures.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as train.py has it, before torch starts its threads

import argparse
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.accuracy import copy_scene, resolved_settings
from benchmarks.measure import gflop_of, read_kept
from benchmarks.other_scenes import other_scene
from benchmarks.tables import code_and_machine, markdown_table, mean_and_deviation
from benchmarks.training_setup import make_model, make_trainer
from configs.flags import parse_train
from criterion import TrainingDiverged
from evaluation.ground_truth import exact_tracks
from evaluation.provenance import provenance
from evaluation.scoring import MODEL, score, trackers_of
from evaluation.tables import Row
from loaders.clip import open_clip
from loaders.training_data import open_store
from networks.tracks import TrackingOptions
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from preprocessing.synthetic import write_scene
from utils.atomic import write_atomic
from utils.config import select
from utils.device import pick_device
from utils.errors import InputError, exit_on_input_error
from utils.figures import figure_image
from utils.images import write_image
from utils.run_log import RunLog

METRICS = ("AJ", "<d_avg", "OA", "TC", "px visible", "px occluded", "TFLOP")
WHOLE = "at its last step or by the time"
PANELS = (("minutes", "<d_avg"), ("minutes", "px occluded"), ("TFLOP", "<d_avg"))  # abscissa and ordinate of curves
FLOW_COLOR = "grey"


@dataclass(frozen=True)
class Budget:
    """How long a run trains, and how often it is scored."""

    seconds: float
    every: int  # steps


class Stopwatch:
    """Seconds since the start without those spent in `paused()`."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the watch inside the context."""
        before = time.perf_counter()
        yield
        self._start += time.perf_counter() - before


def train(scene: Path, config: Path, seed: int, budget: Budget, save_dir: Path) -> dict:
    """Train one run; return its scores by training time, those of its flow, and the operations of a step.

    A run that diverges is whole: its last row is its score then, and `ended` says what happened.
    """
    made_by = {"settings": settings(config, budget), **provenance()}
    flags = ["--config", str(config), "--data_dir", str(scene), "--loader_seed", str(seed), "--save_dir", str(save_dir)]
    # The same flow on every machine, whether it has weights of RAFT or not.
    args = parse_train([*flags, "--flow", "dis", "--synthetic", "false", "--i_img", str(budget.every)])
    device, clip = pick_device(args.device), open_clip(scene, max_side=args.max_side, num_imgs=args.num_imgs)
    store = open_store(clip, select(Settings, args), device, use_count_map=args.use_count_map)
    num_frames, height, width, _ = clip.video.shape
    truth = exact_tracks(clip.paths.gt_tracks, (height, width), num_frames)
    model = make_model(args, num_frames, height, width, device)
    trackers = trackers_of(model, clip.paths, clip.names, uses_flow=True, tracking=select(TrackingOptions, args))
    ours = trackers.pop(MODEL)
    rows: list[Row] = []

    def measure() -> None:
        seconds = watch.seconds
        with watch.paused():
            rows.append({"seconds": seconds, "step": float(trainer.step), **score(ours, truth).row})

    def scores() -> dict[str, float]:
        measure()
        if rows[-1]["seconds"] > budget.seconds:
            signal.raise_signal(signal.SIGINT)  # the trainer ends after this step
        return {name: rows[-1][name] for name in ("AJ", "OA")}

    folder = save_dir / f"{config.stem}_{scene.name}_{seed}"
    log = RunLog(folder / "log")
    trainer = make_trainer(args, model, clip.video, clip.names, store, folder, log=log, scores=scores)
    watch, ended = Stopwatch(), WHOLE
    batch = trainer.dataset()[0].to(device)
    gflop, _ = gflop_of(lambda: trainer.train_step(batch))  # of the first step, which counts as such
    try:
        if not trainer.train() and not (rows and rows[-1]["seconds"] > budget.seconds):
            raise KeyboardInterrupt  # the user's: the run is not whole
    except TrainingDiverged as error:
        ended = str(error)
        print(f"{scene.name}, {config.stem}, seed {seed} diverged: {error}")
        measure()
    log.close()
    flow = {name: score(track, truth).row for name, track in trackers.items()}
    found = {"GFLOP of a step": gflop, "ended": ended, "rows": rows, "flow": flow}
    return {"scene": scene.name, "config": config.stem, "seed": seed, **found, **made_by}


def settings(config: Path, budget: Budget) -> dict:
    """Return what a run is made with, beside its scene and seed."""
    return {"config": resolved_settings(config), **asdict(budget)}


def table(runs: list[dict], minutes: list[float]) -> str:
    """Return Markdown: each scene's flow, and each config after some minutes and at its end, over the seeds."""
    cells = []
    for scene in sorted({run["scene"] for run in runs}):
        runs_of_scene = [run for run in runs if run["scene"] == scene]
        cells += [[scene, name, *_cells([row])] for name, row in runs_of_scene[0]["flow"].items()]
        for config in sorted({run["config"] for run in runs_of_scene}):
            seeds = [run for run in runs_of_scene if run["config"] == config]
            diverged = sum(run["ended"] != WHOLE for run in seeds)
            name = f"{config} ({diverged} of {len(seeds)} diverged)" if diverged else config
            end = max(run["rows"][-1]["seconds"] for run in seeds) / 60
            for after in [*sorted(m for m in minutes if m < end), end]:
                reached = [row for run in seeds if (row := reached_within(run, after))]
                if len(reached) == len(seeds):
                    cells.append([scene, f"{name}, {after:.3g} min", *_cells(reached)])
    made_by = f"Mean ± standard deviation over the seeds, and the worst. Code and machine: {code_and_machine(runs)}."
    return f"{markdown_table(['scene', 'tracker', *METRICS, 'worst <d_avg'], cells)}\n\n{made_by}"


def _cells(rows: list[Row]) -> list[str]:
    worst = min(row["<d_avg"] for row in rows)
    return [*(mean_and_deviation([row.get(key) for row in rows]) for key in METRICS), f"{worst:.3f}"]


def reached_within(run: dict, minutes: float) -> Row | None:
    """Return the last scores within a training time, with what they had taken; None before the first."""
    rows = [row for row in run["rows"] if row["seconds"] / 60 <= minutes]
    return rows[-1] | costs(run, rows[-1]) if rows else None


def costs(run: dict, row: Row) -> Row:
    """Return the time and the operations of a run when a row of it was scored."""
    return {"minutes": row["seconds"] / 60, "TFLOP": row["step"] * run["GFLOP of a step"] / 1000}


def curves(runs: list[dict]) -> Figure:
    """Draw scores against training time and operations, a line for each run; direct flow as a dashed line."""
    scenes, configs = (sorted({run[key] for run in runs}) for key in ("scene", "config"))
    figure = Figure(figsize=(3.2 * len(PANELS), 2.2 * len(scenes) + 0.4), layout="constrained")
    panels = figure.subplots(len(scenes), len(PANELS), squeeze=False)
    for scene, line in zip(scenes, panels, strict=True):
        for axes, (abscissa, ordinate) in zip(line, PANELS, strict=True):
            _draw_panel(axes, [run for run in runs if run["scene"] == scene], configs, abscissa, ordinate)
            axes.set_title(f"{scene}: {ordinate}", fontsize=9)
    handles = [panels[0, 0].plot([], [], color=f"C{k}", label=name)[0] for k, name in enumerate(configs)]
    handles += panels[0, 0].plot([], [], label="direct flow", color=FLOW_COLOR, linestyle="--", linewidth=0.8)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_panel(axes: Axes, runs: list[dict], configs: list[str], abscissa: str, ordinate: str) -> None:
    for run in runs:
        x = [costs(run, row)[abscissa] for row in run["rows"]]
        y = [row.get(ordinate, nan) for row in run["rows"]]  # annotations hold no positions where points are occluded
        axes.plot(x, y, color=f"C{configs.index(run['config'])}")
        flow = run["flow"]["direct flow"].get(ordinate, nan)
        axes.axhline(flow, color=FLOW_COLOR, linestyle="--", linewidth=0.8)
    if ordinate.startswith("px") and any(ordinate in row for run in runs for row in run["rows"]):
        axes.set_yscale("log")
    axes.set_xlabel(f"{abscissa} of training", fontsize=8)
    axes.tick_params(which="both", labelsize=8)


def make_scenes(sources: list[Path], own_scenes: int, configs: list[Path], out: Path) -> list[Path]:
    """Return the folders in `out` of all scenes: copies of the given ones, and own ones.

    Raises:
        InputError: A folder that is no scene, or two scenes or configs of one name.
    """
    for source in sources:
        if not (source / "gt_tracks.npz").is_file():
            raise InputError(f"{source} is no scene: expected color/ and gt_tracks.npz")
    own = [f"own{number}" for number in range(1, own_scenes + 1)]
    names = [source.resolve().name for source in sources] + own
    if len(set(names)) < len(names) or len({config.stem for config in configs}) < len(configs):
        raise InputError(f"runs are named after scene and config: give each another name ({', '.join(names)})")
    scenes = [out / "scenes" / name for name in names]
    for source, scene in zip(sources, scenes, strict=False):
        copy_scene(source, scene)
    for number, scene in enumerate(scenes[len(sources) :], 1):
        write_scene(other_scene(number), SequencePaths(scene))
    return scenes


@exit_on_input_error
def main() -> None:
    """Make the runs that are missing, then show all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", nargs="*", type=Path, default=[], help="folders with color/ and gt_tracks.npz")
    parser.add_argument("--own_scenes", type=int, default=0, help="how many of the generator's scenes to add")
    parser.add_argument("--configs", nargs="+", type=Path, required=True, help="settings to compare")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each scene and config")
    parser.add_argument("--seconds", type=float, default=600, help="of training in each run")
    parser.add_argument("--every", type=int, default=300, help="steps between two scores")
    parser.add_argument("--minutes", nargs="*", type=float, default=[5, 10, 20], help="rows of the table")
    parser.add_argument("--out", type=Path, default=Path("out/time_to_accuracy"), help="where everything is kept")
    args = parser.parse_args()
    if min(args.seeds, args.every, len(args.scenes) + args.own_scenes) < 1 or not args.seconds > 0:
        raise InputError("nothing to run: give scenes, and --seeds, --every and --seconds above 0")
    budget = Budget(args.seconds, args.every)
    scenes = make_scenes(args.scenes, args.own_scenes, args.configs, args.out)
    jobs = [(seed, scene, config) for seed in range(args.seeds) for scene in scenes for config in args.configs]
    files = [args.out / "runs" / f"{scene.name}_{config.stem}_{seed}.json" for seed, scene, config in jobs]
    kept = [read_kept(file, settings(config, budget)) for file, (_, _, config) in zip(files, jobs, strict=True)]
    runs = []
    for file, found, (seed, scene, config) in zip(files, kept, jobs, strict=True):
        if found is None:
            print(f"{scene.name}, {config.stem}, seed {seed}", flush=True)
            found = train(scene, config, seed, budget, args.out / "checkpoints")
            write_atomic(file, json.dumps(found, indent=1).encode())
        runs.append(found)
    write_atomic(args.out / "time_to_accuracy.json", json.dumps(runs, indent=1).encode())
    write_image(args.out / "time_to_accuracy.png", figure_image(curves(runs)))
    print(table(runs, args.minutes))


if __name__ == "__main__":
    main()
