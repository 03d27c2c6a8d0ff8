"""Feature planes: learned features in grids, looked up bilinearly, so that a narrow network has little left to compute.

K-Planes (Fridovich-Keil et al., CVPR 2023) and EG3D (Chan et al., CVPR 2022) describe volumes so. Coupling nets read
them here, too, as local features are read in "Track Everything Everywhere Fast and Robustly" (Song et al., ECCV 2024).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 1.1  # planes of the warp cover [−1.1, 1.1]: what maps carry a little outside is still told apart
# Of the first features. The volume starts with some structure, motion with next to none.
MOTION_SPREAD, VOLUME_SPREAD = 0.01, 0.1


class SpaceTimePlanes(nn.Module):
    """Planes over two coordinates at moments `interval` frames apart; a frame's plane is a cubic B-spline of them.

    Moments farther apart than frames make motion alike in neighbouring frames: with a plane for each frame, far ones
    drift apart. The spline makes it smooth: along straight pieces, tracks have corners at the moments.
    """

    def __init__(self, num_frames: int, interval: int, channels: int, rows: int, columns: int):
        super().__init__()
        self.num_frames, self.channels = num_frames, channels
        pieces = max(1, -(-(num_frames - 1) // interval))
        self.features = nn.Parameter(MOTION_SPREAD * torch.randn(pieces + 3, channels, rows, columns))

    def at(self, time: Tensor) -> Tensor:
        """The planes [P,C,rows,columns] of frames given by their time codes [P]."""
        pieces = len(self.features) - 3
        share = (time * self.num_frames - 1) / max(self.num_frames - 1, 1)
        place = share.clamp(0, 1) * pieces
        first = place.floor().long().clamp(max=pieces - 1)
        near = self.features[first.unsqueeze(-1) + torch.arange(4, device=first.device)]
        return torch.einsum("pk,pkcyx->pcyx", cubic_b_spline(place - first), near)


def cubic_b_spline(u: Tensor) -> Tensor:
    """Weights [*,4] of the four controls of a piece of a uniform cubic B-spline, u [*] in [0, 1] along the piece."""
    v = 1 - u
    return torch.stack([v**3, 4 - 6 * u**2 + 3 * u**3, 4 - 6 * v**2 + 3 * v**3, u**3], -1) / 6


def look_up(planes: Tensor, where: Tensor) -> Tensor:
    """Features [P,M,C] of planes [P,C,h,w] at points [P,M,2] (column, row), −1 and 1 at the centres of border cells."""
    found = F.grid_sample(planes, where.unsqueeze(2), align_corners=True, padding_mode="border")
    return found.squeeze(-1).mT


class TriPlane(nn.Module):
    """Three planes, one for each two coordinates of space: [M,3] in [−1, 1] → features [M,3C]."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.features = nn.Parameter(VOLUME_SPREAD * torch.randn(3, channels, size, size))

    def forward(self, x: Tensor) -> Tensor:
        where = torch.stack([x[:, [0, 1]], x[:, [0, 2]], x[:, [1, 2]]])
        return look_up(self.features, where).transpose(0, 1).flatten(1)
