"""A command that can be disturbed: started in a fork, watched by its CPU time, compared with an undisturbed run."""

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

HANGS = 300  # seconds after which a run is killed

# Written by each start, and what is made as a whole: counts of a stage, pictures at the end, with steps made again.
LOGS, ONE_PIECE = (".jsonl", ".txt"), {"count_maps", "flow_stats.json", "report.png", "vis", "error_maps"}


@dataclass
class Command:
    """What a folder like `template` becomes by `main(flags)`, in a fork of this process: it waits for no imports."""

    name: str
    main: Callable[[list[str]], None]
    flags: list[str]
    template: Path

    def start(self, folder: Path, log: Path | None = None) -> Process:
        """Begin it in `folder`, its output into `log` (default: `<folder>.log`)."""
        process = multiprocessing.get_context("fork").Process(target=self._run, args=(folder, log or log_of(folder)))
        process.start()
        return process

    def finish(self, folder: Path, log: Path | None = None) -> int:
        """Run it to its end; the exit status."""
        process = self.start(folder, log)
        process.join(HANGS)
        process.kill()
        process.join()
        return process.exitcode

    def _run(self, folder: Path, log: Path) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
        tqdm.set_lock(threading.RLock())  # else shared with this process, which a kill would leave locked
        os.chdir(folder)
        sys.stdout = sys.stderr = log.open("w", buffering=1)
        for stream in (1, 2):  # of what is not Python
            os.dup2(sys.stdout.fileno(), stream)
        self.main(self.flags)

    def undisturbed(self, folder: Path) -> None:
        """Learn what it makes, and what CPU time that takes."""
        self.reference = folder
        shutil.copytree(self.template, folder)
        before = _children_seconds()
        if self.finish(folder) != 0:
            sys.exit(f"{self.name} fails undisturbed: {said(log_of(folder))}")
        self.cpu_seconds, self.expected = _children_seconds() - before, contents(folder)
        self.blocks = num_blocks(folder) - num_blocks(self.template)

    def until(self, process: Process, moment: float) -> bool:
        """Wait until it has used that share of its CPU time; False where it ended before."""
        while process.is_alive() and _cpu_seconds(process.pid) < moment * self.cpu_seconds:
            time.sleep(0.001)
        return process.is_alive()

    def again(self, folder: Path, stopped: bool) -> dict[str, float]:
        """Give the command again: what then differs from an undisturbed run, and what was done twice.

        `stopped`: not killed, so that it may have saved where it was.
        """
        before = _stamps(folder)
        steps = max(0, logged_steps(folder) - newest_step(folder))
        status, found, after = self.finish(folder), contents(folder), _stamps(folder)
        extra = [Path(name) for name in set(found) - set(self.expected)]
        return {
            "failed": float(status != 0),
            "files that differ": sum(found.get(name) != value for name, value in self.expected.items()),
            "files left over": sum(not (stopped and path.match("model_*.pth")) for path in extra),
            "finished files made again": sum(after.get(name) != stamp for name, stamp in before.items()),
            "steps made again": steps,
        }


def log_of(folder: Path) -> Path:
    """Where the output of the command in `folder` goes."""
    return folder.with_name(f"{folder.name}.log")


def said(log: Path) -> str:
    """The last line of an output."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder, but for TensorBoard's, which hold the time of day."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in _files(folder)}


def num_blocks(folder: Path) -> int:
    """What the files below a folder take of a disk, in blocks of 4096 bytes."""
    return sum(-(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())


def newest_step(folder: Path) -> int:
    """Step of the newest checkpoint of the run in a folder, 0 without one."""
    return max((int(path.stem.split("_")[1]) for path in folder.glob("out/*/model_*.pth")), default=0)


def logged_steps(folder: Path) -> int:
    """Steps that the run's log tells of, 0 without one."""
    return sum(log.read_text().count('"loss/Loss"') for log in folder.glob("logs/*/metrics.jsonl"))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name]


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes in a finished file when it is written again."""
    finished = (p for p in _files(folder) if p.suffix not in LOGS and not p.name.startswith("."))
    stamps = {p.relative_to(folder): (p.stat().st_ino, p.stat().st_mtime_ns) for p in finished}
    return {str(path): stamp for path, stamp in stamps.items() if not ONE_PIECE & set(path.parts)}


def _children_seconds() -> float:
    """CPU time of the processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, by its clock (Linux); infinite once it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return np.inf
