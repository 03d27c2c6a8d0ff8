"""Tracking by flow alone: each frame reached from the query frame by one direct flow, or by the fewest that there are.

The baseline to beat.
"""

from functools import lru_cache

import numpy as np
import torch

from loaders.flow_store import FlowStore
from utils.coords import inside_image, sample_bilinear

# A point whose way there and back misses by more is called occluded: the threshold of the preprocessing filter.
CYCLE_THRESHOLD = 3.0  # pixels
MEMORY = 2**29  # bytes of flows kept


class FlowTracker:
    """Callable for `utils.tap_metrics.evaluate_tracker`: query points [N,3] (t, x, y) → tracks, occluded."""

    def __init__(self, store: FlowStore, height: int, width: int):
        self.store, self.height, self.width = store, height, width
        self._flow = lru_cache(max(4, MEMORY // (8 * height * width)))(self._read_flow)

    def __call__(self, query_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tracks [N,T,2] in pixels and occluded [N,T]."""
        num_frames = len(self.store.names)
        tracks = np.zeros((len(query_points), num_frames, 2), np.float32)
        occluded = np.zeros((len(query_points), num_frames), bool)
        for i in np.unique(query_points[:, 0].astype(int)):
            rows = np.flatnonzero(query_points[:, 0].astype(int) == i)
            px = torch.from_numpy(query_points[rows, 1:]).float()
            for j in range(num_frames):
                there, hidden = self._follow(i, j, px)
                tracks[rows, j], occluded[rows, j] = there.numpy(), hidden.numpy()
        return tracks, occluded

    def _follow(self, i: int, j: int, px: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points px [N,2] of frame i in frame j, and which are hidden or lost on the way."""
        hidden = torch.zeros(len(px), dtype=torch.bool)
        for a, b in self._hops(i, j):
            there = px + sample_bilinear(self._flow(a, b), px.unsqueeze(0))[0]
            back = there + sample_bilinear(self._flow(b, a), there.unsqueeze(0))[0]
            hidden |= (back - px).norm(dim=-1) > CYCLE_THRESHOLD
            px = there
        return px, hidden | ~inside_image(px, self.height, self.width)

    def _hops(self, i: int, j: int) -> list[tuple[int, int]]:
        """From frame i to j by pairs that have flow, the longest first; neighbours always have."""
        hops = []
        while i != j:
            way = range(j, i, 1 if j < i else -1)  # the farthest first
            reached = next(k for k in way if self.store.known[i, k])
            hops.append((i, reached))
            i = reached
        return hops

    def _read_flow(self, i: int, j: int) -> torch.Tensor:
        return torch.from_numpy(self.store.flow(i, j)).unsqueeze(0)
