"""Tracks of points through a clip, and the options of tracking."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from utils.coords import is_inside_image

CHUNK_SIZE = 10000  # points computed at a time unless given


@dataclass(frozen=True)
class TrackingOptions:
    """How points are tracked.

    Attributes:
        use_max_loc: Map the sample with the largest weight of each ray; False: composite all mapped samples.
        chunk_size: Points computed at a time.
        occlusion_th: Score above which a point is occluded.
    """

    use_max_loc: bool = True
    chunk_size: int = CHUNK_SIZE
    occlusion_th: float = 0.99


@dataclass(frozen=True)
class Tracks:
    """Positions of N points in T frames."""

    px: Tensor  # [T,N,2] pixels
    depth: Tensor  # [T,N], small = near
    occlusion: Tensor  # [T,N] score in [0,1], 1 = occluded

    @classmethod
    def joined(cls, pieces: Sequence["Tracks"]) -> "Tracks":
        """Join tracks in the same frames along the points."""
        return cls(*(torch.cat([getattr(piece, f.name) for piece in pieces], 1) for f in fields(cls)))

    def occluded(self, threshold: float, height: int, width: int) -> Tensor:
        """Return bool [T,N]: the score is above the threshold, or the point is outside the image."""
        return (self.occlusion > threshold) | ~is_inside_image(self.px, height, width)
