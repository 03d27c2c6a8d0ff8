"""Training batches: pairs of frames with corresponding points.

A batch is a pure function of (seed, rank, step): datasets are indexed by step and draw from a generator seeded with all
three. So a batch depends neither on the number of worker processes nor on a resume.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from loaders.clip import colors_at
from loaders.pair_sampling import cycled_frames, max_frame_gap
from utils.device import to_device


@dataclass(frozen=True)
class Batch:
    """P pairs of frames with N corresponding points each."""

    src_ids: Tensor  # [P] int64
    tgt_ids: Tensor  # [P] int64
    src_px: Tensor  # [P,N,2] float32 pixels
    tgt_px: Tensor  # [P,N,2]
    src_rgb: Tensor  # [P,N,3] colours in [0,1]
    weights: Tensor  # [P,N] of the flow losses

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all fields in order."""
        return tuple(getattr(self, f.name) for f in fields(self))

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(*(to_device(value, device) for value in self.tensors()))

    def pairs(self, start: int, stop: int) -> "Batch":
        """Return the batch of the pairs `start` to `stop` − 1."""
        return Batch(*(value[start:stop] for value in self.tensors()))


@dataclass(frozen=True)
class SamplingConfig:
    """How batches are drawn.

    Args:
        num_pairs: Pairs of frames per batch, P.
        num_pts: Points per pair, N.
        start_interval: Largest frame gap at step 0, see `max_frame_gap`.
        use_count_map: Draw pixels with few correspondences more often.
        seed: Seed of all draws.
        schedule_scale: Length of the run over the released 100,000 steps.
        motion_share: Smallest share of the pixel weights for independently moving pixels.
        rank: Rank of this process.
        world_size: Number of processes that train together.
    """

    num_pairs: int
    num_pts: int
    start_interval: int
    use_count_map: bool
    seed: int
    schedule_scale: float = 1.0
    motion_share: float = 0.0
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class Correspondences:
    """N points of a frame i, their positions in a partner frame j, and their weights in the flow losses."""

    partner: int
    px: Tensor  # [N,2] float32 pixels of i
    partner_px: Tensor  # [N,2] float32 pixels of j
    weights: Tensor  # [N] float32 of the pair i→j
    weights_back: Tensor  # [N] float32 of the reversed pair j→i


class PairBatches(ABC):
    """Batches indexed by step; a subclass draws the corresponding points of a pair.

    Args:
        video: Frames uint8 [T,H,W,3].
        config: How batches are drawn.
        frame_probabilities: P(i) [T] of a pair's first frame; None draws all equally often, in shuffled cycles.
    """

    def __init__(self, video: np.ndarray, config: SamplingConfig, frame_probabilities: np.ndarray | None = None):
        self.video, self.config, self.frame_probabilities = video, config, frame_probabilities

    def __getitem__(self, step: int) -> Batch:
        config, num_frames = self.config, len(self.video)
        rng = np.random.default_rng([config.seed, config.rank, step])
        max_gap = max_frame_gap(step, config.start_interval, num_frames, config.schedule_scale)
        if self.frame_probabilities is None:
            first = (step * config.world_size + config.rank) * config.num_pairs
            frames = cycled_frames(first, config.num_pairs, num_frames, config.seed)
        else:
            frames = rng.choice(num_frames, config.num_pairs, p=self.frame_probabilities)
        pairs = [self._draw_pair(int(i), max_gap, rng) for i in frames]
        return Batch(*(torch.stack(values) for values in zip(*pairs, strict=True)))

    @abstractmethod
    def draw_correspondences(self, i: int, max_gap: int, rng: np.random.Generator) -> Correspondences:
        """Draw a partner of frame i, at most `max_gap` frames away, and corresponding points of both."""

    def colors(self, frame: int, px: Tensor) -> Tensor:
        """Return the bilinear colours [N,3] in [0,1] of a frame at pixels [N,2]."""
        return torch.from_numpy(colors_at(self.video[frame], px.numpy()))

    def _draw_pair(self, i: int, max_gap: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Draw one pair of frame i and a partner, in either direction, as the fields of a `Batch`."""
        drawn = self.draw_correspondences(i, max_gap, rng)
        src, tgt, src_px, tgt_px, weights = i, drawn.partner, drawn.px, drawn.partner_px, drawn.weights
        if rng.random() < 0.5:
            src, tgt, src_px, tgt_px, weights = tgt, src, tgt_px, src_px, drawn.weights_back
        return torch.tensor(src), torch.tensor(tgt), src_px, tgt_px, self.colors(src, src_px), weights


class MixedBatches(PairBatches):
    """Batches in which each pair comes from one of several datasets.

    Args:
        parts: Datasets of one clip; the first frames of pairs are drawn as in the first dataset.
        part_weights: Relative frequency of each.
    """

    def __init__(self, parts: list[PairBatches], part_weights: list[float]):
        super().__init__(parts[0].video, parts[0].config, parts[0].frame_probabilities)
        self.parts, self.probabilities = parts, np.array(part_weights) / np.sum(part_weights)

    def draw_correspondences(self, i: int, max_gap: int, rng: np.random.Generator) -> Correspondences:
        """Draw one of the datasets, then correspondences from it."""
        part = self.parts[rng.choice(len(self.parts), p=self.probabilities)]
        return part.draw_correspondences(i, max_gap, rng)
