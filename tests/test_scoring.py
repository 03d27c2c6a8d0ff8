"""evaluate.py and the flow baseline on the small scene."""

import json
from pathlib import Path

import numpy as np
import pytest

import evaluate
from loaders.flow_store import FlowStore
from loaders.flow_tracker import FlowTracker
from loaders.sequence import load_video
from scoring import load_exact_tracks
from train import main as train
from utils.flow_files import write_flow
from utils.paths import SequencePaths
from utils.tap_metrics import evaluate_tracker


def test_scores_are_printed_and_written(tiny_flags, capsys):
    train([*tiny_flags, "--num_iters", "2"])
    capsys.readouterr()
    evaluate.main(tiny_flags)
    printed = capsys.readouterr().out
    rows = json.loads((Path("out") / "tiny_scene" / "scores.json").read_text())
    assert set(rows) == {"raw flow", "OmniMotion"}
    for name, row in rows.items():
        assert name in printed and f"{row['AJ']:.3f}" in printed
        assert 0 <= row["AJ"] <= row["<d_avg"] <= 1


def test_without_a_model_or_exact_tracks_it_refuses(tiny_flags, scene_dir, tmp_path, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(tiny_flags)
    assert "train first" in capsys.readouterr().err
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "color").symlink_to(scene_dir / "color")
    with pytest.raises(SystemExit):
        evaluate.main([*tiny_flags, "--data_dir", str(tmp_path / "bare")])
    assert "gt_tracks.npz is missing" in capsys.readouterr().err


def test_flow_tracks_through_the_pairs_there_are(tmp_path):
    """Frames shift by (1, 0) a step; without the pair 0 → 3 the way leads over 2."""
    paths, names = SequencePaths(tmp_path), [f"{t}.png" for t in range(4)]
    pairs = {(0, 1), (1, 2), (2, 3), (0, 2)}
    pairs |= {(j, i) for i, j in pairs}
    stats = {a: {} for a in names}
    for i, j in pairs:
        write_flow(paths, names[i], names[j], np.full((20, 30, 2), (j - i, 0), np.float32))
        stats[names[i]][names[j]] = 1
    paths.flow_stats.write_text(json.dumps(stats))
    tracker = FlowTracker(FlowStore(paths, names), 20, 30)
    assert tracker._hops(0, 3) == [(0, 2), (2, 3)] and tracker._hops(3, 0) == [(3, 2), (2, 0)]
    tracks, occluded = tracker(np.array([[0, 10, 5], [3, 27.5, 5], [0, 27, 5]], np.float32))
    np.testing.assert_allclose(tracks[:2, :, 0], [[10, 11, 12, 13], [24.5, 25.5, 26.5, 27.5]], atol=1e-5)
    assert occluded.tolist() == [[False] * 4, [False] * 4, [False, False, False, True]]


def test_flow_tracks_a_known_motion(tmp_path):
    """Frames shift by (2, 1) a step; the flow says so, but for one pair that contradicts its way back."""
    paths, names = SequencePaths(tmp_path), ["0.png", "1.png", "2.png"]
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            flow = np.full((20, 30, 2), (2 * (j - i), j - i), np.float32)
            if (i, j) == (2, 0):
                flow += 5
            write_flow(paths, a, b, flow)
    paths.flow_stats.write_text(json.dumps({a: dict.fromkeys(names, 1) for a in names}))
    tracks, occluded = FlowTracker(FlowStore(paths, names), 20, 30)(np.array([[0, 10, 5], [1, 28.5, 5]], np.float32))
    np.testing.assert_allclose(tracks[0], [[10, 5], [12, 6], [14, 7]], atol=1e-5)
    np.testing.assert_allclose(tracks[1], [[26.5, 4], [28.5, 5], [30.5, 6]], atol=1e-5)
    assert occluded.tolist() == [[False, False, True], [False, False, True]]


def test_flow_baseline_is_a_fair_one(scene_dir):
    paths = SequencePaths(scene_dir)
    names, video = load_video(paths)
    height, width = video.shape[1:3]
    tracker = FlowTracker(FlowStore(paths, names, prefer_chained=False), height, width)
    scores = evaluate_tracker(tracker, *load_exact_tracks(paths, len(names)), height, width)
    assert scores.d_avg > 0.3 and scores.oa > 0.7


def test_exact_tracks_are_cut_to_the_frames_in_use(scene_dir, tmp_path):
    points, occluded = load_exact_tracks(SequencePaths(scene_dir), 4)
    assert points.shape[1] == occluded.shape[1] == 4
    assert load_exact_tracks(SequencePaths(tmp_path), 4) is None
