"""Matches of SIFT keypoints between frames, to recover points that flow has lost behind an occluder.

Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004, with the square roots of descriptors
(RootSIFT) by Arandjelović and Zisserman (CVPR 2012).
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

MAX_KEYPOINTS, MIN_CONTRAST = 2000, 0.01
SMALL_FRAME = 400 * 300  # pixels; smaller frames are doubled before SIFT doubles them: 5 to 6 times the keypoints
# Descriptors are scaled to this length and rounded to whole numbers. Sums of their products are then exact in float32,
# so distances do not depend on the number of threads.
DESCRIPTOR_LENGTH = 512
MAX_RATIO = 0.8  # Lowe's ratio: distance to the nearest descriptor over that to the second nearest
# Matches of both directions are found together. Those of the one are kept for so many pairs, 8 kB each at most; where
# more wait for their turn, a pair is matched once more.
MAX_OPPOSITE = 2**14
# A match is kept if enough of its nearest matches move alike: within MIN_TOLERANCE px (the localisation error of
# keypoints) plus a share of their distance.
NEIGHBOURS, MIN_AGREEING, MIN_TOLERANCE, TOLERANCE_SHARE = 8, 3, 2.0, 0.25
# Shares of the image's longer side: largest deviation of flow from a match, and the radius around a match in which
# deviating flow is replaced. Not tuned; docs/preprocessing.md has their effect on two scenes.
MAX_DEVIATION, RADIUS = 1 / 64, 1 / 16


class KeypointMatches:
    """Matches between the frames of a clip.

    Args:
        grey: Returns the frame of an index, uint8 [H,W].
        cached: Number of frames whose keypoints stay in memory.
    """

    def __init__(self, grey: Callable[[int], np.ndarray], cached: int) -> None:
        self._keypoints = lru_cache(cached)(lambda index: detect_keypoints(grey(index)))
        # (source, target): matches that were found together with those of (target, source).
        self._opposite: dict[tuple[int, int], NDArray[np.int16]] = {}

    def match(self, source: int, target: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Match two frames.

        Returns:
            Points [M,2] (x, y) px of the source frame, and their flow [M,2] px to the target frame.
        """
        (points, descriptors), (target_points, target_descriptors) = self._keypoints(source), self._keypoints(target)
        if min(len(points), len(target_points)) <= NEIGHBOURS:
            return points[:0], points[:0]
        if (found := self._opposite.pop((source, target), None)) is None:
            found, opposite = match_descriptors(descriptors, target_descriptors)
            if len(self._opposite) < MAX_OPPOSITE:
                self._opposite[target, source] = opposite
        kept, matched = found
        # Keypoints of several orientations at one position count once.
        first = np.unique(points[kept], axis=0, return_index=True)[1]
        kept, matched = kept[first], matched[first]
        points, flow = points[kept], target_points[matched] - points[kept]
        agree = agrees_with_neighbours(points, flow)
        return points[agree], flow[agree]

    def correct(self, flow: NDArray[np.float32], source: int, target: int) -> NDArray[np.float32]:
        """Replace the flow around matches from which it differs.

        Args:
            flow: [H,W,2] px from `source` to `target`.
            source: Index of a frame.
            target: Index of another frame.

        Returns:
            [H,W,2] px; a pixel gets the flow of its nearest match if the match is near and contradicts the flow at its
            own position.
        """
        points, moved = self.match(source, target)
        height, width = flow.shape[:2]
        columns, rows = np.rint(points).astype(int).T
        contradicts = np.linalg.norm(flow[rows, columns] - moved, axis=-1) > MAX_DEVIATION * max(height, width)
        if not contradicts.any():
            return flow
        elsewhere = np.ones((height, width), np.uint8)
        elsewhere[rows, columns] = 0
        distance, label = cv2.distanceTransformWithLabels(
            elsewhere, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        match = np.zeros(label.max() + 1, int)
        match[label[rows, columns]] = np.arange(len(points))
        replaced = contradicts[match][label] & (distance <= RADIUS * max(height, width))
        corrected = flow.copy()
        corrected[replaced] = moved[match[label[replaced]]]
        return corrected


def detect_keypoints(grey: np.ndarray) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Detect keypoints in a frame uint8 [H,W].

    Returns:
        Points [N,2] (x, y) px, integer = pixel centre, N ≤ MAX_KEYPOINTS, and their descriptors [N,128].
    """
    scale = 2 if grey.size < SMALL_FRAME else 1
    enlarged = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    # Without the precise upscale, SIFT's doubling shifts every keypoint by a quarter of a pixel.
    sift = cv2.SIFT.create(MAX_KEYPOINTS, contrastThreshold=MIN_CONTRAST, enable_precise_upscale=True)
    found, descriptors = sift.detectAndCompute(enlarged, None)
    if not found:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.int16)
    found, descriptors = found[:MAX_KEYPOINTS], descriptors[:MAX_KEYPOINTS]  # ties may exceed the maximum
    centres = (np.array([keypoint.pt for keypoint in found], np.float32) + 0.5) / scale - 0.5
    corner = np.array(grey.shape[::-1], np.float32) - 1
    rooted = DESCRIPTOR_LENGTH * np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1))
    return centres.clip(0, corner), np.rint(rooted).astype(np.int16)


def match_descriptors(a: NDArray[np.int16], b: NDArray[np.int16]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Find the descriptors that are each other's nearest, and much nearer than the second nearest.

    Args:
        a: Descriptors [N,128] of a frame.
        b: Descriptors [M,128] of another.

    Returns:
        Rows of `a` and of `b` [2,K], where the second nearest is among `b`; and rows of `b` and of `a` [2,L], where it
        is among `a`. The first rows ascend.
    """
    distance = squared_distances(a, b)
    nearest, back = distance.argmin(1), distance.argmin(0)
    rows = np.flatnonzero(back[nearest] == np.arange(len(a)))
    columns = nearest[rows]
    first = distance[rows, columns]
    distance[rows, columns] = np.inf
    pairs = np.stack([rows, columns]).astype(np.int16)
    forwards = first < MAX_RATIO**2 * distance.min(1)[rows]
    backwards = first < MAX_RATIO**2 * distance.min(0)[columns]
    opposite = pairs[::-1, backwards]
    return pairs[:, forwards], opposite[:, opposite[0].argsort()]


def squared_distances(a: NDArray[np.int16], b: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the squared distances [N,M] between descriptors [N,128] and [M,128]: whole numbers below 2^24."""
    x, y = a.astype(np.float32), b.astype(np.float32)
    # |x|² − 2xy + |y|² as one product, to write the large matrix once.
    rows = np.concatenate([-2 * x, (x * x).sum(1, keepdims=True), np.ones_like(x[:, :1])], 1)
    return rows @ np.concatenate([y, np.ones_like(y[:, :1]), (y * y).sum(1, keepdims=True)], 1).T


def agrees_with_neighbours(points: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which matches [M] move like enough of their nearest matches.

    Args:
        points: [M,2] px.
        flow: [M,2] px.
    """
    if len(points) <= NEIGHBOURS:
        return np.zeros(len(points), bool)
    distance, others = cKDTree(points).query(points, NEIGHBOURS + 1)
    distance, others = distance[:, 1:], others[:, 1:]  # the first is the point itself
    deviation = np.linalg.norm(flow[others] - flow[:, None], axis=-1)
    return (deviation < MIN_TOLERANCE + TOLERANCE_SHARE * distance).sum(1) >= MIN_AGREEING
