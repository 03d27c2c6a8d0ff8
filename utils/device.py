"""Choose a device, and move tensors to it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from utils.errors import InputError


def pick_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is cuda if there is a GPU, else mps, else cpu.

    As a side effect, a CPU then flushes numbers below 1e-38 to 0. A trained model has many of them, in the Gaussians of
    the code net and in transmittances behind surfaces, and a CPU computes many times slower with them. Threads inherit
    the setting when they start, so call this before the first computation.

    Args:
        name: `auto`, `cpu`, `mps`, `cuda` or `cuda:<index>`.

    Raises:
        InputError: This machine, or this build of PyTorch, has no such device.
    """
    torch.set_flush_denormal(True)
    available = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    kinds = [kind for kind, count in available.items() if count]
    if name == "auto":
        return torch.device(kinds[0])
    if name not in kinds and name not in {f"{kind}:{i}" for kind, count in available.items() for i in range(count)}:
        raise InputError(
            f"--device {name}: not available here (found: {', '.join(kinds)}); choose one of these or `auto`"
        )
    return torch.device(name)


def pinned_for(value: Tensor, device: torch.device) -> Tensor:
    """Return `value` in pinned memory, from which alone a GPU copies asynchronously, if it must be copied to one."""
    return value.pin_memory() if device.type == "cuda" and value.device.type == "cpu" else value


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """Return `value` on a device, without waiting for a GPU's pending work."""
    return pinned_for(value, device).to(device, non_blocking=True)


def to_numpy(value: Tensor) -> np.ndarray:
    """Return `value` as an array in the CPU's memory, in pinned memory if it comes from a GPU: copied much faster."""
    if value.device.type != "cuda":
        return value.cpu().numpy()
    copied = value.to("cpu", non_blocking=True)  # into pinned memory
    torch.cuda.current_stream(value.device).synchronize()
    return copied.numpy()


def index_on(rows: Sequence[int], device: torch.device) -> Tensor:
    """Return `rows` as an index tensor on a device, int64 [M]."""
    return to_device(torch.tensor(rows, dtype=torch.long), device)
