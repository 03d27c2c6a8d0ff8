"""What the benchmarks share: times in turn, counted work, the memory of a process, the rate of the machine."""

import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from networks.linear import linear

T = TypeVar("T")
Work = Callable[[], object]

PRODUCT = 2048  # side of the matrices whose product gives the machine's rate


@register_flop_formula(torch.ops.mkldnn._linear_pointwise)
def _count_linear(x_shape, weight_shape, *args, out_shape=None, **kwargs) -> int:
    return 2 * math.prod(x_shape) * weight_shape[0]


def gflop_of(work: Callable[[], T]) -> tuple[float, T]:
    """10⁹ floating point operations in the matrix products of a call, oneDNN's among them; and what it gives."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    return counter.get_total_flops() / 1e9, result


def seconds_of(work: Work) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu_seconds_of(work: Work) -> float:
    """How long this process computes in a call: what it waits while others have the cores is left out."""
    start = time.process_time()
    work()
    return time.process_time() - start


@dataclass(frozen=True)
class Timing:
    """What a call takes, and how much large products would have done in its place."""

    seconds: float  # median wall time
    cpu_seconds: float  # median time that this process computed, by all its threads
    peak_gflop: float  # median of the call's CPU time times the higher rate of large products right before and after it


def peak_rate() -> float:
    """GFLOP for each CPU second of the product of two large matrices, by the faster of torch's library and oneDNN."""
    matrix = torch.rand(PRODUCT, PRODUCT)
    products = (lambda: matrix @ matrix, lambda: linear(matrix, matrix))
    return 2 * PRODUCT**3 / 1e9 / min(cpu_seconds_of(product) for product in products)


def times_in_turn(calls: dict[str, Work], repeats: int) -> dict[str, Timing]:
    """Calls in turn, so that other work on the machine slows all of them alike. All have been called before.

    The machine's rate is measured again beside every call, for it changes with that other work.
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
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def alone(module: str, *words: str) -> dict[str, float]:
    """The figures that `python -m benchmarks.<module> words…` prints as its last line, JSON.

    For memory, and before the caller grows: a process begins with the largest size of the one that starts it.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def write_json(path: Path | None, rows: dict[str, dict]) -> None:
    """Leave the figures there, if a file was asked for."""
    if path:
        path.write_text(json.dumps(rows, indent=1))
