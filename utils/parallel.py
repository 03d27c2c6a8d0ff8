"""Threads of one process: set the number that torch uses, and run independent jobs in several threads."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch
from tqdm import tqdm

T = TypeVar("T")

MAX_BYTES = 2**30  # memory of all jobs that run at a time
# Memory of a job per pixel of a frame (measured: 200 to 250), and of one that only reads and writes flow and masks.
BYTES_PER_PX, FILE_BYTES_PER_PX = 256, 64


def default_workers(num_px: int, device: torch.device | str = "cpu", bytes_per_job: int | None = None) -> int:
    """Return how many jobs to run at a time: one per core, limited by `MAX_BYTES`.

    Args:
        num_px: Pixels of a frame.
        device: The device of the jobs. A GPU computes for one while others read and write their files; Apple's gets one
            job, because PyTorch does not promise that several threads may use it.
        bytes_per_job: Memory of a job; by default BYTES_PER_PX for each pixel, FILE_BYTES_PER_PX if a GPU computes.
    """
    kind = torch.device(device).type
    if kind not in ("cpu", "cuda"):
        return 1
    per_px = BYTES_PER_PX if kind == "cpu" else FILE_BYTES_PER_PX
    return max(1, min(os.cpu_count() or 1, MAX_BYTES // (bytes_per_job or per_px * num_px)))


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


def advance(bar: tqdm) -> None:
    """Advance a bar by one from any thread.

    If its output is closed, as `tee` is by the Ctrl-C that stops a pipe, tqdm keeps the lock of all bars: the thread
    ends with the error, and the others would wait forever.
    """
    lock = bar.get_lock()
    with lock:
        try:
            bar.update()
        except OSError:
            lock.release()  # of tqdm's own acquisition; it counts them
            raise


def run_in_threads(
    work: Callable[[T], Iterable[Callable[[], object] | None]], jobs: Sequence[T], workers: int, task_threads: int = 0
) -> None:
    """Run `work(job)` to its end for every job, `workers` at a time; the first error or Ctrl-C stops all of them.

    Each worker gets an equal share of torch's threads: with more threads than cores, waiting at every small operation
    would cost more than it gains, above all if other programs run.

    Args:
        work: Returns a generator that does the job; where it yields or calls `raise_if_stopped`, it may be stopped.
            What it yields, if not None, is a task that ends a part of the job, such as writing a file.
        jobs: The arguments of `work`.
        workers: Number of jobs that run at a time.
        task_threads: Number of further threads that run these tasks while the jobs go on, in any order. A job waits
            while twice as many tasks are unfinished. 0: each job runs its own tasks.
    """
    stopped = threading.Event()
    threads_each = torch.get_num_threads() // workers or 1
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads_each,))
    with torch_threads(0), _TaskThreads(task_threads, stopped) as run_task, pool:

        def run(job: T) -> None:
            _worker.stopped = stopped
            with suppress(Stopped):
                raise_if_stopped()
                for task in work(job):
                    if task is not None:
                        run_task(task)
                    raise_if_stopped()

        futures = [pool.submit(run, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _TaskThreads:
    """Threads that run tasks of jobs; without threads, a task is run by the thread that hands it over.

    The end of the context waits for all tasks and raises the first error of one, which also stops the run. Tasks of a
    stopped run that have not begun are dropped.
    """

    def __init__(self, threads: int, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._error: BaseException | None = None
        self._pool = ThreadPoolExecutor(threads) if threads else None
        self._room = threading.Semaphore(2 * threads)

    def __call__(self, task: Callable[[], object]) -> None:
        if self._pool is None:
            task()
            return
        self._room.acquire()
        self._pool.submit(self._run, task)

    def _run(self, task: Callable[[], object]) -> None:
        try:
            if not self._stopped.is_set():
                task()
        except BaseException as error:
            self._error = self._error or error
            self._stopped.set()
        finally:
            self._room.release()

    def __enter__(self) -> "_TaskThreads":
        return self

    def __exit__(self, kind: object, *args: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        if self._error is not None and kind is None:
            raise self._error
