"""Whole commands of two checkouts: `python -m benchmarks.whole --old DIR --new DIR --config configs/demo.txt`.

Trains with both in turn (old, new, old, new …), and scores the clip's tracks if it has any; `--viz` draws as well. What
follows `--` goes to all commands: `-- --num_iters 50 --max_side 256`. Each run is in a fresh folder with its own copy
of the clip, and uses the checkout's own file of the name --config. Printed are the medians of CPU time (all threads and
child processes) and wall time of each stage, and what each run cost and scored.

A stage is the time in which a progress bar is the innermost open one: work without a bar counts for the bar around it,
and as `rest` if there is none (imports above all). The tracks that evaluate.py of either checkout writes are scored
here, so that both have the same metrics: TAP-Vid's, on strided queries. A finished run is kept in --out as one JSON,
and the same command makes those that are missing.
"""

import compileall
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from benchmarks.accuracy import call, copy_scene, resolved_settings, training_flags
from benchmarks.measure import read_kept
from benchmarks.stage_times import cpu_seconds
from benchmarks.whole_tables import REST, SCORES, SIDES, WHOLE, Times, whole_tables
from configs.flags import parse_train
from evaluation.ground_truth import find_truth
from evaluation.options import EvaluationOptions
from evaluation.provenance import provenance
from evaluation.scoring import score
from evaluation.stored_tracks import stored_tracker
from loaders.clip import open_clip
from loaders.clip_masks import MaskOptions
from utils.atomic import write_atomic
from utils.errors import InputError, OneLineErrorParser, exit_on_input_error

RUNNER = Path(__file__).with_name("stage_times.py")
NOT_NEEDED = ("assets", "benchmarks", "docs", "tests")  # by the commands


@dataclass(frozen=True)
class Checkout:
    """A copy of a checkout's code, in which edits during the runs change nothing."""

    code: Path
    commit: str  # with `+changes` if files differ from it
    digest: str  # of its files


@dataclass(frozen=True)
class Plan:
    """What every run does: its commands, and the flags that all of them get."""

    config: Path  # relative to a checkout
    flags: list[str]
    scripts: tuple[str, ...]
    threads: int  # 0: as many as the libraries choose


@dataclass(frozen=True)
class Job:
    """One run."""

    clip: Path | None  # None: the config's own
    side: str
    seed: int
    repeat: int

    @property
    def video(self) -> str:
        """Name of the clip."""
        return self.clip.resolve().name if self.clip else "the config's"

    @property
    def name(self) -> str:
        """Name of the run's file."""
        clip = self.video if self.clip else "config"
        return f"{clip}_{self.side}_seed{self.seed}_repeat{self.repeat}"


def copy_checkout(checkout: Path, code: Path) -> Checkout:
    """Copy what the commands of a checkout need, and compile it, which the first run would do otherwise.

    Raises:
        InputError: It is no git working tree with a train.py.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True)
        if done.returncode or not (checkout / "train.py").is_file():
            raise InputError(f"{checkout} is no checkout: expected a git working tree with train.py")
        return done.stdout

    shutil.rmtree(code, ignore_errors=True)
    digest = hashlib.sha256()
    for name in sorted(git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")):
        if (checkout / name).is_file() and name.split("/")[0] not in NOT_NEEDED:
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkout / name, code / name)
            digest.update(name.encode() + b"\0" + (code / name).read_bytes())
    compileall.compile_dir(code, quiet=1)
    commit = git("rev-parse", "HEAD").strip() + "+changes" * bool(git("status", "--porcelain"))
    return Checkout(code.resolve(), commit, digest.hexdigest())


def measure(checkout: Checkout, job: Job, plan: Plan, args: Namespace, out: Path) -> dict:
    """Run the commands in a fresh folder; return the times of each, and the scores.

    Args:
        checkout: Whose commands to run.
        job: The clip and the seed.
        plan: The commands and their flags.
        args: The flags as parsed here, for the scores.
        out: Where the folder is.
    """
    flags = ["--config", str(checkout.code / plan.config), *plan.flags]
    flags += ["--save_dir", "out", "--loader_seed", str(job.seed)]
    libraries = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM") if plan.threads else ()
    environment = os.environ | {name: str(plan.threads) for name in libraries}
    with tempfile.TemporaryDirectory(prefix=f".{job.name}.", dir=out) as name:
        folder = Path(name).resolve()
        data = folder / (job.video if job.clip else args.data_dir)
        if job.clip:
            copy_scene(job.clip, data)
            flags += ["--data_dir", data.name]
        times, scores = {}, {}
        for script in plan.scripts:
            if script != "evaluate.py" or (data / "gt_tracks.npz").is_file():  # the demo's train.py writes it
                times[script] = times_of(checkout.code / script, flags, folder, environment)
        for tracks in folder.glob("out/*/tracks_strided.npz"):  # one at most
            with working_in(folder / "scoring"):
                scores = score_tracks(data, tracks, args)
    return {"times": times, "scores": scores}


def times_of(script: Path, flags: list[str], folder: Path, environment: dict[str, str]) -> Times:
    """Run a command in `folder`; return the times of its bars, of the rest and of the whole."""
    report, start, cpu_start = folder / "stages.json", time.perf_counter(), cpu_seconds(resource.RUSAGE_CHILDREN)
    call(RUNNER, [str(report), str(script), *flags], folder, environment)
    whole = [cpu_seconds(resource.RUSAGE_CHILDREN) - cpu_start, time.perf_counter() - start]
    bars: Times = {name: seconds for name, seconds in json.loads(report.read_text(encoding="utf-8")).items() if name}
    rest = [total - sum(each) for total, *each in zip(whole, *bars.values(), strict=True)]
    return bars | {REST: rest, WHOLE: whole}


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make a folder the working directory: resized copies of frames are made below it, and must not be shared."""
    before = Path.cwd()
    folder.mkdir()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def score_tracks(data: Path, tracks: Path, args: Namespace) -> dict[str, float]:
    """Return the scores of the tracks that a checkout's evaluate.py wrote."""
    chosen = {name: getattr(args, name) for name in ("max_side", "num_imgs", "frame_range", "value_range")}
    clip = open_clip(data, **chosen, query_frame_id=None)
    num_frames, height, width, _ = clip.video.shape
    frames = clip.paths, clip.names, (height, width)
    truth = find_truth(EvaluationOptions(), data, *frames, data.name, MaskOptions())
    row = score(stored_tracker(tracks, num_frames, (height, width)), truth).row
    return {name: row[name] for name in SCORES}


