"""What happens to a run that is disturbed: `python -m benchmarks.faults [--trials 50] [--seed 0] [--json FILE]`.

Preprocessing and training of a tiny scene are killed, stopped, left without room on the disk or the right to write,
started twice, and lose a worker, at moments drawn at random (in CPU time, so that a busy machine changes little); then
the same command is given. Counted is what must not be: a status or sentence other than the promised one, files that
differ from an undisturbed run's or are left over; and by how much the work went back: finished files that were made
again, at most those of the sweeps (a frame and a direction) that threads were chaining, and steps of training, at most
those since the last checkpoint. Linux; the disks need root.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import preprocessing.main_processing as main_processing
import train
from benchmarks.measure import write_json
from benchmarks.process_harness import Command, log_of, logged_steps, newest_step, num_blocks, said
from evaluation.tables import format_table
from preprocessing.sequence_paths import SequencePaths
from preprocessing.synthetic import make_scene, write_scene
from utils.run_log import RunLog

Row = dict[str, float]
Trial = Callable[[Command, Path, float], Row | None]  # None: it ended before the moment

STOPPED, REFUSED = 130, 2  # exit statuses
WENT_BACK = ("finished files made again", "steps made again")
INPUT = ["--data_dir", "scene", "--flow", "dis", "--device", "cpu"]
TINY = shlex.split("""
--num_pairs 4 --num_pts 16 --num_samples_ray 4 --coupling_width 8 --coupling_depth 1 --code_size 8 --code_width 8
--volume_width 8 --volume_depth 1 --plane_size 4 --lr_muon 0.01 --use_error_map --num_iters 16 --i_weight 4 --i_cache 6
--i_print 1 --i_img 1000
""")


def train_undrawn(flags: list[str]) -> None:
    """train.py without TensorBoard's pictures, which take long and are not compared."""
    train.training_images = lambda *values: {}
    RunLog.weight_stats = lambda *values: None
    train.main(flags)


def signalled(number: signal.Signals) -> Trial:
    """Trials that end by this signal."""

    def trial(command: Command, folder: Path, moment: float) -> Row | None:
        process, killed = command.start(folder), number == signal.SIGKILL
        if command.until(process, moment):
            os.kill(process.pid, number)
        process.join()
        if process.exitcode == 0:
            return None
        promised = process.exitcode == (-number if killed else STOPPED)
        return {"not as promised": float(not promised)} | command.again(folder, stopped=not killed)

    return trial


def full_disk(command: Command, folder: Path, moment: float) -> Row | None:
    """Room for that share of what it writes."""
    size = 4096 * (num_blocks(command.template) + int(moment * command.blocks))
    with mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder):
        shutil.copytree(command.template, folder, dirs_exist_ok=True)
        if (status := command.finish(folder)) == 0:
            return None
        promised = status == REFUSED and said(log_of(folder)).startswith("error: cannot write")
        mount("-o", "remount,size=1g", folder)
        return {"not as promised": float(not promised)} | command.again(folder, stopped=True)


def read_only(command: Command, folder: Path, moment: float) -> Row:
    """No right to write anywhere in the folder."""
    with mounted("--bind", folder, folder):
        mount("-o", "remount,bind,ro", folder)
        promised = command.finish(folder) == REFUSED and said(log_of(folder)).startswith("error: no permission to write")
    return {"not as promised": float(not promised)} | command.again(folder, stopped=False)


def started_twice(command: Command, folder: Path, moment: float) -> Row | None:
    """A second run in the folder of the first."""
    process, log = command.start(folder), folder.with_name("second.log")
    running = command.until(process, moment)
    status = command.finish(folder, log)
    process.join()
    if not running or status == 0:  # nothing was left to do that two could not do
        return None
    promised = status == REFUSED and "is in use by process" in said(log) and process.exitcode == 0
    return {"not as promised": float(not promised)} | command.again(folder, stopped=False)


