"""Communication between the processes of a job: `torchrun --nproc_per_node=N …`, on one host or many."""

import atexit
import functools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import InputError

T = TypeVar("T")

LOST = ("by peer", "remote process", "Broken pipe", "Connection refused")  # parts of gloo's and NCCL's messages


def _report_lost_process(exchange: Callable[..., T]) -> Callable[..., T]:
    """Decorate a collective method: raise an `InputError` if another process is lost."""

    @functools.wraps(exchange)
    def wrapped(context: "Context", *args) -> T:
        try:
            return exchange(context, *args)
        except RuntimeError as error:  # the only type that gloo and NCCL raise
            if context.size == 1 or not any(word in str(error) for word in LOST):
                raise
            raise InputError(
                f"another of the {context.size} processes that train together was lost ({str(error).splitlines()[0]}): "
                "its own output gives the reason; saved files are complete, so run the same command again to resume"
            ) from error

    return wrapped


@dataclass(frozen=True)
class Context:
    """This process among those that share a job; every method but `partition` and `device` is collective.

    A collective method must be called by all processes, in the same order. With one process, it does no communication.

    Args:
        rank: Index of this process.
        size: Number of processes (the world size).
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> "Context":
        """Join the processes that torchrun started; without torchrun, return the context of a single process.

        Tensors on GPUs are exchanged with NCCL, everything else with gloo.
        """
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls()
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=timedelta(days=7))  # for the slowest process
        # Otherwise its threads may outlive the interpreter's objects, and abort a finished process.
        atexit.register(_destroy_process_group)
        return cls(dist.get_rank(), dist.get_world_size())

    def partition(self, items: Sequence[T]) -> list[T]:
        """Return this process's part of a list that is the same in all processes: every `size`-th item."""
        return list(items[self.rank :: self.size])

    @_report_lost_process
    def barrier(self) -> None:
        """Wait for all processes; afterwards, all can read the files that any of them wrote before."""
        if self.size > 1:
            dist.barrier()

    def on_rank0(self, work: Callable[[], object]) -> None:
        """Run `work` in the process of rank 0 while the others wait.

        Raises:
            InputError: `work` raised it; all processes raise it with the same message.
        """
        problem = None
        if self.rank == 0:
            try:
                work()
            except InputError as error:
                problem = str(error)
        problem = self.all_gather_object([problem])[0]
        if problem is not None:
            raise InputError(problem)

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true in at least one process."""
        return any(self.all_gather_object([flag]))

    @_report_lost_process
    def all_gather_object(self, items: list[T]) -> list[T]:
        """Return the items (plain data) of all processes, in order of rank."""
        if self.size == 1:
            return items
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    @_report_lost_process
    def all_gather(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Concatenate each tensor with those of the other processes; only this process's own rows carry a gradient.

        Args:
            tensors: Tensors [M,*] of one floating dtype, or bool; M may differ between processes.

        Returns:
            For each tensor, the rows of all processes in order of rank, [ΣM,*].
        """
        if self.size == 1:
            return list(tensors)
        # One message for all tensors, because each message costs a synchronisation.
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        shapes = self.all_gather_object([[tuple(tensor.shape) for tensor in tensors]])
        sizes = [[math.prod(shape) for shape in part] for part in shapes]
        longest = max(map(sum, sizes))
        buffers = [flat.new_empty(longest) for _ in range(self.size)]
        dist.all_gather(buffers, F.pad(flat, (0, longest - len(flat))))
        parts = [
            [
                piece.reshape(shape).to(tensor.dtype)
                for piece, shape, tensor in zip(buffer[: sum(size)].split(size), part, tensors, strict=True)
            ]
            for buffer, size, part in zip(buffers, sizes, shapes, strict=True)
        ]
        parts[self.rank] = list(tensors)
        return [torch.cat(values) for values in zip(*parts, strict=True)]

    @_report_lost_process
    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their sums over the processes, which are bitwise the same in each."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def device(self, device: torch.device) -> torch.device:
        """Return this process's device: the GPU of its local rank if `device` is `cuda` without an index."""
        if device.type == "cuda" and device.index is None and self.size > 1:
            return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        return device


def _destroy_process_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


SINGLE_PROCESS = Context()
