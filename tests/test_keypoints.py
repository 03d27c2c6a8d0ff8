"""Matches of keypoints, and flow that starts from them."""

import cv2
import numpy as np
import pytest

from preprocessing.flow_dis import DisFlow
from preprocessing.keypoints import (
    DESCRIPTOR_LENGTH,
    MAX_KEYPOINTS,
    NEIGHBOURS,
    SMALL_FRAME,
    KeypointMatches,
    agrees_with_neighbours,
    detect_keypoints,
    squared_distances,
)

H, W = 128, 192


def texture(height=H, width=W, seed=0):
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = np.sum([cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.5, 3, 6)], axis=0)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


def turned(image, degrees, shift):
    matrix = cv2.getRotationMatrix2D(((W - 1) / 2, (H - 1) / 2), degrees, 1)
    matrix[:, 2] += shift
    return cv2.warpAffine(image, matrix, (W, H), borderMode=cv2.BORDER_REFLECT), matrix


def test_matches_follow_a_turn_and_a_shift_that_flow_cannot():
    first = texture()
    second, matrix = turned(first, 25, (40, -6))
    points, flow = KeypointMatches([first, second].__getitem__, 2).match(0, 1)
    expected = points @ matrix[:, :2].T + matrix[:, 2] - points
    assert len(points) > 100 and np.quantile(np.linalg.norm(flow - expected, axis=1), 0.95) < 0.5


@pytest.mark.parametrize(("height", "width"), [(H, W), (399, 300), (400, 300), (16, 16)])
def test_keypoints_are_at_the_right_pixel(height, width):
    """A blob is found at its centre, whether or not the image is doubled first."""
    ys, xs = np.mgrid[:height, :width]
    x, y = width * 0.5 + 0.25, height * 0.5 - 0.25
    blob = (255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 18)).astype(np.uint8)
    found, described = detect_keypoints(blob)
    assert np.linalg.norm(found - (x, y), axis=1).min() < 0.1
    assert np.allclose(np.linalg.norm(described.astype(float), axis=1), DESCRIPTOR_LENGTH, rtol=0.01)
    assert len(found) == len(described) <= MAX_KEYPOINTS


def test_small_images_are_doubled_and_no_others():
    assert 399 * 300 < SMALL_FRAME <= 400 * 300


def test_a_repeated_pattern_has_no_match():
    """Tiles: every keypoint has twins, each as good as the others."""
    tile = texture(32, 32, seed=4)
    first, second = np.tile(tile, (4, 6)), np.roll(np.tile(tile, (4, 6)), 5, axis=1)
    matches = KeypointMatches([first, second].__getitem__, 2)
    assert len(detect_keypoints(first)[0]) > 300 and len(matches.match(0, 1)[0]) < 10


def test_matches_are_mutual(monkeypatch):
    """One keypoint is nearest to all those of the other frame, but only the best of these is its match."""
    described = {0: np.eye(9, 128) * DESCRIPTOR_LENGTH, 1: np.eye(9, 128) * DESCRIPTOR_LENGTH}
    described[1][1:] = np.eye(128)[40:48] * DESCRIPTOR_LENGTH  # of nine only the first is alike
    described[0][1:, 0] = DESCRIPTOR_LENGTH * 0.9  # and all of the others look somewhat like it
    positions = np.random.default_rng(0).uniform(0, 100, (9, 2)).astype(np.float32)
    matches = KeypointMatches([].__getitem__, 2)
    kept = []

    def agree(points, flow):
        kept.append(points)
        return points[:, 0] > 0

    monkeypatch.setattr(matches, "_keypoints", lambda index: (positions, described[index].astype(np.int16)))
    monkeypatch.setattr("preprocessing.keypoints.agrees_with_neighbours", agree)
    matches.match(0, 1)
    assert (kept[0] == positions[:1]).all()


def test_distances_are_exact():
    """So they do not depend on the order of summation, nor on the number of threads."""
    a, b = (detect_keypoints(texture(seed=seed))[1] for seed in (1, 2))
    exact = np.square(a[:, None].astype(np.int64) - b[None, :300]).sum(-1)
    assert len(a) > 300 and (squared_distances(a, b[:300]) == exact).all()


def test_without_texture_there_is_no_match_and_flow_stays():
    plain = np.full((H, W), 90, np.uint8)
    matches = KeypointMatches([plain, plain, texture()].__getitem__, 3)
    flow = np.random.default_rng(0).random((H, W, 2)).astype(np.float32)
    for pair in ((0, 1), (0, 2), (2, 0)):
        assert len(matches.match(*pair)[0]) == 0 and matches.correct(flow, *pair) is flow


def test_a_match_that_its_neighbours_contradict_is_dropped():
    points = np.random.default_rng(0).uniform(0, 100, (60, 2)).astype(np.float32)
    flow = np.array([5, 1], np.float32) + 0.1 * (points - 50)
    flow[7] += (12, 0)
    assert agrees_with_neighbours(points, flow).tolist() == [k != 7 for k in range(60)]
    assert not agrees_with_neighbours(points[:NEIGHBOURS], flow[:NEIGHBOURS]).any()


def test_only_flow_that_contradicts_a_match_is_replaced():
    first = texture()
    second, _ = turned(first, 0, (30, 4))
    matches = KeypointMatches([first, second].__getitem__, 2)
    flow = np.tile(np.array([30, 4.5], np.float32), (H, W, 1))
    assert matches.correct(flow, 0, 1) is flow
    flow[:, 40:90] = (2, 0)
    corrected = matches.correct(flow, 0, 1)
    inside, outside = (slice(10, -10), slice(45, 85)), (slice(None), slice(103, None))
    assert np.quantile(np.abs(corrected[inside] - (30, 4)), 0.95) < 0.5 and (flow[inside] == (2, 0)).all()
    assert (corrected[outside] == flow[outside]).all()


def occluded_for_a_while():
    """A patch moves by 4 px a frame behind a post that stands still and is wider than the patch."""
    ground, patch, post = texture(seed=1), texture(40, 40, seed=2), texture(H, 48, seed=3)
    frames = []
    for t in range(30):
        frame = ground.copy()
        frame[44:84, 4 + 4 * t :][:, :40] = patch[:, : W - 4 - 4 * t]
        frame[:, 72:120] = post
        frames.append(np.repeat(frame[..., None], 3, -1))
    return frames


def test_flow_finds_a_patch_again_that_was_occluded(monkeypatch):
    frames, patch = occluded_for_a_while(), (slice(50, 78), slice(10, 38))

    def error():
        ((_, flow),) = list(DisFlow(frames.__getitem__).estimate_sweeps([(0, list(range(1, 30)))]))[-1:]
        return np.abs(flow[patch] - (4 * 29, 0)).mean()

    assert error() < 0.5
    monkeypatch.setattr(KeypointMatches, "correct", lambda self, flow, *pair: flow)
    assert error() > 20


def test_matches_of_a_pair_do_not_depend_on_which_direction_came_first():
    first, second = texture(), turned(texture(), 10, (7, 3))[0]
    one, other = (KeypointMatches([first, second].__getitem__, 2) for _ in range(2))
    forwards, backwards = one.match(0, 1), one.match(1, 0)  # the second from the distances of the first
    assert len(forwards[0]) > 100 and len(backwards[0]) > 100
    for matches, again in ((backwards, other.match(1, 0)), (forwards, other.match(0, 1))):
        assert all(np.array_equal(a, b) for a, b in zip(matches, again, strict=True))
