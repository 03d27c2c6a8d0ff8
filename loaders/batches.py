"""Training batches from flow: a batch is a pure function of (seed, step, rank).

Neither the number of workers nor a resume changes what is drawn: the dataset is indexed by step, and all it draws
comes from a generator seeded by (seed, rank, step).
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from loaders.flow_store import FlowStore
from loaders.pair_sampling import choose_pixels, cycled_frames, pair_weight, partner_probabilities
from utils.coords import sample_bilinear
from utils.schedules import max_frame_gap


@dataclass(frozen=True)
class Batch:
    """P pairs of frames with N corresponding points each."""

    src_ids: Tensor  # [P] int64
    tgt_ids: Tensor  # [P] int64
    src_px: Tensor  # [P,N,2] float32 pixels
    tgt_px: Tensor  # [P,N,2]
    src_rgb: Tensor  # [P,N,3] colours in [0,1]
    weights: Tensor  # [P,N] of the flow losses

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def pair(self, p: int) -> "Batch":
        """A batch of pair `p` alone."""
        return Batch(*(getattr(self, f.name)[p : p + 1] for f in fields(self)))


@dataclass(frozen=True)
class SamplingConfig:
    """How batches are drawn; meanings as of the command-line flags of the same names."""

    num_pairs: int
    num_pts: int
    start_interval: int
    use_count_map: bool
    seed: int
    schedule_scale: float = 1.0
    rank: int = 0
    world_size: int = 1


class FlowBatches(Dataset):
    """Item `step` is the batch of that step.

    Args:
        video: uint8 [T,H,W,3].
        store: the flow products of its frames.
        config: see `SamplingConfig`.
        error_maps: flow errors [T,H,W] in pixels, > 0; None before the first set.
    """

    def __init__(
        self,
        video: np.ndarray,
        store: FlowStore,
        config: SamplingConfig,
        error_maps: np.ndarray | None = None,
    ):
        self.video, self.store, self.config, self.error_maps = video, store, config, error_maps
        self.pixel_weights = [self._pixel_weights(i) for i in range(len(video))]

    def __getitem__(self, step: int) -> Batch:
        config, num_frames = self.config, len(self.video)
        rng = np.random.default_rng([config.seed, config.rank, step])
        max_gap = max_frame_gap(step, config.start_interval, num_frames, config.schedule_scale)
        if self.error_maps is None:
            first = (step * config.world_size + config.rank) * config.num_pairs
            frames = cycled_frames(first, config.num_pairs, num_frames, config.seed)
        else:
            mean_errors = self.error_maps.mean((1, 2))
            frames = rng.choice(num_frames, config.num_pairs, p=mean_errors / mean_errors.sum())
        pairs = [self._pair(int(i), max_gap, rng) for i in frames]
        return Batch(*(torch.stack(values) for values in zip(*pairs, strict=True)))

    def _pair(self, i: int, max_gap: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """The fields of a `Batch` for one pair of frames that starts or ends in frame i."""
        j = int(rng.choice(len(self.video), p=partner_probabilities(i, self.store.valid_counts, max_gap)))
        mask = self.store.mask(i, j)
        # Adjacent flow is believed everywhere: without it a pixel that is never valid would have no motion at all.
        valid = np.ones_like(mask.consistent) if abs(i - j) == 1 else mask.consistent | mask.rescued
        weight = pair_weight(abs(i - j), max_gap) if valid.any() else 0.0
        index = self._choose_pixels(i, valid if valid.any() else np.ones_like(valid), rng)
        y, x = np.unravel_index(index, valid.shape)
        px_i = torch.from_numpy(np.stack([x, y], -1).astype(np.float32))
        px_j = px_i + torch.from_numpy(self.store.flow(i, j)[y, x])
        weights = torch.full((len(index),), weight)
        src, tgt, src_px, tgt_px = i, j, px_i, px_j
        if rng.random() < 0.5:
            # A point hidden in j is not what j's pixel shows: backwards it would teach the wrong motion.
            src, tgt, src_px, tgt_px = j, i, px_j, px_i
            weights = weights * torch.from_numpy(mask.consistent[y, x])
        frame = torch.from_numpy(self.video[src]).float().unsqueeze(0) / 255
        src_rgb = sample_bilinear(frame, src_px.unsqueeze(0))[0]
        return torch.tensor(src), torch.tensor(tgt), src_px, tgt_px, src_rgb, weights

    def _choose_pixels(self, i: int, valid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        num_pts = self.config.num_pts
        if self.error_maps is None:
            return choose_pixels(valid, self.pixel_weights[i], num_pts, rng)
        by_error = choose_pixels(valid, self.error_maps[i], num_pts // 2, rng)
        uniform = choose_pixels(valid, np.ones(valid.shape), num_pts - num_pts // 2, rng)
        return np.concatenate([by_error, uniform])

    def _pixel_weights(self, i: int) -> np.ndarray:
        """1/√(count + 1): pixels with few correspondences are drawn more often when they have one."""
        if not self.config.use_count_map:
            return np.ones(self.video.shape[1:3])
        return 1 / np.sqrt(self.store.count_map(i) + 1.0)


def iterate_batches(dataset: FlowBatches, steps: range, num_workers: int) -> Iterator[Batch]:
    """The batches of `steps` in order, prepared ahead by `num_workers` processes (0: in this one)."""
    yield from DataLoader(
        dataset,
        batch_size=None,
        sampler=steps,
        num_workers=num_workers,
        worker_init_fn=_leave_interrupts_to_parent,
    )


def _leave_interrupts_to_parent(worker_id: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the trainer ends the workers
