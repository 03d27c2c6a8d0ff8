"""Fourier features of NeRF (Mildenhall et al., 2020), frequencies π·2^k, and points as single coordinates."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def fourier_features(x: Tensor, num_freqs: int) -> Tensor:
    """Return sin(π·2^k·x) and cos(π·2^k·x) for k = 0 … num_freqs−1.

    Args:
        x: [*,D].
        num_freqs: Number of octaves F.

    Returns:
        [*,D,2,F]; index 0 of the axis of size two holds the sines, index 1 the cosines.
    """
    angles = x.unsqueeze(-1) * (math.pi * 2.0 ** torch.arange(num_freqs, device=x.device, dtype=x.dtype))
    return torch.stack([angles.sin(), angles.cos()], -2)


@dataclass
class Coordinate:
    """One coordinate [*,1] of many points; its features are computed once for all layers that read it."""

    value: Tensor
    num_freqs: int

    @cached_property
    def fourier(self) -> Tensor:
        """Fourier features [*,2F]: sines, then cosines."""
        return fourier_features(self.value, self.num_freqs).flatten(-3)


def split_coordinates(x: Tensor, num_freqs: int) -> list[Coordinate]:
    """Return the D coordinates of points [*,D]."""
    return [Coordinate(value, num_freqs) for value in x.split(1, -1)]


def join_coordinates(coordinates: list[Coordinate]) -> Tensor:
    """Return the points [*,D] of D coordinates."""
    return torch.cat([coordinate.value for coordinate in coordinates], -1)
