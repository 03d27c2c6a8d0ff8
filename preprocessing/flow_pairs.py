"""All pairs of a sequence, whatever estimates them.

A sweep goes from a frame i outwards in one direction (i+1, i+2, … or i−1, i−2, …), so that each flow can start from the
one before. The sweeps of `estimator.block` neighbouring frames go side by side. Blocks are independent of one another
and always computed whole, from their beginning: a killed run repeats the unfinished ones only and ends with the same
bytes as an uninterrupted one, on any number of processes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Protocol

import cv2
import numpy as np
from tqdm import tqdm

from preprocessing.flow_files import missing_flows, read_flow, write_flow
from preprocessing.pairs import Pairs
from preprocessing.sequence_paths import SequencePaths
from utils.distributed import Context
from utils.parallel import run_in_threads

Sweeps = list[tuple[int, list[int]]]  # sources with their targets by growing gap, all in one direction
Pair = tuple[int, int]


class FlowEstimator(Protocol):
    """Estimates flows [H,W,2] float32 pixels between frames that it knows by number."""

    block: int  # sources side by side
    workers: int  # blocks at a time

    def sweep(self, sweeps: Sweeps) -> Iterator[tuple[Pair, np.ndarray]]:
        """Flows of at most `block` sweeps, by growing gap; targets begin beside their sources."""
        ...

    def jump(self, pairs: list[Pair], starts: list[np.ndarray]) -> Iterator[tuple[Pair, np.ndarray]]:
        """Flows of at most `block` pairs, started from the flows `starts`."""
        ...


def compose(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Flow a→c from `first` a→b and `second` b→c, both [H,W,2] pixels: f(p) + g(p + f(p)).

    Outside the image `second` continues with its border value, so that a start exists for pixels that have left.
    """
    height, width = first.shape[:2]
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    carried = cv2.remap(
        second, xs + first[..., 0], ys + first[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return first + carried


def write_flows(
    paths: SequencePaths, names: list[str], pairs: Pairs, estimator: FlowEstimator, context: Context | None = None
) -> None:
    """Write the missing flows of the pairs; existing files are kept."""
    context = context or Context()
    swept = [Job([(i, j) for i, js in b for j in js], partial(estimator.sweep, b)) for b in _blocks(pairs, estimator)]
    _write(paths, names, swept, estimator, context, "flow")
    for gap in pairs.doublings():
        context.barrier()  # for the halves
        at_gap = pairs.at_gap(gap)
        chunks = [at_gap[k : k + estimator.block] for k in range(0, len(at_gap), estimator.block)]
        jumps = [Job(chunk, partial(_jump, paths, names, estimator, chunk)) for chunk in chunks]
        _write(paths, names, jumps, estimator, context, f"flow, gap {gap}")
    context.barrier()


@dataclass(frozen=True)
class Job:
    """Some pairs and what estimates them all."""

    pairs: list[Pair]
    estimate: Callable[[], Iterator[tuple[Pair, np.ndarray]]]


def _blocks(pairs: Pairs, estimator: FlowEstimator) -> list[Sweeps]:
    """Runs of up to `estimator.block` sweeps in one direction: the same whatever is left to do."""
    found: list[Sweeps] = []
    for _, same_direction in groupby(pairs.sweeps(), key=lambda sweep: sweep[1][0] > sweep[0]):
        run = list(same_direction)
        found += [run[k : k + estimator.block] for k in range(0, len(run), estimator.block)]
    return found


def _jump(paths: SequencePaths, names: list[str], estimator: FlowEstimator, pairs: list[Pair]) -> Iterator:
    """Estimate the pairs of a doubled gap, each from the composition of its halves."""
    starts = []
    for i, j in pairs:
        a, middle, b = names[i], names[(i + j) // 2], names[j]
        starts.append(compose(read_flow(paths, a, middle), read_flow(paths, middle, b)))
    return estimator.jump(pairs, starts)


def _write(
    paths: SequencePaths, names: list[str], jobs: list[Job], estimator: FlowEstimator, context: Context, label: str
) -> None:
    """Do this process's jobs that have something missing, `estimator.workers` at a time."""
    missing = set(missing_flows(paths, [(names[i], names[j]) for job in jobs for i, j in job.pairs]))

    def is_missing(pair: Pair) -> bool:
        return (names[pair[0]], names[pair[1]]) in missing

    def work(job: Job) -> Iterator[None]:
        for (i, j), flow in job.estimate():
            if is_missing((i, j)):
                write_flow(paths, names[i], names[j], flow)
            bar.update()
            yield

    todo = [job for job in context.partition(jobs) if any(map(is_missing, job.pairs))]
    total = sum(len(job.pairs) for job in todo)
    with tqdm(total=total, desc=label, unit="pair", disable=context.rank > 0) as bar:
        run_in_threads(work, todo, estimator.workers)
