"""Which pairs of frames and which of their pixels a training batch shows."""

import numpy as np

# Up to so many valid pixels (or asked-for ones) a key for each is soon drawn; many of the whole image are worth a try
# first, in so many rounds: pixels can be valid where nothing is likely.
FEW_PIXELS, ROUNDS = 2**14, 8


def cycled_frames(first: int, count: int, num_frames: int, seed: int) -> np.ndarray:
    """Entries first … first+count−1 of an endless sequence in which every frame comes once in each N entries.

    The order of each cycle is shuffled by (seed, cycle).
    """
    index = np.arange(first, first + count)
    orders = {c: np.random.default_rng([seed, c]).permutation(num_frames) for c in set(index // num_frames)}
    return np.array([orders[i // num_frames][i % num_frames] for i in index])


def max_frame_gap(step: int, start_interval: int, num_frames: int, scale: float = 1.0) -> int:
    """Return the largest |i − j| of a training pair at a step: it grows by one every 2000 · `scale` steps."""
    return min(start_interval + int(step / scale) // 2000, num_frames - 1)


def partner_probabilities(
    i: int, valid_counts: np.ndarray, max_gap: int, neighbour_weight: float = 0.5, pair_exponent: float = 1.0
) -> np.ndarray:
    """P(j) [N] of the partner of frame i: ∝ valid correspondences i→j within `max_gap` frames.

    Neighbours get 0.5 each before the final normalisation, so that adjacent motion, the most reliable, is seen often.
    A frame without a valid correspondence keeps its neighbours alone.

    Args:
        valid_counts: [N,N] number of valid correspondences of every ordered pair.
        neighbour_weight: what a neighbour gets, beside 1 for all correspondences together (released: 0.5).
        pair_exponent: of all these weights; below 1, far pairs, of few correspondences, come more often (released: 1).
    """
    gaps = np.abs(np.arange(len(valid_counts)) - i)
    weights = np.where((gaps >= 1) & (gaps <= max_gap), valid_counts[i], 0).astype(np.float64)
    weights /= max(weights.sum(), 1.0)
    weights[gaps == 1] = neighbour_weight
    weights **= pair_exponent
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


def draw_pixels(valid: np.ndarray, cumulative: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """What `choose_pixels` draws, by the same law, but with a look at few of many valid pixels.

    The smallest keys come in the order of drawing one by one, each with P ∝ weight among what is left. So does what
    remains of draws from the whole image, with replacement, without the invalid and the repeated. If that takes long,
    the pixels found so far stay the first ones, and the keys of all others give the rest.

    Args:
        valid: bool [*], n pixels in all.
        cumulative: sums of the weights (> 0) up to and with each pixel, [n] float64.
    """
    valid, chosen = valid.ravel(), np.empty(0, np.int64)
    if np.count_nonzero(valid) > max(FEW_PIXELS, count):
        for _ in range(ROUNDS):
            drawn = _with_replacement(cumulative, 2 * count, rng)
            chosen = _first_of_each(np.concatenate([chosen, drawn[valid[drawn]]]))
            if len(chosen) >= count:
                return chosen[:count]
        valid = valid.copy()
        valid[chosen] = False
    weights = np.diff(cumulative, prepend=0.0)
    return np.concatenate([chosen, choose_pixels(valid, weights, count - len(chosen), rng)])


def _with_replacement(cumulative: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` indices of a table of sums, each independent and with P ∝ its weight."""
    heights = rng.random(count) * cumulative[-1]
    order = np.argsort(heights)  # neighbours in the table one after the other: fewer misses of the caches
    drawn = np.empty(count, np.int64)
    # Without the last sum, so that a height rounded up to the total still falls on the last pixel.
    drawn[order] = np.searchsorted(cumulative[:-1], heights[order], side="right")
    return drawn


def _first_of_each(values: np.ndarray) -> np.ndarray:
    """The distinct values in the order in which they first come."""
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)]
