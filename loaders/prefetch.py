"""Batches of consecutive steps, prepared ahead by worker processes.

Worker k of n prepares every n-th batch from the k-th on and sends it through its own pipe. It waits while the pipe is
full, which bounds the number of batches ahead. If a worker is killed, its pipe ends.
"""

import multiprocessing
import signal
import sys
from collections.abc import Generator
from dataclasses import fields
from multiprocessing.connection import Connection
from typing import NoReturn

import torch

from loaders.batches import Batch, PairBatches
from utils.errors import InputError

# A fork shares the dataset's memory with the trainer; outside Linux, forks of a process with threads are unsafe.
PROCESSES = multiprocessing.get_context("fork") if sys.platform == "linux" else multiprocessing.get_context("spawn")


def iterate_batches(dataset: PairBatches, steps: range, num_workers: int) -> Generator[Batch, None, None]:
    """Iterate over the batches of `steps`, in order.

    Args:
        dataset: Batches, indexed by step.
        steps: The steps whose batches are wanted.
        num_workers: Processes that prepare batches ahead; 0 prepares each batch in this process when it is taken.

    Yields:
        One batch per step, the same whatever `num_workers`.

    Raises:
        InputError: `dataset` raised it, or a worker was killed; raised when the missing batch is taken.
    """
    if num_workers == 0:
        yield from map(dataset.__getitem__, steps)
        return
    workers: list[Worker] = []
    try:
        for first in range(num_workers):
            workers.append(Worker(dataset, steps[first::num_workers]))
        for position in range(len(steps)):
            yield workers[position % num_workers].take()
    finally:
        for worker in workers:
            worker.stop()


class Worker:
    """A process that prepares the batches of `steps`, and the receiving end of its pipe."""

    def __init__(self, dataset: PairBatches, steps: range):
        self.receiver, sender = PROCESSES.Pipe()  # a socket pair, whose buffer holds a few batches
        arguments = (dataset, steps, sender, self.receiver)
        self.process = PROCESSES.Process(target=_send_batches, args=arguments, daemon=True)
        self.process.start()
        sender.close()  # the worker's copy is the only one left, so that its death ends the pipe

    def take(self) -> Batch:
        """Wait for the next batch.

        Raises:
            InputError: What the dataset raised, or the worker was killed.
        """
        try:
            received = self.receiver.recv()
        except (EOFError, OSError) as error:  # OSError: killed in the middle of a message
            self._explain_death(error)
        if isinstance(received, Exception):
            raise received
        return Batch(*map(torch.from_numpy, received))

    def stop(self) -> None:
        """End the process at once: it shares nothing with the trainer that could be left locked or half written."""
        self.process.kill()
        self.process.join()
        self.receiver.close()

    def _explain_death(self, error: Exception) -> NoReturn:
        self.process.join()
        if self.process.exitcode is None or self.process.exitcode >= 0:
            raise RuntimeError("a process that prepares batches failed; its traceback is above") from error
        name = signal.Signals(-self.process.exitcode).name
        raise InputError(
            f"a process that prepares batches was killed ({name}), perhaps for lack of memory: the state is saved; "
            "run the same command again, with fewer --num_workers if needed"
        ) from error


def _send_batches(dataset: PairBatches, steps: range, sender: Connection, receiver: Connection) -> None:
    """Run a worker: send the batch of each step as numpy arrays, or the error that prevents one."""
    receiver.close()  # the trainer's copy is the only one left, so that its death ends `send`
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole process group; the trainer ends the workers
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    try:
        for step in steps:
            batch = dataset[step]
            # Not as tensors, which torch would move to shared memory, one file descriptor each.
            sender.send([getattr(batch, field.name).numpy() for field in fields(batch)])
    except (InputError, MemoryError) as error:
        sender.send(error)
    except ConnectionError:
        pass  # the trainer was killed
