"""All-pairs flow by OpenCV's DIS (dense inverse search): needs no weights, runs on the CPU.

Alone it finds small displacements only; i→j therefore starts from i→j−1 carried on by the adjacent flow j−1→j
(backwards i→j+1 carried on by j+1→j), and from matches of keypoints where those say otherwise: what was hidden for some
frames is carried on with what hid it.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import cv2
import numpy as np

from preprocessing.flow_pairs import Pair, Sweeps, compose
from preprocessing.keypoints import MAX_KEYPOINTS, SMALL, KeypointMatches
from utils.parallel import default_workers

# Chosen on two 24-frame 192x128 scenes with exact tracks: level 0 (the preset stops at half resolution)
# brings the mean error between neighbours from 0.63 px to 0.32 px; a denser patch grid and more iterations
# double the time for 0.02 px.
FINEST_SCALE = 0
# Bytes kept of adjacent flows and grey frames, and of keypoints (1,000 frames); of a longer clip they
# are found again each time.
MEMORY, KEYPOINT_MEMORY = 2**30, 2**29
# Bytes that a pair takes while it is estimated: for each pixel of large and of small (doubled) frames, and for the
# distances between descriptors.
LARGE_PX, SMALL_PX, DISTANCES = 450, 1200, 9 * MAX_KEYPOINTS**2


class DisFlow:
    """DIS flow between the frames `read(index)` uint8 [H,W,3]; a `FlowEstimator`."""

    block = 1

    def __init__(self, read: Callable[[int], np.ndarray]) -> None:
        # DIS divides the image into one stripe a thread, which changes the result: parallel are the sweeps
        # instead.
        cv2.setNumThreads(1)
        num_px = read(0)[..., 0].size
        self.workers = default_workers(
            num_px, bytes_per_job=num_px * (SMALL_PX if num_px < SMALL else LARGE_PX) + DISTANCES
        )
        flows = MEMORY // (9 * num_px)  # two float32 of flow and one byte of grey a pixel
        self.grey = lru_cache(flows)(lambda index: cv2.cvtColor(read(index), cv2.COLOR_RGB2GRAY))
        self.adjacent = lru_cache(flows)(lambda source, target: self._estimate(source, target, None))
        self.matches = KeypointMatches(self.grey, KEYPOINT_MEMORY // (MAX_KEYPOINTS * 2 * (4 + 128)))

    def sweep(self, sweeps: Sweeps) -> Iterator[tuple[Pair, np.ndarray]]:
        """See `FlowEstimator`."""
        for source, targets in sweeps:
            flow, previous = None, source
            for target in targets:
                step = self.adjacent(previous, target)
                flow = step if flow is None else self._estimate(source, target, compose(flow, step))
                yield (source, target), flow
                previous = target

    def jump(self, pairs: list[Pair], starts: list[np.ndarray]) -> Iterator[tuple[Pair, np.ndarray]]:
        """See `FlowEstimator`."""
        for pair, start in zip(pairs, starts, strict=True):
            yield pair, self._estimate(*pair, start)

    def _estimate(self, source: int, target: int, start: np.ndarray | None) -> np.ndarray:
        """Flow between two frames. DIS objects keep state and write into `start`: both are the call's own."""
        if start is not None:
            start = self.matches.corrected(start, source, target)
        dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        dis.setFinestScale(FINEST_SCALE)
        return dis.calc(self.grey(source), self.grey(target), None if start is None else start.copy())
