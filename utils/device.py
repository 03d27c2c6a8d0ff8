"""Choosing a device, and moving tensors to it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from utils.errors import InputError


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """`value` on a device; the host does not wait for what a GPU still computes.

    A GPU copies without that wait from pinned memory alone.
    """
    if device.type == "cuda" and value.device.type == "cpu":
        value = value.pin_memory()
    return value.to(device, non_blocking=True)


def index_on(rows: Sequence[int], device: torch.device) -> Tensor:
    """Rows [M] to pick from a tensor on a device, int64."""
    return to_device(torch.tensor(rows, dtype=torch.long), device)


def pick_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, else mps, else cpu.

    On a CPU, numbers below 1e-38 become 0 from here on. The Gaussians of the code net and the transmittance behind a
    surface are full of them once a model is trained, and a CPU takes many times as long over each. Threads inherit
    this, so it comes before the first computation.

    Raises:
        InputError: a device that this machine or this PyTorch does not have.
    """
    torch.set_flush_denormal(True)
    available = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        return torch.device(next(kind for kind, count in available.items() if count))
    numbered = {f"{kind}:{i}" for kind, count in available.items() for i in range(count)}
    if name not in numbered | {kind for kind, count in available.items() if count}:
        found = ", ".join(kind for kind, count in available.items() if count)
        raise InputError(f"--device {name}: not available here (found: {found}); choose one of these or `auto`")
    return torch.device(name)
