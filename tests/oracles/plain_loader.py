"""The plain way to draw a batch: whole flows and masks are unpacked, each valid pixel gets a key, frames are converted.

The baseline of `benchmarks/loader.py`, and an oracle: where few pixels are valid, both draw the same.
"""

import math

import numpy as np
import torch
from torch import Tensor

from loaders.batches import SamplingConfig
from loaders.flow_batches import FlowBatches
from loaders.flow_store import FlowStore
from loaders.pair_sampling import choose_pixels
from utils.coords import sample_bilinear


class PlainBatches(FlowBatches):
    """`FlowBatches` that work on whole frames."""

    def __init__(
        self,
        video: np.ndarray,
        store: FlowStore,
        config: SamplingConfig,
        error_maps: np.ndarray | None = None,
    ):
        super().__init__(video, store, config, error_maps)
        shape = video.shape[:3]
        self.pixel_weights = np.diff(self.cumulative_weights, prepend=0.0).reshape(shape)
        self.error_maps = error_maps

    def _draw_pair(self, i: int, max_gap: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        j = int(rng.choice(len(self.video), p=self._partner_probabilities(i, max_gap)))
        mask = self.store.mask(i, j)
        valid = np.ones_like(mask.consistent) if abs(i - j) == 1 else mask.consistent | mask.rescued
        num_pts, first = self.config.num_pts, self.pixel_weights[i]
        if self.error_maps is None:
            index = choose_pixels(valid, first, num_pts, rng)
        else:
            halves = (first, num_pts // 2), (np.ones(valid.shape), num_pts - num_pts // 2)
            index = np.concatenate([choose_pixels(valid, weights, count, rng) for weights, count in halves])
        y, x = np.unravel_index(index, valid.shape)
        px = np.stack([x, y], -1).astype(np.float32)
        src, tgt, src_px, tgt_px = i, j, px, px + self.store.flow(i, j)[y, x]
        weights = np.full(num_pts, math.cos((abs(i - j) - 1) / max_gap * math.pi / 2), np.float32)
        if rng.random() < 0.5:
            src, tgt, src_px, tgt_px, weights = tgt, src, tgt_px, src_px, weights * mask.consistent[y, x]
        frame = torch.from_numpy(self.video[src]).float().unsqueeze(0) / 255
        rgb = sample_bilinear(frame, torch.from_numpy(src_px).unsqueeze(0))[0]
        values = torch.from_numpy(src_px), torch.from_numpy(tgt_px), rgb, torch.from_numpy(weights)
        return torch.tensor(src), torch.tensor(tgt), *values

    def _partner_probabilities(self, i: int, max_gap: int) -> np.ndarray:
        num_frames = len(self.video)
        counts = [self.store.valid_counts[i, j] if 1 <= abs(i - j) <= max_gap else 0 for j in range(num_frames)]
        weights = [0.5 if abs(i - j) == 1 else count / max(sum(counts), 1) for j, count in enumerate(counts)]
        return np.array(weights) / sum(weights)
