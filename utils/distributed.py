"""One of several processes that share a job: `torchrun --nproc_per_node=N …`, on one host or many."""

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

LOST = ("by peer", "remote process", "Broken pipe", "Connection refused")  # in what gloo and NCCL say of it


def _tells_lost_process(exchange: Callable[..., T]) -> Callable[..., T]:
    """Decorator for what all processes do together: an `InputError` where one of the others is gone."""

    @functools.wraps(exchange)
    def wrapped(context: "Context", *args) -> T:
        try:
            return exchange(context, *args)
        except RuntimeError as error:  # gloo and NCCL know no other
            if context.size == 1 or not any(word in str(error) for word in LOST):
                raise
            raise InputError(
                f"another of the {context.size} processes that train together was lost ({str(error).splitlines()[0]}): "
                "its own output says why; what is saved is whole, and the same command goes on"
            ) from error

    return wrapped


@dataclass(frozen=True)
class Context:
    """Process `rank` of `size`; alone unless started by torchrun."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> "Context":
        """Join the processes that torchrun started: what passes between GPUs goes by NCCL, all else by gloo."""
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls()
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=timedelta(days=7))  # the others wait for the slowest
        # Left to the interpreter's end, its threads may outlive what they use and abort a process that is done.
        atexit.register(_leave)
        return cls(dist.get_rank(), dist.get_world_size())

    def partition(self, items: Sequence[T]) -> list[T]:
        """This process's part of a list that is the same in all."""
        return list(items[self.rank :: self.size])

    @_tells_lost_process
    def barrier(self) -> None:
        """Until all processes are here: what one wrote before, all can read after."""
        if self.size > 1:
            dist.barrier()

    def on_rank0(self, work: Callable[[], object]) -> None:
        """Process 0 does this, the others wait; where it meets a user's mistake, all raise the same InputError."""
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
        """Whether one of the processes says so."""
        return any(self.all_gather_object([flag]))

    @_tells_lost_process
    def all_gather_object(self, items: list[T]) -> list[T]:
        """The items of all processes, plain data, in order of rank."""
        if self.size == 1:
            return items
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    @_tells_lost_process
    def all_gather(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor [M,*] between those of the other processes, [ΣM,*] in order of rank; all are of one dtype.

        Only this process's own part has a gradient.
        """
        # One message for all tensors: many small ones would be waited for one by one.
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        shapes = self.all_gather_object([[tuple(tensor.shape) for tensor in tensors]])
        sizes = [[math.prod(shape) for shape in part] for part in shapes]
        longest = max(map(sum, sizes))
        buffers = [flat.new_empty(longest) for _ in range(self.size)]
        dist.all_gather(buffers, F.pad(flat, (0, longest - len(flat))))
        parts = [
            [piece.reshape(shape) for piece, shape in zip(buffer[: sum(size)].split(size), part, strict=True)]
            for buffer, size, part in zip(buffers, sizes, shapes, strict=True)
        ]
        parts[self.rank] = list(tensors)
        return [torch.cat(values) for values in zip(*parts, strict=True)]

    @_tells_lost_process
    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their sums over the processes, the same bits in each."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def device(self, device: torch.device) -> torch.device:
        """The GPU of this process: its local rank, where `device` names no particular one."""
        if device.type == "cuda" and device.index is None and self.size > 1:
            return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        return device


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


SINGLE_PROCESS = Context()
