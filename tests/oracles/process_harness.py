"""A command that can be interrupted: started in a fork, watched by its CPU time, compared with a reference run.

Moments are fractions of the CPU time that the reference run takes, so that a busy machine changes little.
"""

import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

Process = multiprocessing.process.BaseProcess

MAX_SECONDS = 300  # after which a run is taken to hang and killed
BLOCK = 4096  # bytes of a disk's block

# What each start writes anew, and what is made as a whole: counts of a stage, pictures at the end, repeated steps.
LOG_SUFFIXES = (".jsonl", ".txt")
MADE_AS_A_WHOLE = {"count_maps", "flow_stats.json", "report.png", "vis", "error_maps"}


@dataclass
class Command:
    """`main(flags)` in a folder like `template`; in a fork of this process, which need not import torch again.

    `run_reference` comes first: it sets what the other methods compare with.
    """

    name: str
    main: Callable[[list[str]], None]
    flags: list[str]
    template: Path

    def start(self, folder: Path, log: Path | None = None) -> Process:
        """Start it in `folder` with its output in `log` (default: `<folder>.log`)."""
        process = multiprocessing.get_context("fork").Process(target=self._run, args=(folder, log or log_of(folder)))
        process.start()
        return process

    def finish(self, folder: Path, log: Path | None = None) -> int:
        """Run it to its end and return the exit status."""
        process = self.start(folder, log)
        process.join(MAX_SECONDS)
        process.kill()
        process.join()
        return -1 if process.exitcode is None else process.exitcode

    def _run(self, folder: Path, log: Path) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
        tqdm.set_lock(threading.RLock())  # else shared with this process, which a kill would leave locked
        os.chdir(folder)
        sys.stdout = sys.stderr = log.open("w", buffering=1)
        for stream in (1, 2):  # for output that is not Python's
            os.dup2(sys.stdout.fileno(), stream)
        self.main(self.flags)

    def run_reference(self, folder: Path) -> None:
        """Run it once without a fault, and remember the files, the CPU time and the disk's blocks."""
        self.reference = folder
        shutil.copytree(self.template, folder)
        before = _children_seconds()
        if self.finish(folder) != 0:
            sys.exit(f"{self.name} fails without a fault: {last_line(log_of(folder))}")
        self.cpu_seconds, self.expected = _children_seconds() - before, contents(folder)
        self.blocks = num_blocks(folder) - num_blocks(self.template)

    def wait_until(self, process: Process, moment: float) -> bool:
        """Wait until a process has used this fraction of the CPU time; return whether it still runs."""
        while process.is_alive() and _cpu_seconds(process.pid) < moment * self.cpu_seconds:
            time.sleep(0.001)
        return process.is_alive()

    def repeat(self, folder: Path, stopped: bool) -> dict[str, float]:
        """Run the command again after a fault; return how the files differ and what was done twice.

        Args:
            folder: Where the command was interrupted.
            stopped: Whether it could still save its state, as a killed process cannot.
        """
        before = _stamps(folder)
        steps = max(0, logged_steps(folder) - newest_step(folder))
        status, found, after = self.finish(folder), contents(folder), _stamps(folder)
        extra = [Path(name) for name in set(found) - set(self.expected)]
        return {
            "failed": float(status != 0),
            "files that differ": sum(found.get(name) != value for name, value in self.expected.items()),
            "files left over": sum(not (stopped and path.match("model_*.pth")) for path in extra),
            "finished files remade": sum(after.get(name) != stamp for name, stamp in before.items()),
            "steps repeated": steps,
        }


def log_of(folder: Path) -> Path:
    """Return where the output of the command in `folder` goes."""
    return folder.with_name(f"{folder.name}.log")


def last_line(log: Path) -> str:
    """Return the last line of an output."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder but TensorBoard's, which hold the time of day."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in _files(folder)}


def num_blocks(folder: Path) -> int:
    """Return how many blocks of a disk the files below a folder take."""
    return sum(-(-path.stat().st_size // BLOCK) for path in folder.rglob("*") if path.is_file())


def newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint of the run in a folder, 0 without one."""
    return max((int(path.stem.split("_")[1]) for path in folder.glob("out/*/model_*.pth")), default=0)


def logged_steps(folder: Path) -> int:
    """Return the number of steps in the run's log, 0 without one."""
    return sum(log.read_text().count('"loss/Loss"') for log in folder.glob("logs/*/metrics.jsonl"))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name]


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what changes in a finished file when it is written again."""
    finished = (p for p in _files(folder) if p.suffix not in LOG_SUFFIXES and not p.name.startswith("."))
    stamps = {p.relative_to(folder): (p.stat().st_ino, p.stat().st_mtime_ns) for p in finished}
    return {str(path): stamp for path, stamp in stamps.items() if not MADE_AS_A_WHOLE & set(path.parts)}


def _children_seconds() -> float:
    """Return the CPU time of the processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _cpu_seconds(pid: int | None) -> float:
    """Return a process's CPU time so far, by its clock (Linux); infinite once it is gone."""
    try:
        return np.inf if pid is None else time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return np.inf
