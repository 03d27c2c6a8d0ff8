"""Devices are chosen by name, and computation on a CPU treats tiny numbers as 0."""

import pytest
import torch

from utils.device import pick_device
from utils.errors import InputError


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cuda", "mps", "cpu"}
    with pytest.raises(InputError, match="tpu"):
        pick_device("tpu")


def test_picking_a_device_makes_tiny_numbers_zero():
    pick_device("cpu")
    assert (torch.full((8,), 2e-38) * 0.25 == 0).all() and (torch.full((8,), 2e-38) > 0).all()
