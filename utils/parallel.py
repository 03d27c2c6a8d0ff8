"""Threads of one process: how many torch computes with, and independent jobs in several of them."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

MAX_BYTES = 2**30  # of all jobs that run at a time
BYTES_PER_PX = 256  # of one job for each pixel of its frames (measured: 200 to 250)


def default_workers(num_px: int, device: torch.device | str = "cpu", bytes_per_job: int | None = None) -> int:
    """Return how many jobs to run at a time: on a CPU one for each core as far as memory goes, on a GPU one.

    Args:
        num_px: Pixels of a frame.
        device: Where the jobs compute.
        bytes_per_job: Memory that a job takes; by default BYTES_PER_PX for each pixel.
    """
    if torch.device(device).type != "cpu":
        return 1
    return max(1, min(os.cpu_count() or 1, MAX_BYTES // (bytes_per_job or BYTES_PER_PX * num_px)))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with `count` threads inside the context; 0 changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)  # parts of this setting are global to the process


def run_in_threads(work: Callable[[T], Iterable[object]], jobs: Sequence[T], workers: int) -> None:
    """Run `work(job)` to its end for every job, `workers` at a time; the first error or Ctrl-C stops all of them.

    The workers divide torch's threads among themselves: threads of several workers that wait for one another at every
    small operation cost more than they gain, above all beside other programs.

    Args:
        work: Makes a generator, which does the job and yields wherever it may be stopped.
        jobs: Its arguments.
        workers: Number of jobs that run at a time.
    """
    stopped = threading.Event()

    def run(job: T) -> None:
        for _ in work(job):
            if stopped.is_set():
                return

    threads_each = torch.get_num_threads() // workers or 1
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads_each,))
    with torch_threads(0), pool:
        futures = [pool.submit(run, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
