"""What the benchmarks share: times in turn, counted work, the memory of a process, the rate of the machine."""

import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

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


def medians_in_turn(calls: dict[str, Work], repeats: int) -> tuple[dict[str, float], float]:
    """Median seconds of each call, and GFLOP/s of torch's product of two large matrices between them.

    In turn, so that other work on the machine slows all of them alike. All have been called before.
    """
    matrix = torch.rand(PRODUCT, PRODUCT)
    calls = {**calls, "product": lambda: matrix @ matrix}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds_of(call))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return medians, 2 * PRODUCT**3 / medians.pop("product") / 1e9


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


def write_json(path: Path | None, rows: dict[str, dict[str, float]]) -> None:
    """Leave the figures there, if a file was asked for."""
    if path:
        path.write_text(json.dumps(rows, indent=1))
