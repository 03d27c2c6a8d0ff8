"""Feature planes: learned features in grids, looked up bilinearly, so that a narrow network suffices.

K-Planes (Fridovich-Keil et al., CVPR 2023) and EG3D (Chan et al., CVPR 2022) represent volumes this way. Coupling nets
read planes as well, as local features are read in "Track Everything Everywhere Fast and Robustly" (Song et al., ECCV
2024).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLANE_EXTENT = 1.1  # the warp's planes cover [−1.1, 1.1]: maps carry points a little out of the image
# Std of the initial features: small for motion, so that the initial warp is near identity.
MOTION_STD, VOLUME_STD = 0.01, 0.1


class SpaceTimePlanes(nn.Module):
    """A plane of features for every frame: a uniform cubic B-spline over time of planes every `interval` frames.

    Planes farther apart than frames make the motion of neighbouring frames similar; with a plane for each frame,
    distant frames drift apart. Linear interpolation instead of the spline would give tracks corners at the planes.

    Args:
        num_frames: Number N of frames.
        interval: Frames between two stored planes.
        channels: Number C of features.
        rows: Cells along the second coordinate.
        columns: Cells along the first coordinate.
    """

    def __init__(self, num_frames: int, interval: int, channels: int, rows: int, columns: int):
        super().__init__()
        self.num_frames, self.channels = num_frames, channels
        num_segments = max(1, -(-(num_frames - 1) // interval))
        self.features = nn.Parameter(MOTION_STD * torch.randn(num_segments + 3, channels, rows, columns))

    def weights_at(self, time: Tensor) -> Tensor:
        """Return the spline's weights [P,S] of the S stored planes at time codes [P], alike for all of this size."""
        num_segments = len(self.features) - 3
        done = (time * self.num_frames - 1) / max(self.num_frames - 1, 1)
        position = done.clamp(0, 1) * num_segments
        segment = position.floor().long().clamp(max=num_segments - 1)
        index = segment.unsqueeze(-1) + torch.arange(4, device=segment.device)
        weights = position.new_zeros(len(position), len(self.features))
        return weights.scatter(1, index, cubic_b_spline(position - segment))

    def interpolate(self, weights: Tensor) -> Tensor:
        """Return the planes [P,C,rows,columns] of frames given by `weights_at` [P,S] their times."""
        # One product with mostly zero weights: gathering four planes for every frame takes
        # longer, above all backwards, in clips of up to some 500 frames.
        return (weights @ self.features.flatten(1)).unflatten(1, self.features.shape[1:])


def cubic_b_spline(u: Tensor) -> Tensor:
    """Return the weights [*,4] of a segment's four control values at u [*] in [0, 1] along the segment."""
    v = 1 - u
    return torch.stack([v**3, 4 - 6 * u**2 + 3 * u**3, 4 - 6 * v**2 + 3 * v**3, u**3], -1) / 6


def sample_planes(planes: Tensor, points: Tensor) -> Tensor:
    """Look up planes bilinearly; outside, the border is repeated.

    Args:
        planes: [P,C,h,w].
        points: [P,M,2] (column, row), −1 and 1 at the centres of the border cells.

    Returns:
        Features [P,M,C].
    """
    found = F.grid_sample(planes, points.unsqueeze(2), align_corners=True, padding_mode="border")
    return found.squeeze(-1).mT


class TriPlane(nn.Module):
    """Three planes, over (x, y), (x, z) and (y, z)."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.features = nn.Parameter(VOLUME_STD * torch.randn(3, channels, size, size))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [M,3C] of points [M,3] in [−1, 1]."""
        a, b, c = x.unbind(-1)
        points = torch.stack([torch.stack(pair, -1) for pair in ((a, b), (a, c), (b, c))])
        return sample_planes(self.features, points).transpose(0, 1).flatten(1)
