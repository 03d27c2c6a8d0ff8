"""Camera motion, estimated from tracks of the static scene: a map from each frame to the first frame's pixels.

Maps are homographies [F,3,3] float64 of pixels (x, y, 1), frame f → frame 0; `tracks` [F,N,2] pixels.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

RANSAC_PX = 2.0  # pixels by which a static point may deviate: about the error of a track
MIN_POINTS = 8  # for a homography, twice the four that determine one


def translation(shift: ArrayLike) -> NDArray[np.float64]:
    """Return the homography that moves by `shift` [2]."""
    matrix = np.eye(3)
    matrix[:2, 2] = shift
    return matrix


def camera_by_median(tracks: NDArray) -> NDArray[np.float64]:
    """Return the accumulated median steps of background points, as shifts; without points, no motion."""
    motion = np.zeros((len(tracks), 2))
    if tracks.shape[1]:
        motion[1:] = np.cumsum(np.median(np.diff(tracks.astype(float), axis=0), axis=1), axis=0)
    return np.stack([translation(-shift) for shift in motion])


def camera_by_homographies(tracks: NDArray, occluded: NDArray) -> NDArray[np.float64]:
    """Fit a homography by RANSAC to each step of points all over the image.

    If most points contradict the homography, or too few points are visible, the step is their median shift.

    Args:
        tracks: Points [F,N,2].
        occluded: bool [F,N]; a step is fitted to points that are visible before and after it.

    Returns:
        [F,3,3], the first of them the identity.
    """
    camera = [np.eye(3)]
    for before, after, visible in zip(tracks[:-1], tracks[1:], ~(occluded[:-1] | occluded[1:]), strict=True):
        camera.append(camera[-1] @ _step(before[visible], after[visible]))
    return np.stack(camera)


def _step(before: NDArray, after: NDArray) -> NDArray[np.float64]:
    """Return the homography `after` → `before` of points [N,2]."""
    if len(before) >= MIN_POINTS:
        homography, inliers = cv2.findHomography(
            after.astype(np.float64), before.astype(np.float64), cv2.RANSAC, RANSAC_PX
        )
        if homography is not None and inliers.mean() >= 0.5:
            return np.asarray(homography, np.float64)
    return translation(np.median(before - after, axis=0)) if len(before) else np.eye(3)


def apply_homography(homography: NDArray, px: ArrayLike) -> NDArray[np.float64]:
    """Map points by a homography.

    Args:
        homography: [3,3], or [F,3,3] with one for each of the F leading entries of `px`.
        px: Points [*,2], or [F,*,2].

    Returns:
        The mapped points, of the same shape.
    """
    px = np.asarray(px, float)
    homography = homography.reshape(*homography.shape[:-2], *(1,) * (px.ndim - homography.ndim + 1), 3, 3)
    moved = (homography @ np.concatenate([px, np.ones((*px.shape[:-1], 1))], -1)[..., None])[..., 0]
    return moved[..., :2] / moved[..., 2:]
