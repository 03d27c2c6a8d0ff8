"""Fourier features of NeRF (Mildenhall et al., 2020), frequencies π·2^k."""

import math

import torch
from torch import Tensor


def fourier_features(x: Tensor, num_freqs: int) -> Tensor:
    """sin(π·2^k·x) and cos(π·2^k·x) for k = 0 … num_freqs−1.

    Args:
        x: [*,D].
        num_freqs: number of octaves F.

    Returns:
        [*,D,2,F]; index 0 of the axis of size two holds the sines, index 1 the cosines.
    """
    angles = x.unsqueeze(-1) * (math.pi * 2.0 ** torch.arange(num_freqs, device=x.device))
    return torch.stack([angles.sin(), angles.cos()], -2)
