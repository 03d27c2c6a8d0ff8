"""Tracking by flow alone, the baselines to beat: by the direct flow from the query frame, or along chained flow.

Both call a point hidden whose way there and back misses (cycle check) or that is outside the image.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from loaders.flow_store import FlowStore
from utils.coords import is_inside_image, sample_bilinear

# A point whose way there and back misses by more is called occluded: the threshold of the preprocessing filter.
CYCLE_THRESHOLD = 3.0  # pixels
MEMORY = 2**29  # bytes of flows kept


class FlowTracker(ABC):
    """A `evaluation.queries.Tracker` by the flows of a store: query points [N,3] (t, x, y) → tracks, occluded."""

    def __init__(self, store: FlowStore, height: int, width: int):
        self.store, self.height, self.width = store, height, width
        self._flow = lru_cache(max(4, MEMORY // (8 * height * width)))(self._read_flow)

    def __call__(self, query_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tracks [N,T,2] in pixels and occluded [N,T]."""
        tracks = np.zeros((len(query_points), len(self.store.names), 2), np.float32)
        occluded = np.zeros(tracks.shape[:2], bool)
        for i in np.unique(query_points[:, 0].astype(int)):
            rows = np.flatnonzero(query_points[:, 0].astype(int) == i)
            px = torch.from_numpy(query_points[rows, 1:]).float()
            tracks[rows, i] = px.numpy()
            for j, there, lost in self._follow(int(i), px):
                tracks[rows, j] = there.numpy()
                occluded[rows, j] = (lost | ~is_inside_image(there, self.height, self.width)).numpy()
        return tracks, occluded

    @abstractmethod
    def _follow(self, i: int, px: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For every other frame j: j, the points px [N,2] of frame i there, which were lost on the way [N]."""

    def _step(self, i: int, j: int, px: Tensor) -> tuple[Tensor, Tensor]:
        """Points px [N,2] of frame i in frame j by one flow, and which do not come back."""
        there = px + sample_bilinear(self._flow(i, j), px.unsqueeze(0))[0]
        back = there + sample_bilinear(self._flow(j, i), there.unsqueeze(0))[0]
        return there, (back - px).norm(dim=-1) > CYCLE_THRESHOLD

    def _read_flow(self, i: int, j: int) -> Tensor:
        return torch.from_numpy(self.store.flow(i, j)).unsqueeze(0)


class DirectFlowTracker(FlowTracker):
    """Each frame by one flow from the query frame, or by the fewest where that pair has none (`--pairs sparse`)."""

    def _follow(self, i: int, px: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        for j in (j for j in range(len(self.store.names)) if j != i):
            there, lost = px, torch.zeros(len(px), dtype=torch.bool)
            for hop in self._hops(i, j):
                there, missed = self._step(*hop, there)
                lost |= missed
            yield j, there, lost

    def _hops(self, i: int, j: int) -> list[tuple[int, int]]:
        """From frame i to j by pairs that have flow, the longest first; neighbours always have."""
        hops = []
        while i != j:
            way = range(j, i, 1 if j < i else -1)  # the farthest first
            reached = next(k for k in way if self.store.known[i, k])
            hops.append((i, reached))
            i = reached
        return hops


class ChainedFlowTracker(FlowTracker):
    """The adjacent flows one after the other, from the query frame outwards; what is lost once stays lost."""

    def _follow(self, i: int, px: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        for targets in (range(i + 1, len(self.store.names)), range(i - 1, -1, -1)):
            previous, there, lost = i, px, torch.zeros(len(px), dtype=torch.bool)
            for j in targets:
                there, missed = self._step(previous, j, there)
                lost = lost | missed
                previous = j
                yield j, there, lost
