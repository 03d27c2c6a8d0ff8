"""Depth prior from optical flow: moving objects lie before the background, occluders before what they occlude.

Flow does not show which of two surfaces is nearer until one occludes the other, and an optimisation that has settled on
a wrong order seldom recovers. The prior gives it a plausible initial order, not a measurement. It uses two cues:

- Independent motion. A moving camera's flow over a distant background is close to a homography; objects that deviate
  from it are mostly nearer.
- Occlusion votes. Where a point's flow fails the cycle test, what is visible at its target lies in front of it.

Both are summed along each point's track; the votes are then smoothed over pixels that move alike.
"""

from collections.abc import Callable, Iterator, Sequence
from threading import Lock

import cv2
import numpy as np
from tqdm import tqdm

from loaders.edge_aware_smoothing import edge_aware_smoothing
from loaders.flow_store import FlowStore
from preprocessing.consistency import CYCLE_THRESHOLD
from utils.parallel import advance, default_workers, run_in_threads

NEAR, FAR = 0.5, 1.5  # depths of the nearest moving points and of the background
OCCLUDED_SHARE = 0.4  # of the way from FAR to NEAR, for moving points that are occluded in every vote

# Frame gaps.
MOTION_GAPS = (4, 8)  # far enough that slow motion shows and that the cycle test removes wrong flow at motion edges
OCCLUSION_GAPS = (1, 2, 3, 4, 6, 8)  # wider gaps occlude more, but their flow is worse
TRACK_GAPS = (1, 2, 4, 8, 16)
SMOOTHING_GAPS = (1, 2)

# Up to the first value a point counts as static, from the second on as moving; in between, linear probability.
STATIC_MOTION, MOVING_MOTION = 0.0009, 0.0026  # motion in shares of the longer side per frame
STATIC_SHARE, MOVING_SHARE = 0.25, 0.75  # share of its track with independent motion
RANSAC_INLIER = 0.005  # of the longer side
MIN_POINTS, MAX_POINTS = 50, 4000  # for fitting a homography

FULL_CONFIDENCE = 20.0  # number of votes that gives the share of votes confidence 1
DEFAULT_VOTE = 0.02  # as occluder, for every pixel: without other votes it counts as in front
VOTE_BLUR = 1.5  # pixels; fills the gaps between votes, whose positions are rounded
SMOOTHING_SIDE = 256  # pixels of the longer side at which votes are smoothed


def estimate_depth_prior(store: FlowStore, quiet: bool = False) -> np.ndarray:
    """Estimate the depth of every pixel from flow.

    Args:
        store: Flow of the clip.
        quiet: Show no progress bars.

    Returns:
        Depth [T,H,W] float32, between NEAR and FAR; NaN where no valid flow exists.
    """
    moving = np.zeros((len(store.known), *store.size), np.float16)

    def find_motion(i: int) -> None:
        motion = independent_motion(store, i) / max(store.size)
        moving[i] = np.clip((motion - STATIC_MOTION) / (MOVING_MOTION - STATIC_MOTION), 0, 1)

    _for_each_frame(find_motion, store, "independent motion", quiet)
    known = ~np.isnan(moving)
    moving[~known] = 0
    maps, depth = (moving, known, *occlusion_votes(store, quiet)), np.empty(moving.shape, np.float32)

    def find_depth(i: int) -> None:
        moving_sum, known_sum, as_occluder, as_occluded = sum_along_tracks(store, i, maps)
        depth[i] = _frame_depth(moving_sum, known_sum, as_occluder, as_occluded, _adjacent_motion(store, i))

    _for_each_frame(find_depth, store, "depth prior", quiet)
    return depth


def independent_motion_probability(depth: np.ndarray) -> np.ndarray:
    """Return the probability [*] that pixels of a depth prior [*] move independently; 0 where depth is unknown.

    The prior also depends on the order in depth, so an uncertain point gets a larger value if it is in front.
    """
    return np.nan_to_num(np.clip((FAR - depth) / ((FAR - NEAR) * OCCLUDED_SHARE), 0, 1))


