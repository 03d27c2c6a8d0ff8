"""Threads of one process: set the number that torch uses, and run independent jobs in several threads."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch

T = TypeVar("T")

MAX_BYTES = 2**30  # memory of all jobs that run at a time
BYTES_PER_PX = 256  # memory of a job per pixel of a frame (measured: 200 to 250)


def default_workers(num_px: int, device: torch.device | str = "cpu", bytes_per_job: int | None = None) -> int:
    """Return how many jobs to run at a time: on a CPU one per core, limited by `MAX_BYTES`, on a GPU one.

    Args:
        num_px: Pixels of a frame.
        device: The device of the jobs.
        bytes_per_job: Memory of a job; by default BYTES_PER_PX for each pixel.
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


class Stopped(Exception):
    """Raised in a worker of `run_in_threads` whose job is to end early."""


_worker = threading.local()  # `stopped`: the event of the run that this thread works for


def raise_if_stopped() -> None:
    """Raise `Stopped` in a worker whose run was stopped: for work that takes seconds between two yields."""
    stopped = getattr(_worker, "stopped", None)
    if stopped is not None and stopped.is_set():
        raise Stopped


def run_in_threads(work: Callable[[T], Iterable[object]], jobs: Sequence[T], workers: int) -> None:
    """Run `work(job)` to its end for every job, `workers` at a time; the first error or Ctrl-C stops all of them.

    Each worker gets an equal share of torch's threads: with more threads than cores, waiting at every small operation
    would cost more than it gains, above all if other programs run.

    Args:
        work: Returns a generator that does the job; where it yields or calls `raise_if_stopped`, it may be stopped.
        jobs: The arguments of `work`.
        workers: Number of jobs that run at a time.
    """
    stopped = threading.Event()

    def run(job: T) -> None:
        _worker.stopped = stopped
        with suppress(Stopped):
            for _ in work(job):
                raise_if_stopped()

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
