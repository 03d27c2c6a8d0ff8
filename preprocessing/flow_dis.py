"""All-pairs flow by OpenCV's DIS (dense inverse search), which needs no weights and runs on the CPU.

DIS finds only small displacements. The flow i→j is therefore initialised with i→j−1 composed with the adjacent flow
j−1→j (backwards i→j+1 with j+1→j). Composed flow of a point that was occluded in between follows its occluder, so the
initial flow is corrected where keypoint matches disagree with it.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import cv2
import numpy as np

from preprocessing.flow_pairs import PairFlow, compose
from preprocessing.keypoints import MAX_KEYPOINTS, SMALL_FRAME, KeypointMatches
from preprocessing.pairs import Pair, Sweep
from utils.parallel import default_workers

# Chosen on two 24-frame 192x128 scenes with exact tracks: level 0 (the preset stops at half resolution) lowers the mean
# error between neighbours from 0.63 px to 0.32 px; a denser patch grid and more iterations double the time for 0.02 px.
FINEST_SCALE = 0
# DIS from composed flow takes a quarter of the time with these, and is no worse on real clips, but worse on small
# synthetic scenes (docs/preprocessing.md). Flow between neighbours, from which the start is composed, keeps the
# preset's 3 px and 5.
STARTED_STRIDE, STARTED_REFINEMENTS = 5, 0
# Bytes of cached adjacent flows and grey frames, and of cached keypoints (1,000 frames); longer clips recompute them.
CACHE_BYTES, KEYPOINT_CACHE_BYTES = 2**30, 2**29
# Bytes of memory to estimate a pair: per pixel of a large frame, per pixel of a small (doubled) frame, and for the
# distances between descriptors.
BYTES_PER_PX, BYTES_PER_SMALL_PX, DISTANCE_BYTES = 450, 1200, 9 * MAX_KEYPOINTS**2


class DisFlow:
    """DIS as a `FlowEstimator`.

    Args:
        read: Returns the frame of an index, uint8 [H,W,3].
    """

    block = 1

    def __init__(self, read: Callable[[int], np.ndarray]) -> None:
        # DIS splits the image into one stripe per thread, which changes the result, so sweeps run in parallel
        # instead.
        cv2.setNumThreads(1)
        num_px = read(0)[..., 0].size
        per_px = BYTES_PER_SMALL_PX if num_px < SMALL_FRAME else BYTES_PER_PX
        self.workers = default_workers(num_px, bytes_per_job=num_px * per_px + DISTANCE_BYTES)
        cached = CACHE_BYTES // (9 * num_px)  # two float32 of flow and one byte of grey a pixel
        self.grey = lru_cache(cached)(lambda index: cv2.cvtColor(read(index), cv2.COLOR_RGB2GRAY))
        self.adjacent = lru_cache(cached)(lambda source, target: self._estimate(source, target, None))
        self.matches = KeypointMatches(self.grey, KEYPOINT_CACHE_BYTES // (MAX_KEYPOINTS * 2 * (4 + 128)))

    def estimate_sweeps(self, sweeps: list[Sweep]) -> Iterator[PairFlow]:
        """Yield the flows of the sweeps, each initialised with the flow to the target before."""
        for source, targets in sweeps:
            flow, previous = None, source
            for target in targets:
                step = self.adjacent(previous, target)
                flow = step if flow is None else self._estimate(source, target, compose(flow, step))
                yield (source, target), flow
                previous = target

    def estimate_from(self, pairs: list[Pair], starts: list[np.ndarray]) -> Iterator[PairFlow]:
        """Yield the flows of the pairs, each initialised with a flow [H,W,2]."""
        for pair, start in zip(pairs, starts, strict=True):
            yield pair, self._estimate(*pair, start)

    def _estimate(self, source: int, target: int, start: np.ndarray | None) -> np.ndarray:
        """Estimate the flow between two frames, from `start` corrected by keypoint matches."""
        dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # keeps state, so each call needs its own
        dis.setFinestScale(FINEST_SCALE)
        if start is not None:
            # DIS writes into it, and `correct` may return its argument.
            start = self.matches.correct(start, source, target).copy()
            dis.setPatchStride(STARTED_STRIDE)
            dis.setVariationalRefinementIterations(STARTED_REFINEMENTS)
        return dis.calc(self.grey(source), self.grey(target), start)  # type: ignore[arg-type]  # None is accepted
