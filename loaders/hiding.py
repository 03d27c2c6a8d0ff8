"""Who hides whom, by flow alone, and what a point has shown of itself along its track."""

from collections.abc import Sequence

import cv2
import numpy as np
from tqdm import tqdm

from loaders.flow_store import FlowStore

HIDING_GAPS = (1, 2, 3, 4, 6, 8)  # frames: the farther, the wider is what gets hidden, and the worse its flow
TRACK_GAPS = (1, 2, 4, 8, 16)
APART = 3.0  # pixels from which on two points are two, as in the cycle test
BLUR = 1.5  # pixels: arrivals are rounded, which leaves gaps between them


def hiding_votes(store: FlowStore, quiet: bool = False) -> np.ndarray:
    """How often each pixel was seen to hide another one, and to be hidden: [2,T,H,W], float16.

    A point whose flow to another frame fails the cycle test, and arrives where something else is seen that did come
    back, is hidden there by that. Both places of what hides it get a vote, in the one frame and in the other.
    """
    num_frames = len(store.known)
    counts = np.zeros((2, num_frames, *store.size), np.uint16)
    hides, hidden = counts
    for i in tqdm(range(num_frames), desc="who hides whom", unit="frame", leave=False, disable=quiet):
        for j in store.around(i, HIDING_GAPS):
            if store.known[j, i]:
                behind, front, arrived = _collisions(store, i, j)
                np.add.at(hidden[i], behind, 1)
                np.add.at(hides[i], front, 1)
                np.add.at(hides[j], arrived, 1)
    votes = np.empty(counts.shape, np.float16)
    for kind, frame in np.ndindex(2, num_frames):
        votes[kind, frame] = cv2.GaussianBlur(counts[kind, frame].astype(np.float32), (0, 0), BLUR)
    return votes


def along_tracks(store: FlowStore, i: int, maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For the points of frame i, sums [H,W] of each of `maps` [T,H,W] over where they are and valid flow takes them."""
    sums = [values[i].astype(np.float32) for values in maps]
    for j in store.around(i, TRACK_GAPS):
        mask = store.mask(i, j)
        index = np.flatnonzero(mask.valid)
        arrived = _rounded(index, store.flow_at(i, j, mask, index), store.size)
        inside = _inside(arrived, store.size)
        rows, columns = arrived[inside].T
        for total, values in zip(sums, maps, strict=True):
            total.ravel()[index[inside]] += values[j, rows, columns]
    return sums


def _collisions(store: FlowStore, i: int, j: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Rows and columns: of points of frame i that frame j hides, of what hides them, in frame i and in frame j."""
    index, seen = np.flatnonzero(~store.mask(i, j).consistent), store.mask(j, i).consistent
    arrived = _rounded(index, store.flow(i, j).reshape(-1, 2)[index], store.size)
    kept = _inside(arrived, store.size)
    index, arrived = index[kept], arrived[kept]
    kept = seen[tuple(arrived.T)]
    index, arrived = index[kept], arrived[kept]
    at = np.ravel_multi_index(tuple(arrived.T), store.size)
    front = _rounded(at, store.flow(j, i).reshape(-1, 2)[at], store.size)
    behind = np.stack(np.unravel_index(index, store.size), -1)
    kept = _inside(front, store.size) & (np.linalg.norm(front - behind, axis=-1) > APART)
    return tuple(tuple(places[kept].T) for places in (behind, front, arrived))


def _rounded(index: np.ndarray, flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Row and column [N,2] where flow [N,2] takes the pixels with these flat numbers."""
    return np.stack(np.unravel_index(index, size), -1) + np.rint(flow[:, ::-1]).astype(int)


def _inside(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return ((places >= 0) & (places < size)).all(-1)