def settings_of(checkout: Checkout, job: Job, plan: Plan) -> dict:
    """Return what a run is made with, beside its seed."""
    clip = str(job.clip.resolve()) if job.clip else None
    made_by = {"config": resolved_settings(checkout.code / plan.config), "code": checkout.digest}
    return {**made_by, "flags": plan.flags, "commands": list(plan.scripts), "threads": plan.threads, "clip": clip}


def require_clips(clips: Sequence[Path]) -> None:
    """Raise InputError unless all clips are folders with frames and have names of their own."""
    for clip in clips:
        if not (clip / "color").is_dir():
            raise InputError(f"{clip} is no clip: expected a folder with color/")
    names = [clip.resolve().name for clip in clips]
    if len(set(names)) < len(names):
        raise InputError(f"runs are named after their clip: give each another name ({', '.join(names)})")


def parse() -> tuple[Namespace, list[str]]:
    """Return this benchmark's flags, and those of the commands, which follow `--`."""
    parser = OneLineErrorParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--old", type=Path, required=True, help="checkout to compare with")
    parser.add_argument("--new", type=Path, default=Path(), help="checkout to measure")
    parser.add_argument("--config", type=Path, default=Path("configs/demo.txt"), help="file in both checkouts")
    parser.add_argument("--clips", nargs="*", type=Path, default=[], help="folders with color/ (default: the config's)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each clip")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each training")
    parser.add_argument("--viz", action="store_true", help="draw with viz.py, too")
    parser.add_argument("--threads", type=int, default=0, help="of the libraries (default: they choose)")
    parser.add_argument("--out", type=Path, default=Path("out/whole"), help="where everything is kept")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:end])
    if min(args.seeds, args.repeats) < 1 or args.threads < 0:
        raise InputError("nothing to run: give --seeds and --repeats of at least 1, and --threads of at least 0")
    require_clips(args.clips)
    return args, words[end + 1 :]


@exit_on_input_error
def main() -> None:
    """Make the runs that are missing, then print the tables of all."""
    args, given = parse()
    sides = {side: copy_checkout(getattr(args, side), args.out / "code" / side) for side in SIDES}
    clips = args.clips or [None]
    new_config = sides["new"].code / args.config
    flags = training_flags(new_config, given, args.clips[0] if args.clips else None)
    plan = Plan(args.config, flags, ("train.py", "evaluate.py", *["viz.py"] * args.viz), args.threads)
    parsed = parse_train(["--config", str(new_config), *flags, *(["--data_dir", "clip"] if args.clips else [])])
    counts = (range(args.repeats), range(args.seeds))
    jobs = [Job(clip, side, seed, repeat) for repeat, seed in product(*counts) for clip in clips for side in SIDES]
    files = [args.out / "runs" / f"{job.name}.json" for job in jobs]
    settings = [settings_of(sides[job.side], job, plan) for job in jobs]
    runs = []
    kept = [read_kept(file, each) for file, each in zip(files, settings, strict=True)]
    for job, file, each, run in zip(jobs, files, settings, kept, strict=True):
        if run is None:
            print(job.name, flush=True)
            run = asdict(job) | {"clip": job.video}
            run |= measure(sides[job.side], job, plan, parsed, args.out)
            run |= {"settings": each, **provenance(), "commit": sides[job.side].commit}
            write_atomic(file, json.dumps(run, indent=1).encode())
        runs.append(run)
    text = whole_tables(runs)
    write_atomic(args.out / "whole.md", (text + "\n").encode())
    write_atomic(args.out / "whole.json", (json.dumps(runs, indent=1) + "\n").encode())
    print(f"{text}\n\nruns and tables are in {args.out}")


if __name__ == "__main__":
    main()
