"""Baselines that track only by flow: the direct flow from the query frame, or chained adjacent flows.

Both mark a point as occluded if its forward-backward cycle does not close or if it leaves the image.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from loaders.flow_store import FlowStore
from preprocessing.consistency import CYCLE_THRESHOLD
from utils.coords import is_inside_image, sample_bilinear

CACHE_BYTES = 2**29  # of cached flow


class FlowTracker(ABC):
    """An `evaluation.queries.Tracker` that follows the flows of a store."""

    def __init__(self, store: FlowStore, height: int, width: int):
        self.store, self.height, self.width = store, height, width
        self._flow = lru_cache(max(4, CACHE_BYTES // (8 * height * width)))(self._read_flow)

    def __call__(self, query_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Track query points [N,3] (t, x, y): positions [N,T,2] in pixels and occluded [N,T]."""
        tracks = np.zeros((len(query_points), len(self.store.names), 2), np.float32)
        occluded = np.zeros(tracks.shape[:2], bool)
        query_frames = query_points[:, 0].astype(int)
        for src_id in np.unique(query_frames).tolist():
            rows = np.flatnonzero(query_frames == src_id)
            src_px = torch.from_numpy(query_points[rows, 1:]).float()
            tracks[rows, src_id] = src_px.numpy()
            for tgt_id, tgt_px, lost in self._follow(src_id, src_px):
                tracks[rows, tgt_id] = tgt_px.numpy()
                occluded[rows, tgt_id] = (lost | ~is_inside_image(tgt_px, self.height, self.width)).numpy()
        return tracks, occluded

    @abstractmethod
    def _follow(self, src_id: int, src_px: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield for every other frame its id, the positions [N,2] of the points in it, and which are lost, bool [N]."""

    def _step(self, i: int, j: int, px: Tensor) -> tuple[Tensor, Tensor]:
        """Map points [N,2] of frame i to frame j by one flow; return them and which cycles do not close, bool [N]."""
        landed = px + sample_bilinear(self._flow(i, j), px.unsqueeze(0))[0]
        returned = landed + sample_bilinear(self._flow(j, i), landed.unsqueeze(0))[0]
        return landed, (returned - px).norm(dim=-1) > CYCLE_THRESHOLD

    def _read_flow(self, i: int, j: int) -> Tensor:
        return torch.from_numpy(self.store.flow(i, j)).unsqueeze(0)


class DirectFlowTracker(FlowTracker):
    """Tracker along one flow from the query frame to each frame, or as few as possible if the pair has none."""

    def _follow(self, src_id: int, src_px: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        for tgt_id in range(len(self.store.names)):
            if tgt_id == src_id:
                continue
            px, lost = src_px, torch.zeros(len(src_px), dtype=torch.bool)
            for hop in self._hops(src_id, tgt_id):
                px, missed = self._step(*hop, px)
                lost |= missed
            yield tgt_id, px, lost

    def _hops(self, i: int, j: int) -> list[tuple[int, int]]:
        """Return the pairs with flow that lead from frame i to j, each as long as possible; neighbours have flow."""
        hops = []
        while i != j:
            farthest_first = range(j, i, 1 if j < i else -1)
            reached = next(k for k in farthest_first if self.store.known[i, k])
            hops.append((i, reached))
            i = reached
        return hops


class ChainedFlowTracker(FlowTracker):
    """Tracker along adjacent flows from the query frame outwards; a point once lost stays lost."""

    def _follow(self, src_id: int, src_px: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        for tgt_ids in (range(src_id + 1, len(self.store.names)), range(src_id - 1, -1, -1)):
            previous, px, lost = src_id, src_px, torch.zeros(len(src_px), dtype=torch.bool)
            for tgt_id in tgt_ids:
                px, missed = self._step(previous, tgt_id, px)
                lost = lost | missed
                previous = tgt_id
                yield tgt_id, px, lost
