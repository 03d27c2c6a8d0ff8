"""Flow estimated on enlarged frames and brought back to the working size, so that small motion is seen.

RAFT matches cells of 8 pixels and DIS patches of 8: what is not much larger is lost in its surroundings. Frames that
were reduced to the working size are read from their source, whose own pixels say more than interpolated ones.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from preprocessing.flow_pairs import FlowEstimator, PairFlow
from preprocessing.pairs import Pair, Sweep
from preprocessing.sequence_paths import SequencePaths
from preprocessing.source_frames import original_frames
from utils.images import read_frame, read_frames


class ScaledFlow:
    """An estimator on enlarged frames as a `FlowEstimator` of the working size.

    Args:
        estimator: Estimator of frames whose sides are `scale` times as long.
        scale: A whole factor.
    """

    def __init__(self, estimator: FlowEstimator, scale: int) -> None:
        self.estimator, self.scale = estimator, scale
        self.block, self.workers = estimator.block, estimator.workers

    def estimate_sweeps(self, sweeps: list[Sweep]) -> Iterator[PairFlow]:
        """Yield the flows of the sweeps; inside a sweep, one enlarged flow starts the next."""
        for pair, flow in self.estimator.estimate_sweeps(sweeps):
            yield pair, shrink_flow(flow, self.scale)

    def estimate_from(self, pairs: list[Pair], starts: list[np.ndarray]) -> Iterator[PairFlow]:
        """Yield the flows of the pairs, each initialised with a flow [H,W,2]."""
        for pair, flow in self.estimator.estimate_from(pairs, [enlarge_flow(start, self.scale) for start in starts]):
            yield pair, shrink_flow(flow, self.scale)


def shrink_flow(flow: np.ndarray, scale: int) -> np.ndarray:
    """Return the mean flow of the pixels that one working pixel covers, in working pixels: [sH,sW,2] → [H,W,2]."""
    height, width = flow.shape[0] // scale, flow.shape[1] // scale
    return cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / scale


def enlarge_flow(flow: np.ndarray, scale: int) -> np.ndarray:
    """Return a flow [H,W,2] between the enlarged frames, [sH,sW,2], interpolated bilinearly."""
    height, width = flow.shape[:2]
    return cv2.resize(flow, (scale * width, scale * height), interpolation=cv2.INTER_LINEAR) * scale


def enlarged_frames(paths: SequencePaths, names: list[str], scale: int) -> Callable[[int], np.ndarray]:
    """Return a reader of the frames, uint8 [sH,sW,3], by number; enlarged ones are kept in memory.

    Args:
        paths: The sequence; if it is a reduced copy, its source's frames are used where they still exist.
        names: File names of its frames.
        scale: Factor s of both sides.
    """
    if scale == 1:
        return lambda index: read_frame(paths.color / names[index])
    video = read_frames([paths.color / name for name in names])
    originals, (height, width) = original_frames(paths, video), video.shape[1:3]
    # Averaging where the source is larger still, cubic interpolation where it is smaller.
    kind = cv2.INTER_AREA if originals.size[0] >= scale * height else cv2.INTER_CUBIC
    size = scale * width, scale * height
    return [cv2.resize(image, size, interpolation=kind) for image in originals.read(range(len(names)))].__getitem__
