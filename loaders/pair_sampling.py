"""Which pairs of frames and which of their pixels a training batch shows."""

import numpy as np


def cycled_frames(first: int, count: int, num_frames: int, seed: int) -> np.ndarray:
    """Entries first … first+count−1 of an endless sequence in which every frame comes once in each N entries.

    The order of each cycle is shuffled by (seed, cycle).
    """
    index = np.arange(first, first + count)
    orders = {c: np.random.default_rng([seed, c]).permutation(num_frames) for c in set(index // num_frames)}
    return np.array([orders[i // num_frames][i % num_frames] for i in index])


def partner_probabilities(i: int, valid_counts: np.ndarray, max_gap: int) -> np.ndarray:
    """P(j) [N] of the partner of frame i: ∝ valid correspondences i→j within `max_gap` frames.

    Neighbours get 0.5 each before the final normalisation, so that adjacent motion, the most reliable, is seen often.
    A frame without a valid correspondence keeps its neighbours alone.

    Args:
        valid_counts: [N,N] number of valid correspondences of every ordered pair.
    """
    gaps = np.abs(np.arange(len(valid_counts)) - i)
    weights = np.where((gaps >= 1) & (gaps <= max_gap), valid_counts[i], 0).astype(np.float64)
    weights /= max(weights.sum(), 1.0)
    weights[gaps == 1] = 0.5
    return weights / weights.sum()


def pair_weight(gap: int, max_gap: int) -> float:
    """cos((gap − 1)/max_gap·π/2): 1 for neighbours, less for far pairs (the paper prints its inverse)."""
    return float(np.cos((gap - 1) / max_gap * np.pi / 2))


def choose_pixels(valid: np.ndarray, weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` flat indices of pixels (or tracks) where `valid` [*], with P ∝ `weights` [*] > 0.

    Without replacement (Efraimidis & Spirakis, 2006: the smallest of exponential variates divided by the weights);
    where fewer than `count` are valid, all of them and then repeats.
    """
    candidates = np.flatnonzero(valid)
    keys = rng.standard_exponential(len(candidates)) / weights.ravel()[candidates]
    if len(candidates) > count:
        return candidates[np.argpartition(keys, count)[:count]]
    return np.resize(candidates[np.argsort(keys)], count)
