"""One of several processes that share a job: `torchrun --nproc_per_node=N …`, on one host or many."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from utils.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Process `rank` of `size`; alone unless started by torchrun."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> "Shard":
        """Join the processes that torchrun started (gloo: only barriers pass between them)."""
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=timedelta(days=7))  # the others wait for the slowest
        return cls(dist.get_rank(), dist.get_world_size())

    def of(self, items: Sequence[T]) -> list[T]:
        """This process's part of a list that is the same in all."""
        return list(items[self.rank :: self.size])

    def wait(self) -> None:
        """Until all processes are here: what one wrote before, all can read after."""
        if self.size > 1:
            dist.barrier()

    def first(self, work: Callable[[], object]) -> None:
        """Process 0 does this, the others wait; where it meets a user's mistake, all raise the same InputError."""
        problem: list[str | None] = [None]
        if self.rank == 0:
            try:
                work()
            except InputError as error:
                problem = [str(error)]
        if self.size > 1:
            dist.broadcast_object_list(problem, src=0)
        if problem[0] is not None:
            raise InputError(problem[0])

    def device(self, device: torch.device) -> torch.device:
        """The GPU of this process: its local rank, where `device` names no particular one."""
        if device.type == "cuda" and device.index is None and self.size > 1:
            return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        return device
