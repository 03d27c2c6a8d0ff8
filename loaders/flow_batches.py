"""Batches of pixels and the positions to which flow maps them; pixels are drawn with P ∝ their weights."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from loaders.batches import Correspondences, PairBatches, SamplingConfig
from loaders.flow_store import FlowStore
from loaders.pair_sampling import draw_pixels, pair_weight, partner_probabilities

MAX_BOOST = 20.0  # factor on moving pixels for `motion_share`; where they are few, they may be false detections


class FlowBatches(PairBatches):
    """Batches of valid flow, drawn on the CPU.

    Holds 8·T·H·W bytes of cumulative weights, which forked worker processes share.

    Args:
        video: Frames uint8 [T,H,W,3].
        store: Flow of the same clip.
        config: How batches are drawn.
        error_maps: Flow errors [T,H,W] in pixels, > 0, by which frames and half of the pixels are drawn; None before
            the first set.
        moving_probability: For every frame, the probabilities [H,W] that pixels move independently, for
            `config.motion_share`; unused with error maps.
    """

    def __init__(
        self,
        video: np.ndarray,
        store: FlowStore,
        config: SamplingConfig,
        error_maps: np.ndarray | None = None,
        moving_probability: Iterable[np.ndarray] | None = None,
    ):
        super().__init__(video, config, frame_probabilities(error_maps))
        self.store, self.has_error_maps = store, error_maps is not None
        height, width = video.shape[1:3]
        self.cumulative_weights = np.empty((len(video), height * width))
        weights = pixel_weights(video, store, config, error_maps, moving_probability)
        for sums, frame_weights in zip(self.cumulative_weights, weights, strict=True):
            np.cumsum(frame_weights, dtype=np.float64, out=sums)
        self.cumulative_ones = np.arange(1.0, 1 + height * width)

    def draw_correspondences(self, i: int, max_gap: int, rng: np.random.Generator) -> Correspondences:
        """Draw valid pixels of frame i with P ∝ weight; loss weights are 0 if the pair has no valid pixel."""
        p = partner_probabilities(i, self.store.valid_counts, max_gap)
        j = int(rng.choice(len(self.video), p=p))
        mask = self.store.mask(i, j)
        # All flow between adjacent frames is used: otherwise pixels that are never valid would get no supervision.
        valid = np.ones_like(mask.consistent) if abs(i - j) == 1 else mask.valid
        weight = pair_weight(abs(i - j), max_gap) if valid.any() else 0.0
        index = self._draw_pixels(i, valid if valid.any() else np.ones_like(valid), rng)
        y, x = np.unravel_index(index, valid.shape)
        px = np.stack([x, y], -1).astype(np.float32)
        partner_px = px + self.store.flow_at(i, j, mask, index)
        weights = np.full(len(index), weight, np.float32)
        weights_back = weights * mask.consistent[y, x]  # occluded in j, so the reversed pair gets weight 0
        return Correspondences(j, *map(torch.from_numpy, (px, partner_px, weights, weights_back)))

    def _draw_pixels(self, i: int, valid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw `num_pts` flat indices of valid pixels of frame i; with error maps, half of them uniformly."""
        num_pts = self.config.num_pts
        if not self.has_error_maps:
            return draw_pixels(valid, self.cumulative_weights[i], num_pts, rng)
        by_error = draw_pixels(valid, self.cumulative_weights[i], num_pts // 2, rng)
        uniform = draw_pixels(valid, self.cumulative_ones, num_pts - num_pts // 2, rng)
        return np.concatenate([by_error, uniform])


def frame_probabilities(error_maps: np.ndarray | None) -> np.ndarray | None:
    """Return P(i) [T] of a frame, proportional to its mean flow error; None without error maps [T,H,W]."""
    if error_maps is None:
        return None
    mean_errors = error_maps.mean((1, 2))
    return mean_errors / mean_errors.sum()


def pixel_weights(
    video: np.ndarray,
    store: FlowStore,
    config: SamplingConfig,
    error_maps: np.ndarray | None,
    moving_probability: Iterable[np.ndarray] | None,
) -> Iterator[np.ndarray]:
    """Yield the sampling weights [H,W] of each frame's pixels; arguments as in `FlowBatches`."""
    if error_maps is not None:
        yield from error_maps
        return
    probabilities = [None] * len(video) if moving_probability is None else moving_probability
    for i, probability in zip(range(len(video)), probabilities, strict=True):
        # 1/√(count + 1): a pixel with few correspondences is drawn more often in the pairs where it has one.
        counts = store.count_map(i) if config.use_count_map else np.zeros(video.shape[1:3])
        weights = 1 / np.sqrt(counts + 1.0)
        yield weights if probability is None else boost_moving(weights, probability, config.motion_share)


def boost_moving(weights: np.ndarray, probability: np.ndarray, share: float) -> np.ndarray:
    """Raise the weights of moving pixels, at most `MAX_BOOST` times, until they hold `share` of the total weight.

    Args:
        weights: Weights [H,W] of all pixels.
        probability: Probability [H,W] that a pixel moves independently.
        share: Share of the total weight, in [0,1); weights that already hold more are kept.

    Returns:
        The new weights [H,W].
    """
    moving, static = (weights * probability).sum(), (weights * (1 - probability)).sum()
    target = share / (1 - share) * static  # for `moving`
    boost = np.clip(target / max(moving, 1e-9), 1, MAX_BOOST)
    return weights * (1 + probability * (boost - 1))
