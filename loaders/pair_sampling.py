"""Sampling for a training batch: which frames it pairs, and which of their pixels it draws."""

import numpy as np

# Up to this many valid pixels, drawing a key for each is fast; with more, rejection sampling is tried first. Its rounds
# are limited, because the valid pixels may have almost none of the image's weight.
FEW_PIXELS, MAX_ROUNDS = 2**14, 8
NEIGHBOUR_WEIGHT = 0.5  # of each adjacent frame as partner, where all other partners together have 1; as released


def cycled_frames(first: int, count: int, num_frames: int, seed: int) -> np.ndarray:
    """Return `count` frames of an endless sequence of cycles, each a permutation of all frames.

    Args:
        first: Position in the sequence of the first frame returned.
        count: Number of frames.
        num_frames: Frames of the clip, and length of a cycle.
        seed: Seed of the permutations, together with the number of the cycle.
    """
    cycles, positions = np.divmod(np.arange(first, first + count), num_frames)
    orders = {cycle: np.random.default_rng([seed, cycle]).permutation(num_frames) for cycle in set(cycles.tolist())}
    return np.array([orders[cycle][position] for cycle, position in zip(cycles.tolist(), positions, strict=True)])


def max_frame_gap(step: int, start_interval: int, num_frames: int, scale: float = 1.0) -> int:
    """Return the largest |i − j| of a training pair at a step: it grows by one every 2000 · `scale` steps."""
    return min(start_interval + int(step / scale) // 2000, num_frames - 1)


def partner_probabilities(i: int, valid_counts: np.ndarray, max_gap: int) -> np.ndarray:
    """Return P(j) [T] of the partner of frame i: ∝ valid correspondences i→j, within `max_gap` frames.

    The counts are normalised to sum 1; adjacent frames, whose flow is the most reliable, get `NEIGHBOUR_WEIGHT` each
    instead; then all are normalised again. A frame without valid correspondences keeps its adjacent frames only.

    Args:
        i: Frame to pair.
        valid_counts: Number of valid correspondences [T,T] of every ordered pair.
        max_gap: Largest |i − j|.
    """
    gaps = np.abs(np.arange(len(valid_counts)) - i)
    weights = np.where((gaps >= 1) & (gaps <= max_gap), valid_counts[i], 0).astype(np.float64)
    weights /= max(weights.sum(), 1.0)
    weights[gaps == 1] = NEIGHBOUR_WEIGHT
    return weights / weights.sum()


def pair_weight(gap: int, max_gap: int) -> float:
    """Return the loss weight cos((gap − 1)/max_gap·π/2) of a pair: 1 for adjacent frames (the paper prints 1/cos)."""
    return float(np.cos((gap - 1) / max_gap * np.pi / 2))


def draw_pixels(valid: np.ndarray, cumulative: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw valid pixels without replacement, with P ∝ weight.

    Weighted reservoir sampling for few candidates, rejection sampling otherwise. Rejection draws from the whole image
    with replacement and drops invalid and repeated pixels, which gives the same distribution. If it does not find
    `count` pixels in `MAX_ROUNDS` rounds, reservoir sampling from the remaining candidates completes them.

    Args:
        valid: Candidates, bool [*], n pixels in all.
        cumulative: Cumulative weights [n] float64 of all pixels, each weight > 0.
        count: Number of pixels to draw.
        rng: Source of the draws.

    Returns:
        Flat indices [count]; if fewer are valid, all of them, and then repeats.
    """
    valid, chosen = valid.ravel(), np.empty(0, np.int64)
    if np.count_nonzero(valid) > max(FEW_PIXELS, count):
        for _ in range(MAX_ROUNDS):
            drawn = _draw_with_replacement(cumulative, 2 * count, rng)
            chosen = _unique_in_order(np.concatenate([chosen, drawn[valid[drawn]]]))
            if len(chosen) >= count:
                return chosen[:count]
        valid = valid.copy()
        valid[chosen] = False
    weights = np.diff(cumulative, prepend=0.0)
    return np.concatenate([chosen, choose_pixels(valid, weights, count - len(chosen), rng)])


def choose_pixels(valid: np.ndarray, weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw valid pixels without replacement, with P ∝ weight, by weighted reservoir sampling.

    The drawn pixels have the smallest exponential variates divided by weight (Efraimidis & Spirakis, 2006).

    Args:
        valid: Candidates (pixels or tracks), bool [*].
        weights: Weights [*] of all pixels or tracks, > 0.
        count: Number of candidates to draw.
        rng: Source of the draws.

    Returns:
        Flat indices [count]; if fewer are valid, all of them, and then repeats.
    """
    candidates = np.flatnonzero(valid)
    keys = rng.standard_exponential(len(candidates)) / weights.ravel()[candidates]
    if len(candidates) > count:
        return candidates[np.argpartition(keys, count)[:count]]
    return np.resize(candidates[np.argsort(keys)], count)


def _draw_with_replacement(cumulative: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` independent indices with P ∝ weight from cumulative weights [n]."""
    heights = rng.random(count) * cumulative[-1]
    order = np.argsort(heights)  # sorted lookups miss the CPU's caches less often
    drawn = np.empty(count, np.int64)
    # The last sum is left out, so that a height rounded up to the total still gives the last pixel.
    drawn[order] = np.searchsorted(cumulative[:-1], heights[order], side="right")
    return drawn


def _unique_in_order(values: np.ndarray) -> np.ndarray:
    """Return the distinct values in the order of their first occurrence."""
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)]
