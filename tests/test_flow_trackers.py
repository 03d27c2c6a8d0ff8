"""Tracking by flow: known motions, missing pairs, inconsistent flows."""

import json
from collections.abc import Mapping

import numpy as np
import pytest

from evaluation.flow_trackers import ChainedFlowTracker, DirectFlowTracker
from evaluation.ground_truth import exact_tracks
from evaluation.metrics import tap_vid_metrics
from evaluation.queries import run_tracker
from loaders.clip import load_video
from loaders.flow_store import FlowStore
from preprocessing.flow_files import write_flow
from preprocessing.sequence_paths import SequencePaths
from utils.images import write_image


def constant_flow_store(tmp_path, flows: Mapping[tuple[int, int], tuple[float, float]], num_frames: int) -> FlowStore:
    """Return a store of constant flow for the given pairs; frames are 30 wide, 20 high."""
    paths, names = SequencePaths(tmp_path), [f"{t}.png" for t in range(num_frames)]
    stats: dict[str, dict[str, int]] = {a: {} for a in names}
    for (i, j), flow in flows.items():
        write_flow(paths, names[i], names[j], np.full((20, 30, 2), flow, np.float32))
        stats[names[i]][names[j]] = 1
    for name in names:
        write_image(paths.color / name, np.zeros((20, 30, 3), np.uint8))
    paths.flow_stats.write_text(json.dumps(stats))
    return FlowStore(paths, names)


def test_direct_flow_goes_through_available_pairs(tmp_path):
    """Frames shift by (1, 0) a step; without the pair 0 → 3 the path leads over 2."""
    pairs = [(0, 1), (1, 2), (2, 3), (0, 2)]
    flows = {(i, j): (j - i, 0) for a, b in pairs for i, j in ((a, b), (b, a))}
    tracker = DirectFlowTracker(constant_flow_store(tmp_path, flows, 4), 20, 30)
    assert tracker._hops(0, 3) == [(0, 2), (2, 3)] and tracker._hops(3, 0) == [(3, 2), (2, 0)]
    tracks, occluded = tracker(np.array([[0, 10, 5], [3, 27.5, 5], [0, 27, 5]], np.float32))
    np.testing.assert_allclose(tracks[:2, :, 0], np.array([10, 24.5])[:, None] + np.arange(4), atol=1e-5)
    assert occluded.astype(int).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("kind", [DirectFlowTracker, ChainedFlowTracker])
def test_a_known_motion(kind, tmp_path):
    """Frames shift by (2, 1) a step. Of direct flow one pair contradicts its way back; chained flow does not use it."""
    flows = {(i, j): (2 * (j - i), j - i) for i in range(3) for j in range(3) if i != j}
    flows[2, 0] = (1, 3)
    tracker = kind(constant_flow_store(tmp_path, flows, 3), 20, 30)
    tracks, occluded = tracker(np.array([[0, 10, 5], [1, 28.5, 5]], np.float32))
    np.testing.assert_allclose(tracks[0], [[10, 5], [12, 6], [14, 7]], atol=1e-5)
    np.testing.assert_allclose(tracks[1], [[26.5, 4], [28.5, 5], [30.5, 6]], atol=1e-5)
    assert occluded.tolist() == [[False, False, kind is DirectFlowTracker], [False, False, True]]


def test_a_point_lost_by_a_chain_stays_lost(tmp_path):
    """1 → 2 contradicts 2 → 1: from frame 0, and from 3 backwards, all beyond that step is occluded."""
    flows = {(i, j): (j - i, 0) for i in range(4) for j in range(4) if abs(i - j) == 1}
    flows[1, 2] = (6, 0)
    tracks, occluded = ChainedFlowTracker(constant_flow_store(tmp_path, flows, 4), 20, 30)(
        np.array([[0, 10, 5], [3, 10, 5]], np.float32)
    )
    np.testing.assert_allclose(tracks[:, :, 0], [[10, 11, 17, 18], [7, 8, 9, 10]])
    assert occluded.tolist() == [[False, False, True, True], [True, True, False, False]]


@pytest.mark.parametrize("kind", [DirectFlowTracker, ChainedFlowTracker])
def test_the_baselines_are_fair_ones(kind, scene_dir):
    paths = SequencePaths(scene_dir)
    names, video = load_video(paths)
    size = video.shape[1:3]
    truth = exact_tracks(paths.gt_tracks, size)
    tracker = kind(FlowStore(paths, names, prefer_chained=False), *size)
    scores = tap_vid_metrics(run_tracker(tracker, truth.points, truth.occluded, size))
    assert scores.d_avg > 0.3 and scores.oa > 0.7
