"""Faults injected into preprocessing and training of a tiny scene: signals, full and read-only disks, second runs.

After each, the same command is run again. A trial's row counts what must not happen: a status or sentence other than
the promised one, files that differ from the reference run's or are left over; and how much work was repeated: finished
files (at most those of the sweeps that threads were chaining) and steps (at most those since the last checkpoint).
Linux; the disks need root.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

import preprocessing.main_processing as main_processing
import train
from preprocessing.sequence_paths import SequencePaths
from preprocessing.synthetic import make_scene, write_scene
from tests.oracles.process_harness import BLOCK, Command, last_line, log_of, logged_steps, newest_step, num_blocks
from visualization import tensorboard

Row = dict[str, float]
Trial = Callable[[Command, Path, float], Row | None]  # None: the command ended before the moment

STOPPED, REFUSED = 130, 2  # exit statuses
REPEATED_WORK = ("finished files remade", "steps repeated")
INPUT = ["--data_dir", "scene", "--flow", "dis", "--device", "cpu"]
TINY = shlex.split("""
--num_pairs 4 --num_pts 16 --num_samples_ray 4 --coupling_width 8 --coupling_depth 1 --code_size 8 --code_width 8
--volume_width 8 --volume_depth 1 --plane_size 4 --lr_muon 0.01 --use_error_map --num_iters 16 --i_weight 4 --i_cache 6
--i_print 1 --i_img 1000
""")


def train_without_pictures(flags: list[str]) -> None:
    """Run train.py without TensorBoard's pictures, which take long and are not compared."""
    tensorboard.training_images = lambda *values, **options: {}
    train.main(flags)


def end_by(number: signal.Signals) -> Trial:
    """Return the trial of a signal."""

    def trial(command: Command, folder: Path, moment: float) -> Row | None:
        process, killed = command.start(folder), number == signal.SIGKILL
        if command.wait_until(process, moment):
            os.kill(process.pid or 0, number)
        process.join()
        if process.exitcode == 0:
            return None
        promised = process.exitcode == (-number if killed else STOPPED)
        return {"not as promised": float(not promised)} | command.repeat(folder, stopped=not killed)

    return trial


def full_disk(command: Command, folder: Path, moment: float) -> Row | None:
    """Leave room for this fraction of what the command writes."""
    size = BLOCK * (num_blocks(command.template) + int(moment * command.blocks))
    with mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        shutil.copytree(command.template, folder, dirs_exist_ok=True)
        if (status := command.finish(folder)) == 0:
            return None
        promised = status == REFUSED and last_line(log_of(folder)).startswith("error: cannot write")
        mount("-o", "remount,size=1g", str(folder))
        return {"not as promised": float(not promised)} | command.repeat(folder, stopped=True)


def read_only(command: Command, folder: Path, moment: float) -> Row:
    """Forbid writing anywhere in the folder."""
    with mounted("--bind", str(folder), str(folder)):
        mount("-o", "remount,bind,ro", str(folder))
        sentence = "error: no permission to write"
        promised = command.finish(folder) == REFUSED and last_line(log_of(folder)).startswith(sentence)
    return {"not as promised": float(not promised)} | command.repeat(folder, stopped=False)


def started_twice(command: Command, folder: Path, moment: float) -> Row | None:
    """Start a second run in the folder of the first."""
    process, log = command.start(folder), folder.with_name("second.log")
    running = command.wait_until(process, moment)
    status = command.finish(folder, log)
    process.join()
    if not running or status == 0:  # what was left to do could be done beside the first
        return None
    promised = status == REFUSED and "is in use by process" in last_line(log) and process.exitcode == 0
    return {"not as promised": float(not promised)} | command.repeat(folder, stopped=False)


def worker_killed(command: Command, folder: Path, moment: float) -> Row | None:
    """Kill one of the processes that prepare batches."""
    process = command.start(folder)
    command.wait_until(process, moment)
    for worker in workers_of(process.pid or 0)[:1]:
        os.kill(worker, signal.SIGKILL)
    process.join()
    if process.exitcode == 0:  # there was none, or its last batch was there
        return None
    sentence = "a process that prepares batches was killed"
    explained = process.exitcode == REFUSED and sentence in last_line(log_of(folder))
    promised = explained and newest_step(folder) == logged_steps(folder)
    return {"not as promised": float(not promised)} | command.repeat(folder, stopped=True)


def workers_of(pid: int) -> list[int]:
    """Return the forks of a process that still run its program."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    pids = [int(word) for word in children.read_text().split()] if children.exists() else []
    return [child for child in pids if os.path.realpath(f"/proc/{child}/exe") == os.path.realpath(sys.executable)]


def mount(*words: str) -> None:
    """Call `mount`; raises PermissionError where that is not allowed."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise PermissionError(done.stderr.strip())


@contextmanager
def mounted(*words: str) -> Iterator[None]:
    """Mount something on the folder that comes last, inside the context."""
    mount(*words)
    try:
        yield
    finally:
        subprocess.run(["umount", words[-1]], check=True)


KINDS: dict[str, Trial] = {
    "kill -9": end_by(signal.SIGKILL),
    "Ctrl-C": end_by(signal.SIGINT),
    "SIGTERM": end_by(signal.SIGTERM),
    "full disk": full_disk,
    "read-only folder": read_only,
    "two runs at once": started_twice,
    "a worker killed": worker_killed,
}


def make_commands(root: Path) -> dict[str, Command]:
    """Return the commands by name, each with its reference run done."""
    bare, ready = root / "bare", root / "ready"
    write_scene(make_scene(6, 40, 56, seed=3), SequencePaths(bare / "scene"))
    (bare / "scene" / "gt_tracks.npz").unlink()  # scores take long and write nothing
    preparing = Command("preprocessing", main_processing.main, INPUT, bare)
    preparing.run_reference(ready)
    training = Command("training", train_without_pictures, [*INPUT, *TINY, "--num_workers", "0"], ready)
    shared = Command("training", train_without_pictures, [*INPUT, *TINY, "--num_workers", "2"], ready)
    training.run_reference(root / "trained")
    shared.run_reference(root / "trained by workers")
    return {"preprocessing": preparing, "training": training, "training with workers": shared}


def run_trials(command: Command, kind: str, count: int, rng: np.random.Generator, root: Path) -> Row:
    """Inject a fault into `count` runs of a command, not counting runs that ended before the moment.

    Returns:
        The number of trials and the sums of their rows; of repeated work the largest.
    """
    rows: list[Row] = []
    for number in tqdm(range(3 * count + 7), desc=f"{command.name}, {kind}"):
        folder = root / f"{kind} {number}"
        shutil.copytree(command.template, folder)
        row = KINDS[kind](command, folder, rng.uniform(0.02, 1))
        if row:
            rows.append(row)
            if any(value for name, value in row.items() if name not in REPEATED_WORK):
                tqdm.write(f"{command.name}, {kind}, trial {number}: {row}, {last_line(log_of(folder))}")
        shutil.rmtree(folder)
        if len(rows) == count:
            break
    names = rows[0] if rows else {}
    reduced = {name: (max if name in REPEATED_WORK else sum)(row[name] for row in rows) for name in names}
    return {"trials": len(rows)} | reduced
