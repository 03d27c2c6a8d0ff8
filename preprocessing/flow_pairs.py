"""All ordered pairs of a sequence, whatever estimates them.

A sweep goes from one frame i outwards in one direction (i+1, i+2, … or i−1, i−2, …), so that each flow can
start from the one before. Sweeps are independent of one another: a killed run repeats the unfinished sweeps
only, and since a sweep is always computed from its beginning, the result is the same as without the
interruption.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from utils.atomic import atomic_path
from utils.errors import InputError
from utils.paths import SequencePaths


class FlowEstimator(Protocol):
    """Estimates the flows of one sweep."""

    workers: int

    def sweep(self, source: int, targets: list[int]) -> Iterator[np.ndarray]:
        """Flows source→target [H,W,2] float32 for consecutive `targets` beginning beside `source`."""
        ...


def sweeps(num_frames: int) -> list[tuple[int, list[int]]]:
    """(i, targets by growing distance), forwards and backwards, for every frame that has any."""
    both = [(i, list(js)) for i in range(num_frames) for js in (range(i + 1, num_frames), range(i - 1, -1, -1))]
    return [(i, js) for i, js in both if js]


def load_flow(path: Path) -> np.ndarray:
    """Flow file as float32 [H,W,2], float16 on disk included.

    Raises:
        InputError: missing or not a flow.
    """
    try:
        flow = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read the flow {path} ({error}); delete it and run the preprocessing again") from error
    if flow.ndim != 3 or flow.shape[-1] != 2:
        raise InputError(f"{path} holds an array of shape {list(flow.shape)}; expected a flow [H,W,2]")
    return flow.astype(np.float32, copy=False)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file, whole or not at all."""
    with atomic_path(path) as temporary:
        np.save(temporary, array)


def missing_flows(paths: SequencePaths, names: list[str]) -> list[tuple[str, str]]:
    """Ordered pairs of frames without a flow file."""
    here = (
        {entry.name for entry in os.scandir(paths.flow("a", "b").parent)}
        if paths.flow("a", "b").parent.is_dir()
        else set()
    )
    return [(a, b) for a in names for b in names if a != b and paths.flow(a, b).name not in here]


def write_flows(paths: SequencePaths, names: list[str], estimator: FlowEstimator) -> None:
    """Write the missing pair files, sweep after sweep; existing files are kept."""
    missing = set(missing_flows(paths, names))
    todo = [(i, js) for i, js in sweeps(len(names)) if any((names[i], names[j]) in missing for j in js)]
    with tqdm(total=sum(len(js) for _, js in todo), desc="flow", unit="pair") as bar:

        def work(source: int, targets: list[int]) -> None:
            for target, flow in zip(targets, estimator.sweep(source, targets), strict=True):
                if (names[source], names[target]) in missing:
                    save_array(paths.flow(names[source], names[target]), flow.astype(np.float32, copy=False))
                bar.update()

        _run(work, todo, estimator.workers)


def _run(work: Callable[[int, list[int]], None], todo: list[tuple[int, list[int]]], workers: int) -> None:
    """Call `work` for every sweep, on `workers` threads; the first error ends the run."""
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, *sweep) for sweep in todo]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
