"""Flow of all pairs of a sequence, by any estimator.

In a sweep, each flow is initialised with the flow to the frame before. The sweeps of `estimator.block` neighbouring
frames form a block and are estimated together. Blocks are independent and always computed from their beginning: a
killed run repeats only unfinished blocks, and ends with the same bytes as an uninterrupted one, whatever the number of
processes, where blocks have the same size (RAFT's depend on a GPU's memory). While an estimator computes on one device,
other threads pack and write its flows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Protocol

import cv2
import numpy as np
from tqdm import tqdm

from preprocessing.flow_files import missing_flows, read_flow, write_flow
from preprocessing.pairs import Pair, Pairs, Sweep
from preprocessing.sequence_paths import SequencePaths
from utils.distributed import SINGLE_PROCESS, Context
from utils.images import read_frame
from utils.parallel import FILE_BYTES_PER_PX, advance, default_workers, run_in_threads

PairFlow = tuple[Pair, np.ndarray]  # flow [H,W,2] float32, pixels


class FlowEstimator(Protocol):
    """Estimator of flow between the frames of a clip, which are given by number.

    Attributes:
        block: Largest number of sweeps, or pairs, per call.
        workers: Number of calls that may run at the same time.
    """

    block: int
    workers: int

    def estimate_sweeps(self, sweeps: list[Sweep]) -> Iterable[PairFlow]:
        """Yield the flows of at most `block` sweeps, all in one direction."""
        ...

    def estimate_from(self, pairs: list[Pair], starts: list[np.ndarray]) -> Iterable[PairFlow]:
        """Yield the flows of at most `block` pairs, each initialised with a flow [H,W,2]."""
        ...


@dataclass(frozen=True)
class Job:
    """Pairs that are estimated together, by a call of `estimate`."""

    pairs: list[Pair]
    estimate: Callable[[], Iterable[PairFlow]]


def write_flows(
    paths: SequencePaths,
    names: list[str],
    pairs: Pairs,
    estimator: FlowEstimator,
    context: Context = SINGLE_PROCESS,
) -> None:
    """Write the missing flows of the pairs; existing files are kept."""
    # All ranks must form the same jobs, though each may have another GPU with another amount of memory.
    size = min(context.all_gather_object([estimator.block]))
    jobs = [
        Job([(i, j) for i, targets in block for j in targets], partial(estimator.estimate_sweeps, block))
        for block in _blocks(pairs, size)
    ]
    _run(paths, names, jobs, estimator, context, "flow")
    for gap in pairs.doubled_gaps():
        context.barrier()  # the halves must exist
        chunks = _chunks(pairs.with_gap(gap), size)
        jobs = [Job(chunk, partial(_estimate_from_halves, paths, names, estimator, chunk)) for chunk in chunks]
        _run(paths, names, jobs, estimator, context, f"flow, gap {gap}")
    context.barrier()


def compose(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the flow a→c from `first` a→b and `second` b→c, all [H,W,2] pixels: f(p) + g(p + f(p)).

    Outside the image, `second` has its border value, so that points that have left the image get a value, too.
    """
    height, width = first.shape[:2]
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    carried = cv2.remap(
        second, xs + first[..., 0], ys + first[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return first + carried


def _chunks(items: list, size: int) -> list[list]:
    return [items[k : k + size] for k in range(0, len(items), size)]


def _blocks(pairs: Pairs, size: int) -> list[list[Sweep]]:
    """Return runs of up to `size` sweeps in one direction, independent of which files already exist."""
    directions = groupby(pairs.sweeps(), key=lambda sweep: sweep[1][0] > sweep[0])
    return [block for _, sweeps in directions for block in _chunks(list(sweeps), size)]


def _estimate_from_halves(
    paths: SequencePaths, names: list[str], estimator: FlowEstimator, pairs: list[Pair]
) -> Iterable[PairFlow]:
    """Estimate pairs of a doubled gap, each from the composition of its two halves."""
    starts = []
    for i, j in pairs:
        a, middle, b = names[i], names[(i + j) // 2], names[j]
        starts.append(compose(read_flow(paths, a, middle), read_flow(paths, middle, b)))
    return estimator.estimate_from(pairs, starts)


def _run(
    paths: SequencePaths, names: list[str], jobs: list[Job], estimator: FlowEstimator, context: Context, label: str
) -> None:
    """Run this rank's jobs of which a file is missing, `estimator.workers` at a time.

    Workers on all cores pack what they estimate. A single one, which keeps a device busy, leaves it to other threads.
    """
    missing = set(missing_flows(paths, [(names[i], names[j]) for job in jobs for i, j in job.pairs]))

    def is_missing(pair: Pair) -> bool:
        return (names[pair[0]], names[pair[1]]) in missing

    def write(pair: Pair, flow: np.ndarray) -> None:
        if is_missing(pair):
            write_flow(paths, names[pair[0]], names[pair[1]], flow)
        advance(bar)

    def work(job: Job) -> Iterator[Callable[[], None]]:
        for pair, flow in job.estimate():
            yield partial(write, pair, flow)

    writers = 0
    if estimator.workers == 1:
        num_px = read_frame(paths.color / names[0])[..., 0].size
        writers = default_workers(num_px, bytes_per_job=FILE_BYTES_PER_PX * num_px)
    todo = [job for job in context.partition(jobs) if any(map(is_missing, job.pairs))]
    total = sum(len(job.pairs) for job in todo)
    with tqdm(total=total, desc=label, unit="pair", disable=context.rank > 0) as bar:
        run_in_threads(work, todo, estimator.workers, writers)
