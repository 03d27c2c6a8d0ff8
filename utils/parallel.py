"""Threads of one process: how many torch computes with, and independent jobs in several of them."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


# Bytes of all workers together, and what one takes for each pixel of the frames it works on (measured: 200 to 250).
MEMORY, BYTES_PER_PX = 2**30, 256


def default_workers(num_px: int, device: torch.device | str = "cpu", each: int | None = None) -> int:
    """Jobs at a time on frames of `num_px` pixels: one for each core as far as memory goes; one on a GPU.

    `each`: bytes that a job takes, where it is not BYTES_PER_PX a pixel.
    """
    if torch.device(device).type != "cpu":
        return 1
    return max(1, min(os.cpu_count() or 1, MEMORY // (each or BYTES_PER_PX * num_px)))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """What happens inside computes with `count` of torch's threads; 0: as many as outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)  # parts of this setting belong to the whole process


def run_in_threads(work: Callable[[T], Iterable[object]], jobs: Sequence[T], workers: int) -> None:
    """Go through `work(job)` to its end for every job, `workers` at a time; the first error (Ctrl-C too) ends all.

    `work` is a generator that yields where it may be stopped. The workers share torch's threads out among themselves:
    threads that wait for one another at every small operation cost more than they bring, above all beside other
    programs.
    """
    stopped, threads = threading.Event(), torch.get_num_threads()

    def run(job: T) -> None:
        for _ in work(job):
            if stopped.is_set():
                return

    share = threads // workers or 1
    with torch_threads(0), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        futures = [pool.submit(run, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