def independent_motion(store: FlowStore, i: int) -> np.ndarray:
    """Return the deviation of each point of frame i from the background's homography, in pixels per frame.

    Returns:
        Deviations [H,W], averaged over frames at `MOTION_GAPS`; NaN where no valid flow exists.
    """
    rows, columns = np.indices(store.size)
    grid = np.stack([columns, rows], -1).astype(np.float32).reshape(-1, 2)
    total, count = np.zeros(len(grid)), np.zeros(len(grid))
    max_gap = max(1, (len(store.known) - 1) // 2)  # in short clips, the largest gap that every frame has
    for j in store.partners_at(i, sorted({min(gap, max_gap) for gap in MOTION_GAPS})):
        mask = store.mask(i, j)
        index = np.flatnonzero(mask.valid)
        px = grid[index]
        target = px + store.flow_at(i, j, mask, index)
        background = _background_targets(px, target, RANSAC_INLIER * max(store.size))
        if background is not None:
            total[index] += np.linalg.norm(background - target, axis=-1) / abs(i - j)
            count[index] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(store.size)


def occlusion_votes(store: FlowStore, quiet: bool = False) -> np.ndarray:
    """Count how often each pixel was an occluder and how often it was occluded.

    A point is occluded in another frame if its flow there fails the cycle test and its target shows another point,
    whose flow back passes the test. The occluded point gets one vote; the occluder gets one in each of the two frames.

    Args:
        store: Flow of the clip.
        quiet: Show no progress bar.

    Returns:
        Votes as occluder and as occluded, [2,T,H,W] float16, blurred.
    """
    counts = np.zeros((2, len(store.known), *store.size), np.uint16)
    (as_occluder, as_occluded), one_at_a_time = counts, Lock()

    def count(i: int) -> None:
        for j in store.partners_at(i, OCCLUSION_GAPS):
            if store.known[j, i]:
                occluded, occluder, target = _occlusions(store, i, j)
                with one_at_a_time:  # other frames vote for j, too
                    np.add.at(as_occluded[i], occluded, 1)
                    np.add.at(as_occluder[i], occluder, 1)
                    np.add.at(as_occluder[j], target, 1)

    _for_each_frame(count, store, "occlusion votes", quiet)
    votes = np.empty(counts.shape, np.float16)
    for kind, frame in np.ndindex(counts.shape[:2]):
        votes[kind, frame] = cv2.GaussianBlur(counts[kind, frame].astype(np.float32), (0, 0), VOTE_BLUR)
    return votes


def sum_along_tracks(store: FlowStore, i: int, maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Sum maps along the track of each point of frame i: its pixel, and its valid flow targets at `TRACK_GAPS`.

    Args:
        store: Flow of the clip.
        i: Frame of the points.
        maps: Maps [T,H,W].

    Returns:
        For each of the maps, sums [H,W] float32.
    """
    sums = [values[i].astype(np.float32) for values in maps]
    for j in store.partners_at(i, TRACK_GAPS):
        mask = store.mask(i, j)
        index = np.flatnonzero(mask.valid)
        target = _rounded_targets(index, store.flow_at(i, j, mask, index), store.size)
        inside = _is_inside(target, store.size)
        rows, columns = target[inside].T
        for total, values in zip(sums, maps, strict=True):
            total.ravel()[index[inside]] += values[j, rows, columns]
    return sums


def _for_each_frame(work: Callable[[int], None], store: FlowStore, label: str, quiet: bool) -> None:
    """Call `work(i)` for every frame, in several threads."""
    num_frames, (height, width) = len(store.known), store.size

    def job(i: int) -> Iterator[None]:
        work(i)
        advance(bar)
        yield

    with tqdm(total=num_frames, desc=label, unit="frame", leave=False, disable=quiet) as bar:
        run_in_threads(job, range(num_frames), default_workers(height * width))


def _frame_depth(
    moving: np.ndarray, known: np.ndarray, as_occluder: np.ndarray, as_occluded: np.ndarray, motion: np.ndarray
) -> np.ndarray:
    """Return the depth [H,W] of a frame from the sums along its points' tracks.

    Args:
        moving: Sum [H,W] of the probabilities of independent motion.
        known: Number [H,W] of positions with a known probability.
        as_occluder: Sum [H,W] of the votes as occluder.
        as_occluded: Sum [H,W] of the votes as occluded.
        motion: Motion [H,W,C] to adjacent frames, see `_adjacent_motion`.
    """
    if not known.any() or not motion.size:
        return np.full(known.shape, np.nan, np.float32)
    with np.errstate(invalid="ignore"):  # 0/0 where nothing is known gives NaN
        probability = np.clip((moving / known - STATIC_SHARE) / (MOVING_SHARE - STATIC_SHARE), 0, 1)
    votes = as_occluder + as_occluded
    in_front = (as_occluder + DEFAULT_VOTE) / (votes + DEFAULT_VOTE)
    confidence = np.minimum((votes + DEFAULT_VOTE) / FULL_CONFIDENCE, 1)
    step = -(-max(votes.shape) // SMOOTHING_SIDE)
    centre = slice(step // 2, None, step)
    smooth = edge_aware_smoothing(*(part[centre, centre] for part in (in_front, confidence, motion))).clip(0, 1)
    in_front = cv2.resize(smooth, votes.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return FAR - (FAR - NEAR) * probability * (OCCLUDED_SHARE + (1 - OCCLUDED_SHARE) * in_front)


def _adjacent_motion(store: FlowStore, i: int) -> np.ndarray:
    """Return the flow [H,W,C] of frame i at `SMOOTHING_GAPS`, valid or not, in shares of the longer side per frame.

    C is 0 if there is no flow.
    """
    flows = (store.flow(i, j) / ((j - i) * max(store.size)) for j in store.partners_at(i, SMOOTHING_GAPS))
    return np.concatenate([np.empty((*store.size, 0)), *flows], -1)


def _background_targets(px: np.ndarray, target: np.ndarray, inlier: float) -> np.ndarray | None:
    """Map px [N,2] by the dominant homography of px → target [N,2]; None if there is none."""
    if len(px) < MIN_POINTS:
        return None
    some = slice(None, None, max(1, len(px) // MAX_POINTS))
    homography, _ = cv2.findHomography(px[some], target[some], cv2.RANSAC, inlier)
    return None if homography is None else cv2.perspectiveTransform(px[None], homography)[0]


def _occlusions(store: FlowStore, i: int, j: int) -> tuple[tuple[np.ndarray, ...], ...]:
    """Return rows and columns of points of frame i occluded in j, of their occluders in i, and of these in j."""
    index, consistent_back = np.flatnonzero(~store.mask(i, j).consistent), store.mask(j, i).consistent
    target = _rounded_targets(index, store.flow(i, j).reshape(-1, 2)[index], store.size)
    kept = _is_inside(target, store.size)
    index, target = index[kept], target[kept]
    kept = consistent_back[tuple(target.T)]
    index, target = index[kept], target[kept]
    target_index = np.ravel_multi_index(tuple(target.T), store.size)
    occluder = _rounded_targets(target_index, store.flow(j, i).reshape(-1, 2)[target_index], store.size)
    occluded = np.stack(np.unravel_index(index, store.size), -1)
    # As in the cycle test, points farther apart than its threshold are different ones.
    kept = _is_inside(occluder, store.size) & (np.linalg.norm(occluder - occluded, axis=-1) > CYCLE_THRESHOLD)
    return tuple(tuple(positions[kept].T) for positions in (occluded, occluder, target))


def _rounded_targets(index: np.ndarray, flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return rows and columns [N,2] to which flow [N,2] maps the pixels with these flat indices [N]."""
    return np.stack(np.unravel_index(index, size), -1) + np.rint(flow[:, ::-1]).astype(int)


def _is_inside(positions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return which rows and columns [N,2] lie inside an image, bool [N]."""
    return np.all((positions >= 0) & (positions < size), axis=-1)
