"""Tracking by flow alone: each frame reached from the query frame by one direct flow. The baseline to beat."""

from functools import lru_cache

import numpy as np
import torch

from loaders.flow_store import FlowStore
from utils.coords import inside_image, sample_bilinear

# A point whose way there and back misses by more is called occluded: the threshold of the preprocessing filter.
CYCLE_THRESHOLD = 3.0  # pixels


class FlowTracker:
    """Callable for `utils.tap_metrics.evaluate_tracker`: query points [N,3] (t, x, y) → tracks, occluded."""

    def __init__(self, store: FlowStore, height: int, width: int):
        self.store, self.height, self.width = store, height, width
        self._flow = lru_cache(maxsize=4 * len(store.names))(self._read_flow)

    def __call__(self, query_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tracks [N,T,2] in pixels and occluded [N,T]."""
        num_frames = len(self.store.names)
        tracks = np.zeros((len(query_points), num_frames, 2), np.float32)
        occluded = np.zeros((len(query_points), num_frames), bool)
        for i in np.unique(query_points[:, 0].astype(int)):
            rows = np.flatnonzero(query_points[:, 0].astype(int) == i)
            px = torch.from_numpy(query_points[rows, 1:]).float()
            for j in range(num_frames):
                there, hidden = (px, torch.zeros(len(px), dtype=torch.bool)) if i == j else self._step(i, j, px)
                tracks[rows, j], occluded[rows, j] = there.numpy(), hidden.numpy()
        return tracks, occluded

    def _step(self, i: int, j: int, px: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        there = px + sample_bilinear(self._flow(i, j), px.unsqueeze(0))[0]
        back = there + sample_bilinear(self._flow(j, i), there.unsqueeze(0))[0]
        misses = (back - px).norm(dim=-1) > CYCLE_THRESHOLD
        return there, misses | ~inside_image(there, self.height, self.width)

    def _read_flow(self, i: int, j: int) -> torch.Tensor:
        return torch.from_numpy(self.store.flow(i, j)).unsqueeze(0)
