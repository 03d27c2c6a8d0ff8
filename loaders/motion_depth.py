"""A first guess of depth: what does not move as most of the picture does is in front, and before what it hides.

Nothing in optical flow says which of two surfaces hides the other until one does, and an optimisation that has settled
on the wrong order seldom finds back. A camera's motion over a distant background is close to a homography; objects
that move by themselves are mostly nearer, and which of them is in front of which is seen where they meet
(`loaders.hiding`). It is a guess to start from, not a measurement.
"""

import cv2
import numpy as np
from tqdm import tqdm

from loaders.flow_store import FlowStore
from loaders.hiding import along_tracks, hiding_votes
from loaders.spreading import spread

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


def motion_depth(store: FlowStore, quiet: bool = False) -> np.ndarray:
    """Depth expected at every pixel, float32 [T,H,W]; NaN where no flow says anything. `quiet`: without bars."""
    num_frames = len(store.known)
    moving = np.zeros((num_frames, *store.size), np.float16)
    for i in tqdm(range(num_frames), desc="depth from motion", unit="frame", leave=False, disable=quiet):
        motion = own_motion(store, i) / max(store.size)
        moving[i] = np.clip((motion - STILL) / (MOVING - STILL), 0, 1)
    known = ~np.isnan(moving)
    moving[~known] = 0
    maps, depth = (moving, known, *hiding_votes(store, quiet)), np.empty(moving.shape, np.float32)
    for i in tqdm(range(num_frames), desc="depth from motion", unit="frame", leave=False, disable=quiet):
        depth[i] = _depth_of(*along_tracks(store, i, maps), _motion(store, i))
    return depth


def own_share(depth: np.ndarray) -> np.ndarray:
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
    coarse = spread(*(part[middle, middle] for part in (share, sure, motion))).clip(0, 1)
    in_front = cv2.resize(coarse, votes.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return FAR - (FAR - NEAR) * own * (HIDDEN + (1 - HIDDEN) * in_front)


def own_motion(store: FlowStore, i: int) -> np.ndarray:
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
