"""Training batches from flow, tracks or both: a batch is a pure function of (seed, step, rank).

Neither the number of workers nor a resume changes what is drawn: the dataset is indexed by step, and all it draws
comes from a generator seeded by (seed, rank, step).
"""

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from multiprocessing.process import BaseProcess

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from loaders.clip import colors_at
from loaders.flow_store import FlowStore
from loaders.pair_sampling import choose_pixels, cycled_frames, draw_pixels, pair_weight, partner_probabilities
from loaders.track_file import InputTracks
from utils.device import to_device
from utils.errors import InputError
from utils.schedules import max_frame_gap

MOST_OFTEN = 20.0  # what moves by itself is drawn at most so many times as often for it: it may be a few wrong pixels


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
        """The same batch on a device; the frames' numbers stay here, for what to compute depends on them."""
        values = [getattr(self, f.name) for f in fields(self)]
        return Batch(*values[:2], *(to_device(value, device) for value in values[2:]))

    def pairs(self, start: int, stop: int) -> "Batch":
        """A batch of the pairs `start` … `stop` − 1 alone."""
        return Batch(*(getattr(self, f.name)[start:stop] for f in fields(self)))


@dataclass(frozen=True)
class SamplingConfig:
    """How batches are drawn; meanings as of the command-line flags of the same names."""

    num_pairs: int
    num_pts: int
    start_interval: int
    use_count_map: bool
    seed: int
    schedule_scale: float = 1.0
    neighbour_weight: float = 0.5
    pair_exponent: float = 1.0
    motion_share: float = 0.0
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class Correspondences:
    """N points of a frame, where they are in its partner frame, and their weights in the flow losses."""

    partner: int
    px: np.ndarray | Tensor  # [N,2] float32 pixels
    partner_px: np.ndarray | Tensor  # [N,2]
    weights: np.ndarray | Tensor  # [N] float32, from the frame to its partner
    weights_back: np.ndarray | Tensor  # [N]


