"""A first guess of depth: what does not move as most of the picture does is in front, and before what it hides.

Nothing in optical flow says which of two surfaces hides the other until one does, and an optimisation that has settled
on the wrong order seldom finds back. A camera's motion over a distant background is close to a homography; objects
that move by themselves are mostly nearer, and which of them is in front of which is seen where they meet
(`loaders.depth_prior`). It is a guess to start from, not a measurement.


Who hides whom, by flow alone, and what a point has shown of itself along its track.


Values that are known here and there, spread over what moves alike.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg
from tqdm import tqdm

from loaders.flow_store import FlowStore

GAPS = (4, 8)  # frames: slow motion shows, and the cycle test has sorted out the flow at rims that is none
NEIGHBOURS = (1, 2)  # frames: by motion to these, points move alike or not
NEAR, FAR = 0.5, 1.5  # depths given to what moves by itself and is never hidden, and to the background
HIDDEN = 0.4  # of the way from FAR to NEAR: what moves by itself, and is always hidden where it meets others
SURE = 20.0  # votes from which on their shares are sure
UNSEEN = 0.02  # of a vote that each point has for being in front, so that what meets nothing is
FINEST = 256  # pixels of the longer side on which they are spread
# Own motion in a frame, as a share of the longer side: below `STILL` there is none, from `MOVING` on it is sure.
STILL, MOVING = 0.0009, 0.0026
STAYS, GOES = 0.25, 0.75  # share of a track in which there is own motion: none of the point's, and surely its own
INLIER = 0.005  # of the longer side: what RANSAC takes for the same homography
FEWEST_POINTS, FITTED_POINTS = 50, 4000


def estimate_depth_prior(store: FlowStore, quiet: bool = False) -> np.ndarray:
    """Depth expected at every pixel, float32 [T,H,W]; NaN where no flow says anything. `quiet`: without bars."""
    num_frames = len(store.known)
    moving = np.zeros((num_frames, *store.size), np.float16)
    for i in tqdm(range(num_frames), desc="depth from motion", unit="frame", leave=False, disable=quiet):
        motion = independent_motion(store, i) / max(store.size)
        moving[i] = np.clip((motion - STILL) / (MOVING - STILL), 0, 1)
    known = ~np.isnan(moving)
    moving[~known] = 0
    maps, depth = (moving, known, *occlusion_votes(store, quiet)), np.empty(moving.shape, np.float32)
    for i in tqdm(range(num_frames), desc="depth from motion", unit="frame", leave=False, disable=quiet):
        depth[i] = _depth_of(*along_tracks(store, i, maps), _motion(store, i))
    return depth


def independent_motion_probability(depth: np.ndarray) -> np.ndarray:
    """How surely pixels of a guessed depth move by themselves, 0 to 1; 0 where nothing was guessed.

    Unsure ones count for more the farther in front they are: depth holds both.
    """
    return np.nan_to_num(np.clip((FAR - depth) / ((FAR - NEAR) * HIDDEN), 0, 1))


def _motion(store: FlowStore, i: int) -> np.ndarray:
    """How the pixels of frame i move to its neighbours, valid or not: [H,W,C], shares of the longer side a frame.

    C is 0 where there is no flow.
    """
    flows = (store.flow(i, j) / ((j - i) * max(store.size)) for j in store.around(i, NEIGHBOURS))
    return np.concatenate([np.empty((*store.size, 0)), *flows], -1)


def _depth_of(
    moving: np.ndarray, known: np.ndarray, hides: np.ndarray, hidden: np.ndarray, motion: np.ndarray
) -> np.ndarray:
    """Depth [H,W] by what was counted along the tracks of a frame's points."""
    if not known.any() or not motion.size:
        return np.full(known.shape, np.nan, np.float32)
    with np.errstate(invalid="ignore"):  # where nothing is known
        own = np.clip((moving / known - STAYS) / (GOES - STAYS), 0, 1)
    votes = hides + hidden
    share, sure = (hides + UNSEEN) / (votes + UNSEEN), np.minimum((votes + UNSEEN) / SURE, 1)
    step = -(-max(votes.shape) // FINEST)
    middle = slice(step // 2, None, step)
    coarse = smooth_along_motion(*(part[middle, middle] for part in (share, sure, motion))).clip(0, 1)
    in_front = cv2.resize(coarse, votes.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return FAR - (FAR - NEAR) * own * (HIDDEN + (1 - HIDDEN) * in_front)


def independent_motion(store: FlowStore, i: int) -> np.ndarray:
    """Pixels a frame by which the points of frame i move otherwise than the picture, [H,W]; NaN where unknown."""
    grid = np.stack(np.indices(store.size)[::-1], -1).astype(np.float32).reshape(-1, 2)
    total, count = np.zeros(len(grid)), np.zeros(len(grid))
    farthest = max(1, (len(store.known) - 1) // 2)  # of which every frame has one in short clips
    for j in store.around(i, sorted({min(gap, farthest) for gap in GAPS})):
        mask = store.mask(i, j)
        index = np.flatnonzero(mask.valid)
        px = grid[index]
        moved = px + store.flow_at(i, j, mask, index)
        carried = _carried_by_homography(px, moved, INLIER * max(store.size))
        if carried is not None:
            total[index] += np.linalg.norm(carried - moved, axis=-1) / abs(i - j)
            count[index] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(store.size)


def _carried_by_homography(px: np.ndarray, moved: np.ndarray, inlier: float) -> np.ndarray | None:
    """Where the homography that most correspondences px → moved [N,2] agree on takes px; None if there is none."""
    if len(px) < FEWEST_POINTS:
        return None
    some = slice(None, None, max(1, len(px) // FITTED_POINTS))
    homography, _ = cv2.findHomography(px[some], moved[some], cv2.RANSAC, inlier)
    return None if homography is None else cv2.perspectiveTransform(px[None], homography)[0]


OCCLUSION_GAPS = (1, 2, 3, 4, 6, 8)  # frames: the farther, the wider is what gets hidden, and the worse its flow
TRACK_GAPS = (1, 2, 4, 8, 16)
APART = 3.0  # pixels from which on two points are two, as in the cycle test
BLUR = 1.5  # pixels: arrivals are rounded, which leaves gaps between them


def occlusion_votes(store: FlowStore, quiet: bool = False) -> np.ndarray:
    """How often each pixel was seen to hide another one, and to be hidden: [2,T,H,W], float16.

    A point whose flow to another frame fails the cycle test, and arrives where something else is seen that did come
    back, is hidden there by that. Both places of what hides it get a vote, in the one frame and in the other.
    """
    num_frames = len(store.known)
    counts = np.zeros((2, num_frames, *store.size), np.uint16)
    hides, hidden = counts
    for i in tqdm(range(num_frames), desc="who hides whom", unit="frame", leave=False, disable=quiet):
        for j in store.around(i, OCCLUSION_GAPS):
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


STIFFNESS = 20.0  # how much neighbours that move alike are held together, against one sure value
ALIKE = 0.0015  # root mean square, over coordinates, of how neighbours' motion differs where half of that is left
LOOSE = 1e-4  # what is left of it across any border, so that all of the image is determined
ITERATIONS, TOLERANCE = 300, 1e-3


def smooth_along_motion(values: np.ndarray, confidence: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The image x that is near `values` where they are sure, and smooth but where motion changes.

    It minimises Σ_p c_p (x_p − v_p)² + Σ_pq w_pq (x_p − x_q)² over pixels p and neighbours pq, with w falling as a
    Gaussian of how differently the two move; by conjugate gradients, to 0.02 where values are spread over 256 pixels.

    Args:
        values, confidence: [H,W]; a confidence is 0 (unknown) to 1, and not 0 everywhere.
        motion: [H,W,C] shares of the longer side a frame.
    """
    number = np.arange(values.size).reshape(values.shape)
    ends, weights = [], []
    for axis in (0, 1):
        last = values.shape[axis] - 1
        near, far = (np.delete(number, end, axis).ravel() for end in (last, 0))
        difference = np.square(np.diff(motion, axis=axis)).mean(-1).ravel()
        ends.append((near, far))
        weights.append(STIFFNESS * 0.5 ** (difference / ALIKE**2) + LOOSE)
    (near, far), weight = np.concatenate(ends, 1), np.concatenate(weights)
    links = sparse.coo_array((weight, (near, far)), shape=(values.size,) * 2).tocsr()
    links = links + links.T
    held = confidence.ravel().astype(np.float64)
    system = sparse.diags_array(held + links.sum(1)) - links
    start = np.full(values.size, np.average(values, weights=confidence))
    scale = sparse.diags_array(1 / system.diagonal())
    found, _ = cg(system, held * values.ravel(), x0=start, rtol=TOLERANCE, maxiter=ITERATIONS, M=scale)
    return found.reshape(values.shape)
