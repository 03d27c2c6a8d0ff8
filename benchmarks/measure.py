"""Time in turn, counted work, memory of a process, the machine's rate of matrix products; kept measurements."""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from utils.errors import InputError

T = TypeVar("T")
Work = Callable[[], object]

PRODUCT_SIDE = 2048  # of the matrices whose product gives the machine's rate


@dataclass(frozen=True)
class Timing:
    """How long a call takes, and how much large matrix products would compute in its place."""

    seconds: float  # median wall time
    cpu_seconds: float  # median CPU time of all threads
    peak_gflop: float  # median CPU time times the higher rate of large products right before and after the call


def gflop_of(work: Callable[[], T]) -> tuple[float, T]:
    """Return the 10⁹ floating point operations in the matrix products of a call, and its result."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    return counter.get_total_flops() / 1e9, result


def seconds_of(work: Work) -> float:
    """Return the wall time of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu_seconds_of(work: Work) -> float:
    """Return the CPU time of this process in a call, which leaves out waiting for a core."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peak_rate() -> float:
    """Return the GFLOP for each CPU second of the product of two large matrices."""
    matrix = torch.rand(PRODUCT_SIDE, PRODUCT_SIDE)
    return 2 * PRODUCT_SIDE**3 / 1e9 / cpu_seconds_of(lambda: matrix @ matrix)


def times_in_turn(calls: Mapping[str, Work], repeats: int) -> dict[str, Timing]:
    """Time calls in turn, so that other work on the machine slows all of them alike.

    Call each once before. The machine's rate changes with its other work, so it is measured again beside every call.
    """
    peak_rate()  # the first one of a process is slower
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in calls}
    before = peak_rate()
    for _ in range(repeats):
        for name, call in calls.items():
            cpu_start = time.process_time()
            seconds = seconds_of(call)
            cpu_seconds, after = time.process_time() - cpu_start, peak_rate()
            samples[name].append((seconds, cpu_seconds, cpu_seconds * max(before, after)))
            before = after
    return {name: Timing(*map(statistics.median, zip(*rows, strict=True))) for name, rows in samples.items()}


def resident_bytes() -> int:
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_alone(module: str, *words: str) -> dict[str, float]:
    """Run `python -m benchmarks.<module> words…` and return its last line, which is JSON.

    Measure memory this way, before the caller grows: a process starts with the largest size of its parent.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def write_json(path: Path | None, content: object) -> None:
    """Write `content` as JSON, if a file was named."""
    if path:
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_kept(path: Path, settings: Mapping[str, object]) -> dict | None:
    """Return the run that was kept there, None if there is none.

    Raises:
        InputError: It was made with other `settings` than these.
    """
    if not path.exists():
        return None
    run = json.loads(path.read_text(encoding="utf-8"))
    different = [name for name, value in settings.items() if run["settings"][name] != value]
    if different:
        raise InputError(f"{path} was made with another {different[0]}: give another --out, or remove that file")
    return run
