"""From the host to a device."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
