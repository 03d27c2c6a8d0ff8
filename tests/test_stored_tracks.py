"""Scores of tracks that other trackers stored in files."""

import json
import pickle

import numpy as np
import pytest

import evaluate
from evaluation.queries import queries_first
from evaluation.stored_tracks import stored_tracker
from utils.errors import InputError


def refusal(flags: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(flags)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_stored_tracks_are_predictions_for_the_queries_in_order(tmp_path):
    queries = np.array([[0, 5, 5], [1, 50, 20]], np.float32)
    tracks = np.array([[[5, 5], [50, 20]], [[6, 5], [50, 20]], [[7, 5], [51, 20]]], np.float32)  # [T,N,2]
    path = tmp_path / "tracks.npz"
    np.savez(path, tracks=tracks, visibility=np.array([[1, 1], [1, 1], [0, 1]]))
    px, occluded = stored_tracker(path, 3, (40, 60))(queries)
    assert np.array_equal(px, tracks.swapaxes(0, 1)) and occluded.tolist() == [[False, False, True], [False] * 3]
    with pytest.raises(InputError, match="2 tracks, but there are 1 queries"):
        stored_tracker(path, 3, (40, 60))(queries[:1])
    with pytest.raises(InputError, match="in the order of the queries"):
        stored_tracker(path, 3, (40, 60))(queries[::-1])


def test_a_folder_of_tracks_is_scored_against_a_pickle(tmp_path, capsys):
    """Two videos of 256x256, tracks exact, but in one of them marked as occluded: the mean shows it."""
    rng, videos = np.random.default_rng(0), {}
    for name, visible in (("goat", True), ("lion", False)):
        points, occluded = rng.uniform(20, 230, (5, 7, 2)), rng.random((5, 7)) < 0.2
        ids, _ = queries_first(occluded)
        np.savez(
            tmp_path / f"{name}.npz", tracks=points[ids].swapaxes(0, 1), visibility=(~occluded[ids].T) & visible | False
        )
        videos[name] = {"video": [], "points": (points + 0.5) / 256, "occluded": occluded}
    (tmp_path / "tapvid.pkl").write_bytes(pickle.dumps(videos))
    flags = ["--tracks", str(tmp_path), "--gt", str(tmp_path / "tapvid.pkl"), "--query_mode", "first"]
    evaluate.main(flags)  # a pickle needs no --benchmark
    printed, content = capsys.readouterr().out, json.loads((tmp_path / "scores.json").read_text())
    goat, lion = (content["videos"][name]["tracks"] for name in ("goat", "lion"))
    assert goat["AJ"] == goat["OA"] == goat["<d_avg"] == lion["<d_avg"] == 1 and lion["AJ"] < 0.5
    assert content["mean"]["tracks"]["AJ"] == pytest.approx((1 + lion["AJ"]) / 2) and "mean of 2 videos" in printed
    assert content["benchmark"] == "tapvid" and "px occluded" not in goat  # it holds no positions there


def test_several_trackers_are_compared_on_one_video(scene_dir, tmp_path, capsys):
    """The truth as a tracker, and one that stands still."""
    with np.load(scene_dir / "gt_tracks.npz") as file:
        points, occluded = file["points"], file["occluded"]
    ids, frames = queries_first(occluded)
    still = np.repeat(points[ids, frames][None], points.shape[1], 0)
    for name, tracks in (("exact", points[ids].swapaxes(0, 1)), ("still", still)):
        np.savez(tmp_path / f"{name}.npz", tracks=tracks, visibility=~occluded[ids].T)
    evaluate.main(["--tracks", str(tmp_path), "--gt", str(scene_dir / "gt_tracks.npz"), "--query_mode", "first"])
    rows = json.loads((tmp_path / "scores.json").read_text())["videos"]["scene"]
    exact = {"AJ": 1, "<d_avg": 1, "OA": 1} | dict.fromkeys(list(rows["exact"])[3:], 0)
    assert rows["exact"] == pytest.approx(exact, abs=1e-4)
    assert rows["still"]["<d_avg"] < 0.7 and rows["still"]["TC"] > 0


def test_stored_positions_must_be_finite_where_occluded_too(scene_dir, tmp_path, capsys):
    with np.load(scene_dir / "gt_tracks.npz") as file:
        points, occluded = file["points"], file["occluded"]
    ids, _ = queries_first(occluded)
    points, visible = points[ids].swapaxes(0, 1).copy(), ~occluded[ids].T
    visible[3, 1], points[3, 1] = False, np.nan
    np.savez(tmp_path / "tracks.npz", tracks=points, visibility=visible)
    flags = ["--tracks", str(tmp_path / "tracks.npz"), "--gt", str(scene_dir / "gt_tracks.npz")]
    assert "point 1 is not finite in frame 3" in refusal([*flags, "--query_mode", "first"], capsys)