class PairBatches(Dataset, ABC):
    """Item `step` is the batch of that step; a subclass says which points of a frame correspond to which of another.

    Args:
        video: uint8 [T,H,W,3].
        config: see `SamplingConfig`.
        frame_probabilities: [T]; None: every frame comes equally often, in shuffled cycles.
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
        pairs = [self._pair(int(i), max_gap, rng) for i in frames]
        return Batch(*(torch.stack(values) for values in zip(*pairs, strict=True)))

    def partners(self, i: int, counts: np.ndarray, max_gap: int) -> np.ndarray:
        """P(j) [T] of the partner of frame i by the numbers of correspondences [T,T], see `partner_probabilities`."""
        return partner_probabilities(i, counts, max_gap, self.config.neighbour_weight, self.config.pair_exponent)

    @abstractmethod
    def correspondences(self, i: int, max_gap: int, rng: np.random.Generator) -> Correspondences:
        """Points of frame i and of a partner at most `max_gap` frames away, both drawn from `rng`."""

    def _pair(self, i: int, max_gap: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """The fields of a `Batch` for one pair of frames that starts or ends in frame i."""
        found = self.correspondences(i, max_gap, rng)
        src, tgt, src_px, tgt_px, weights = i, found.partner, found.px, found.partner_px, found.weights
        if rng.random() < 0.5:
            src, tgt, src_px, tgt_px, weights = tgt, src, tgt_px, src_px, found.weights_back
        values = src_px, tgt_px, self.colors(src, src_px), weights
        return torch.tensor(src), torch.tensor(tgt), *map(torch.as_tensor, values)

    def colors(self, frame: int, px: np.ndarray) -> np.ndarray:
        """Bilinear colours [N,3] in [0,1] of a frame at pixels [N,2]."""
        return colors_at(self.video[frame], px)


class FlowBatches(PairBatches):
    """Pixels of a frame and where flow takes them.

    Holds 8·T·H·W bytes of sums, which worker processes share where they are forked.

    Args:
        video, config: as of `PairBatches`.
        store: the flow products.
        error_maps: flow errors [T,H,W] in pixels, > 0; None before the first set.
        own: of every frame, how surely pixels move by themselves and are in front, [H,W] in [0,1], for `motion_share`;
            error maps overrule it.
    """

    def __init__(
        self,
        video: np.ndarray,
        store: FlowStore,
        config: SamplingConfig,
        error_maps: np.ndarray | None = None,
        own: Iterable[np.ndarray] | None = None,
    ):
        mean_errors = None if error_maps is None else error_maps.mean((1, 2))
        super().__init__(video, config, None if mean_errors is None else mean_errors / mean_errors.sum())
        self.store, self.by_error = store, error_maps is not None
        own = [None] * len(video) if own is None else own
        self.keep_weights(map(self._weights, range(len(video)), own) if error_maps is None else error_maps)

    def keep_weights(self, weights: Iterable[np.ndarray]) -> None:
        """Sum up the weights [H,W] of every frame, to draw pixels by."""
        self.cumulative_weights = np.empty((len(self.video), self.video[0, ..., 0].size))  # [T,H·W]
        for sums, frame_weights in zip(self.cumulative_weights, weights, strict=True):
            np.cumsum(frame_weights, dtype=np.float64, out=sums)
        self.cumulative_ones = np.arange(1.0, 1 + self.cumulative_weights.shape[1])

    def correspondences(self, i: int, max_gap: int, rng: np.random.Generator) -> Correspondences:
        """Valid pixels of frame i, rarely valid or badly predicted ones more often."""
        j = self.partner(i, max_gap, rng)
        mask = self.store.mask(i, j)
        # Adjacent flow is believed everywhere: without it a pixel that is never valid would have no motion at all.
        valid = np.ones_like(mask.consistent) if abs(i - j) == 1 else mask.valid
        weight = pair_weight(abs(i - j), max_gap) if valid.any() else 0.0
        index = self._choose_pixels(i, valid if valid.any() else np.ones_like(valid), rng)
        y, x = np.unravel_index(index, valid.shape)
        px = np.stack([x, y], -1).astype(np.float32)
        weights = np.full(len(index), weight, np.float32)
        # A point hidden in j is not what j's pixel shows: backwards it would teach the wrong motion.
        weights_back = weights * mask.consistent[y, x]
        return Correspondences(j, px, px + self.store.flow_at(i, j, mask, index), weights, weights_back)

    def partner(self, i: int, max_gap: int, rng: np.random.Generator) -> int:
        """A frame to pair frame i with, see `partner_probabilities`."""
        return int(rng.choice(len(self.video), p=self.partners(i, self.store.valid_counts, max_gap)))

    def _choose_pixels(self, i: int, valid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        num_pts = self.config.num_pts
        if not self.by_error:
            return draw_pixels(valid, self.cumulative_weights[i], num_pts, rng)
        by_error = draw_pixels(valid, self.cumulative_weights[i], num_pts // 2, rng)
        uniform = draw_pixels(valid, self.cumulative_ones, num_pts - num_pts // 2, rng)
        return np.concatenate([by_error, uniform])

    def _weights(self, i: int, own: np.ndarray | None) -> np.ndarray:
        weights, share = self._count_weights(i), self.config.motion_share
        if own is None:
            return weights
        moving, still = (weights * own).sum(), (weights * (1 - own)).sum()
        wanted = share / (1 - share) * still  # of what moves, for that share of all
        return weights * (1 + own * (np.clip(wanted / max(moving, 1e-9), 1, MOST_OFTEN) - 1))

    def _count_weights(self, i: int) -> np.ndarray:
        """1/√(count + 1): pixels with few correspondences are drawn more often when they have one."""
        if not self.config.use_count_map:
            return np.ones(self.video.shape[1:3])
        return 1 / np.sqrt(self.store.count_map(i) + 1.0)


class TrackBatches(PairBatches):
    """Points of `tracks` that are visible in both frames of a pair. Other args as `PairBatches`."""

    def __init__(self, video: np.ndarray, tracks: InputTracks, config: SamplingConfig):
        super().__init__(video, config)
        self.tracks = tracks
        visible = tracks.visible.astype(np.float32)
        self.visible_counts = visible @ visible.T  # [T,T] points visible in both frames

    def correspondences(self, i: int, max_gap: int, rng: np.random.Generator) -> Correspondences:
        """Points visible in frame i, all equally often; without one, any pixels, of weight 0: only colours teach."""
        px, visible, num_pts = self.tracks.px, self.tracks.visible, self.config.num_pts
        p = self.partners(i, self.visible_counts, max_gap)
        # Unlike flow, which every neighbour has, there may be no track to it.
        shared = np.where(self.visible_counts[i] > 0, p, 0)
        j = int(rng.choice(len(px), p=shared / shared.sum() if shared.any() else p))
        if not shared.any():
            height, width = self.video.shape[1:3]
            anywhere = rng.uniform(0, [width - 1, height - 1], (num_pts, 2)).astype(np.float32)
            nothing = np.zeros(num_pts, np.float32)
            return Correspondences(j, anywhere, anywhere, nothing, nothing)
        both = visible[i] & visible[j]
        index = choose_pixels(both, np.ones(len(both)), num_pts, rng)
        weights = np.full(num_pts, pair_weight(abs(i - j), max_gap), np.float32)
        return Correspondences(j, px[i, index], px[j, index], weights, weights)


class MixedBatches(PairBatches):
    """Each pair from one of `parts`, with P ∝ `part_weights`; frames are drawn as in the first part."""

    def __init__(self, parts: list[PairBatches], part_weights: list[float]):
        super().__init__(parts[0].video, parts[0].config, parts[0].frame_probabilities)
        self.parts, self.probabilities = parts, np.array(part_weights) / np.sum(part_weights)

    def correspondences(self, i: int, max_gap: int, rng: np.random.Generator) -> Correspondences:
        """Those of the part that is drawn."""
        part = self.parts[rng.choice(len(self.parts), p=self.probabilities)]
        return part.correspondences(i, max_gap, rng)


def iterate_batches(dataset: PairBatches, steps: range, num_workers: int) -> Iterator[Batch]:
    """The batches of `steps` in order, prepared ahead by `num_workers` processes (0: in this one).

    Raises:
        InputError: one of these processes was killed; within seconds, and where a batch is asked for.
    """
    on_lost_worker, batches = signal.getsignal(signal.SIGCHLD), None
    how = {"sampler": steps, "num_workers": num_workers, "worker_init_fn": _leave_signals_to_parent}
    try:
        batches = iter(DataLoader(dataset, batch_size=None, **how))
        if num_workers:  # torch's handler would raise anywhere, in the middle of an update of the networks too
            signal.signal(signal.SIGCHLD, on_lost_worker)
        yield from batches
    except InputError as error:  # a process hands over its traceback as the message
        raise InputError(str(error).rpartition("InputError: ")[2].strip()) from error
    except (RuntimeError, EOFError, OSError) as error:
        told = str(error).startswith("DataLoader worker (pid")
        if not told and not (num_workers and batches and _is_one_lost(batches._workers)):
            raise
        raise InputError(
            f"a process that prepares batches was killed ({error}), perhaps for want of memory, which fewer "
            "--num_workers need less of: the state is saved, and the same command goes on"
        ) from error
    finally:
        if num_workers and batches:  # a kept traceback would keep them, and they heed no SIGTERM
            batches._shutdown_workers()


def _is_one_lost(workers: list[BaseProcess]) -> bool:
    """Whether a worker has ended: one that dies while it hands over a batch closes its files a moment before."""
    for worker in workers:
        worker.join(1 / len(workers))
    return not all(worker.is_alive() for worker in workers)


def _leave_signals_to_parent(worker_id: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole process group; the trainer ends the workers
        signal.signal(number, signal.SIG_IGN)
