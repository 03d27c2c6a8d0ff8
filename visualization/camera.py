"""How the camera moved, read off tracks of what stands still: for every frame a map into the first frame's pixels.

Maps are homographies [F,3,3] float64 of pixels (x, y, 1), frame f → frame 0; `tracks` [F,N,2] pixels.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

RANSAC_PX = 2.0  # pixels that a standing point may be off: about what a track is off
FEWEST_POINTS = 8  # for a homography, twice the four that fix one


def translation(shift: NDArray) -> NDArray[np.float64]:
    """The homography that moves by `shift` [2]."""
    matrix = np.eye(3)
    matrix[:2, 2] = shift
    return matrix


def camera_by_median(tracks: NDArray) -> NDArray[np.float64]:
    """Shifts only: accumulated median steps of points known to be background; without any, no motion."""
    motion = np.zeros((len(tracks), 2))
    if tracks.shape[1]:
        motion[1:] = np.cumsum(np.median(np.diff(tracks.astype(float), axis=0), axis=1), axis=0)
    return np.stack([translation(-shift) for shift in motion])


def camera_by_homographies(tracks: NDArray, occluded: NDArray) -> NDArray[np.float64]:
    """From points all over the image: RANSAC finds the homography that most of them follow from frame to frame.

    A step that most points contradict, or that too few points show, is the median shift.

    Args:
        occluded: bool [F,N]; a step is fitted to points that are visible before and after it.
    """
    camera = [np.eye(3)]
    for before, after, hidden in zip(tracks[:-1], tracks[1:], occluded[:-1] | occluded[1:], strict=True):
        camera.append(camera[-1] @ _step(before[~hidden], after[~hidden]))
    return np.stack(camera)


def _step(before: NDArray, after: NDArray) -> NDArray[np.float64]:
    """The homography `after` → `before` [N,2]."""
    if len(before) >= FEWEST_POINTS:
        homography, inliers = cv2.findHomography(
            after.astype(np.float64), before.astype(np.float64), cv2.RANSAC, RANSAC_PX
        )
        if homography is not None and inliers.mean() >= 0.5:
            return homography
    return translation(np.median(before - after, axis=0)) if len(before) else np.eye(3)


def apply_homography(homography: NDArray, px: NDArray) -> NDArray[np.float64]:
    """Pixels [*,2] moved by homographies [3,3], or [F,3,3] for px [F,*,2]."""
    px = np.asarray(px, float)
    homography = homography.reshape(*homography.shape[:-2], *(1,) * (px.ndim - homography.ndim + 1), 3, 3)
    moved = (homography @ np.concatenate([px, np.ones((*px.shape[:-1], 1))], -1)[..., None])[..., 0]
    return moved[..., :2] / moved[..., 2:]
