"""Matches of SIFT keypoints between frames: they find again what was hidden in between, where flow lost its way.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004, with the square roots of Arandjelović and
Zisserman (CVPR 2012).
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

MAX_KEYPOINTS, MIN_CONTRAST = 2000, 0.01
SMALL = 400 * 300  # pixels; images below are doubled, beyond SIFT's own doubling: five to six times the keypoints
# Descriptors are whole numbers, about this long: distances add up exactly, whatever number of threads adds.
LENGTH = 512
MAX_RATIO = 0.8  # of the distances to the nearest and the second nearest descriptor
# A match stands if among its nearest others so many move as it does, within MIN_MISS px (how well keypoints are placed)
# and a share of their distance.
NEIGHBOURS, AGREEING, MIN_MISS, MISS = 8, 3, 2.0, 0.25
# Shares of the image's longer side: how far a flow may be off a match, and how far around a match it is replaced.
# Chosen once, not tuned; this folder's README has what they do to two scenes.
TOLERANCE, REACH = 1 / 64, 1 / 16


class KeypointMatches:
    """Matches between the grey frames `grey(index)` uint8 [H,W]; the keypoints of `kept` frames stay in memory."""

    def __init__(self, grey: Callable[[int], NDArray[np.uint8]], kept: int) -> None:
        self._keypoints = lru_cache(kept)(lambda index: keypoints(grey(index)))

    def between(self, source: int, target: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points [M,2] (x, y) px of the source and their flow [M,2] px to the target."""
        (x_source, described), (x_target, others) = self._keypoints(source), self._keypoints(target)
        if min(len(x_source), len(x_target)) <= NEIGHBOURS:
            return x_source[:0], x_source[:0]
        distance = squared_distances(described, others)
        rows, nearest = np.arange(len(distance)), distance.argmin(1)
        mutual = distance.argmin(0)[nearest] == rows
        first = distance[rows, nearest]
        distance[rows, nearest] = np.inf
        distinct = first < MAX_RATIO**2 * distance.min(1)
        kept = np.flatnonzero(mutual & distinct)
        # Keypoints of several orientations lie in one place: they are one witness.
        kept = kept[np.unique(x_source[kept], axis=0, return_index=True)[1]]
        points, flow = x_source[kept], x_target[nearest[kept]] - x_source[kept]
        agree = agreeing(points, flow)
        return points[agree], flow[agree]

    def corrected(self, flow: NDArray[np.float32], source: int, target: int) -> NDArray[np.float32]:
        """The flow [H,W,2] px; around the matches that it is far off, theirs, as far as they are the nearest ones."""
        points, moved = self.between(source, target)
        height, width = flow.shape[:2]
        columns, rows = np.rint(points).astype(int).T
        missed = np.linalg.norm(flow[rows, columns] - moved, axis=-1) > TOLERANCE * max(height, width)
        if not missed.any():
            return flow
        elsewhere = np.ones((height, width), np.uint8)
        elsewhere[rows, columns] = 0
        distance, label = cv2.distanceTransformWithLabels(
            elsewhere, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        match = np.zeros(label.max() + 1, int)
        match[label[rows, columns]] = np.arange(len(points))
        nearest = match[label]
        near = (distance <= REACH * max(height, width)) & missed[nearest]
        corrected = flow.copy()
        corrected[near] = moved[nearest[near]]
        return corrected


def keypoints(grey: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Keypoints [N,2] (x, y) px, integer = pixel centre, and descriptors [N,128], N ≤ MAX_KEYPOINTS."""
    scale = 2 if grey.size < SMALL else 1
    enlarged = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    # Otherwise its own doubling moves every keypoint by a quarter of a pixel.
    sift = cv2.SIFT_create(MAX_KEYPOINTS, contrastThreshold=MIN_CONTRAST, enable_precise_upscale=True)
    found, described = sift.detectAndCompute(enlarged, None)
    if not found:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.int16)
    found, described = found[:MAX_KEYPOINTS], described[:MAX_KEYPOINTS]  # ties may add some
    centres = (np.array([keypoint.pt for keypoint in found], np.float32) + 0.5) / scale - 0.5
    corner = np.array(grey.shape[::-1], np.float32) - 1
    rooted = LENGTH * np.sqrt(described / np.maximum(described.sum(1, keepdims=True), 1))
    return centres.clip(0, corner), np.rint(rooted).astype(np.int16)


def squared_distances(a: NDArray[np.int16], b: NDArray[np.int16]) -> NDArray[np.float32]:
    """Between descriptors [N,128] and [M,128]: [N,M], whole numbers below 2^24, which float32 holds."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    products = a @ b.T
    products *= -2
    products += (a * a).sum(1)[:, None]
    products += (b * b).sum(1)
    return products


def agreeing(points: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which matches [M] move as enough of their nearest others do."""
    if len(points) <= NEIGHBOURS:
        return np.zeros(len(points), bool)
    distance, others = (found[:, 1:] for found in cKDTree(points).query(points, NEIGHBOURS + 1))  # the first is itself
    differs = np.linalg.norm(flow[others] - flow[:, None], axis=-1)
    return (differs < MIN_MISS + MISS * distance).sum(1) >= AGREEING