def worker_killed(command: Command, folder: Path, moment: float) -> Row | None:
    """One of the processes that prepare batches is killed."""
    process = command.start(folder)
    command.until(process, moment)
    for worker in workers_of(process.pid)[:1]:
        os.kill(worker, signal.SIGKILL)
    process.join()
    if process.exitcode == 0:  # there was none, or its last batch was there
        return None
    told = process.exitcode == REFUSED and "a process that prepares batches was killed" in said(log_of(folder))
    promised = told and newest_step(folder) == logged_steps(folder)
    return {"not as promised": float(not promised)} | command.again(folder, stopped=True)


def workers_of(pid: int) -> list[int]:
    """Forks of a process that still run its program."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    pids = [int(word) for word in children.read_text().split()] if children.exists() else []
    return [child for child in pids if os.path.realpath(f"/proc/{child}/exe") == os.path.realpath(sys.executable)]


def mount(*words: str | Path) -> None:
    """Call `mount`; raises OSError where that is not allowed."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise PermissionError(done.stderr.strip())


@contextmanager
def mounted(*words: str | Path) -> Iterator[None]:
    """While entered, something is mounted on the folder that comes last."""
    mount(*words)
    try:
        yield
    finally:
        subprocess.run(["umount", words[-1]], check=True)


KINDS: dict[str, Trial] = {
    "kill -9": signalled(signal.SIGKILL),
    "Ctrl-C": signalled(signal.SIGINT),
    "SIGTERM": signalled(signal.SIGTERM),
    "full disk": full_disk,
    "read-only folder": read_only,
    "two runs at once": started_twice,
    "a worker killed": worker_killed,
}


def commands(root: Path) -> dict[str, Command]:
    """The commands and what they start from; undisturbed runs of them are made first."""
    bare, ready = root / "bare", root / "ready"
    write_scene(make_scene(6, 40, 56, seed=3), SequencePaths(bare / "scene"))
    (bare / "scene" / "gt_tracks.npz").unlink()  # scores take long and write nothing
    preparing = Command("preprocessing", main_processing.main, INPUT, bare)
    preparing.undisturbed(ready)
    training = Command("training", train_undrawn, [*INPUT, *TINY, "--num_workers", "0"], ready)
    shared = Command("training", train_undrawn, [*INPUT, *TINY, "--num_workers", "2"], ready)
    training.undisturbed(root / "trained")
    shared.undisturbed(root / "trained by workers")
    return {"preprocessing": preparing, "training": training, "training with workers": shared}


def trials(command: Command, kind: str, count: int, rng: np.random.Generator, root: Path) -> Row:
    """Disturb a command `count` times (runs that ended too soon come on top): sums; of what went back, the most."""
    rows: list[Row] = []
    for number in tqdm(range(3 * count + 7), desc=f"{command.name}, {kind}"):
        folder = root / f"{kind} {number}"
        shutil.copytree(command.template, folder)
        row = KINDS[kind](command, folder, rng.uniform(0.02, 1))
        if row:
            rows.append(row)
            if any(value for name, value in row.items() if name not in WENT_BACK):
                tqdm.write(f"{command.name}, {kind}, trial {number}: {row}, {said(log_of(folder))}")
        shutil.rmtree(folder)
        if len(rows) == count:
            break
    names = rows[0] if rows else {}
    reduced = {name: (max if name in WENT_BACK else sum)(row[name] for row in rows) for name in names}
    return {"trials": len(rows)} | reduced


def main() -> None:
    """Run all kinds of trials, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=50, help="kills of each command; a fifth of it of other kinds")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args()
    rows: dict[str, Row] = {}
    torch.set_num_threads(1)  # a fork does not inherit others, and would wait for them
    with tempfile.TemporaryDirectory() as folder:
        known = commands(Path(folder))
        for kind in args.kinds:
            names = ["training with workers"] if kind == "a worker killed" else ["preprocessing", "training"]
            count = {"kill -9": args.trials, "read-only folder": 1}.get(kind, max(1, args.trials // 5))
            for name in names:
                # A stream for each: what is left out changes nothing in the others.
                rng = np.random.default_rng([args.seed, list(KINDS).index(kind), names.index(name)])
                rows[f"{name}, {kind}"] = trials(known[name], kind, count, rng, Path(folder))
                write_json(args.json, rows)
    print(format_table(rows))


if __name__ == "__main__":
    main()
