"""evaluate.py: a model, its flow and stored tracks; tables, files and refusals."""

import json
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from answers import random_answers
from conftest import TINY

import evaluate
from evaluation.error_figure import error_figure
from evaluation.ground_truth import KeypointTruth, TrackTruth
from evaluation.metrics import tap_vid_metrics
from evaluation.queries import queries_first
from evaluation.runs import mean_rows
from evaluation.scoring import Scores, score
from train import main as train


@pytest.fixture(scope="module")
def run_folder(scene_dir, tmp_path_factory) -> Path:
    """What a training of two steps leaves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        train([*TINY.split(), "--data_dir", str(scene_dir), "--num_iters", "2"])
        return Path("out/tiny_scene").resolve()


@pytest.fixture
def trained(tiny_flags, run_folder) -> list[str]:
    """Flags of that training, whose run is in the test's own folder."""
    shutil.copytree(run_folder, "out/tiny_scene")
    return tiny_flags


def refusal(flags: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(flags)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_scores_are_printed_and_written_with_where_they_come_from(trained, capsys):
    evaluate.main([*trained, "--split", "gap"])
    printed, folder = capsys.readouterr().out, Path("out") / "tiny_scene"
    content = json.loads((folder / "scores.json").read_text())
    rows = content["videos"]["scene"]
    assert list(rows) == ["direct flow", "chained flow", "OmniMotion"] and content["mean"] == rows
    for name, row in rows.items():
        assert f"{name}, gap 1-2" in printed and f"{row['AJ']:.3f}" in printed
        assert 0 <= row["AJ"] <= row["<d_avg"] <= 1 and row["TC"] >= 0
        assert set(content["by_gap"]["scene"][name]) == {"gap 1-2", "gap 3-4", "gap 5-5"}
    assert content["settings"]["num_samples_ray"] == 4 and content["benchmark"] == "tracks"
    trained_by = content["trained"]["scene"]
    assert trained_by["checkpoint"].endswith("model_000002.pth") and trained_by["step"] == 2
    assert trained_by["flags"]["num_pts"] == 16
    assert (
        "commit" in content
        and all(content[key] for key in ("date", "processor", "cores", "torch", "python"))
        and content["seconds"] >= 0
    )
    assert (folder / "errors.png").exists()


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_stored_tracks_of_the_model_score_as_the_model(mode, trained, scene_dir, capsys):
    evaluate.main([*trained, "--query_mode", mode])
    folder = Path("out") / "tiny_scene"
    model = json.loads((folder / "scores.json").read_text())["videos"]["scene"]["OmniMotion"]
    tracks, gt = str(folder / f"tracks_{mode}.npz"), str(scene_dir / "gt_tracks.npz")
    # The flags of a training may be among them: they name a folder, but tracks that it was not trained on.
    evaluate.main([*(trained if mode == "first" else []), "--tracks", tracks, "--gt", gt, "--query_mode", mode])
    stored = json.loads((folder / f"tracks_{mode}.scores.json").read_text())["videos"]["scene"][f"tracks_{mode}"]
    assert stored == pytest.approx(model)


def test_a_folder_of_tracks_is_scored_against_a_pickle(tmp_path, capsys):
    """Two videos of 256x256, tracks exact, but in one of them called hidden: the mean says so."""
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
    evaluate.main(flags)  # the pickle says what it is
    printed, content = capsys.readouterr().out, json.loads((tmp_path / "scores.json").read_text())
    goat, lion = (content["videos"][name]["tracks"] for name in ("goat", "lion"))
    assert goat["AJ"] == goat["OA"] == goat["<d_avg"] == lion["<d_avg"] == 1 and lion["AJ"] < 0.5
    assert content["mean"]["tracks"]["AJ"] == pytest.approx((1 + lion["AJ"]) / 2) and "mean of 2 videos" in printed
    assert content["benchmark"] == "tapvid" and "px occluded" not in goat  # it knows no positions there


def test_stored_positions_must_be_known_where_they_are_hidden_too(scene_dir, tmp_path, capsys):
    with np.load(scene_dir / "gt_tracks.npz") as file:
        points, occluded = file["points"], file["occluded"]
    ids, _ = queries_first(occluded)
    points, visible = points[ids].swapaxes(0, 1).copy(), ~occluded[ids].T
    visible[3, 1], points[3, 1] = False, np.nan
    np.savez(tmp_path / "tracks.npz", tracks=points, visibility=visible)
    flags = ["--tracks", str(tmp_path / "tracks.npz"), "--gt", str(scene_dir / "gt_tracks.npz")]
    assert "point 1 is not finite in frame 3" in refusal([*flags, "--query_mode", "first"], capsys)


def test_keypoints_are_asked_in_the_first_annotated_frame():
    """Frames 1, 3 and 4 are annotated; the second keypoint is not seen in frame 1 and not asked for."""
    points, visible = np.full((2, 3, 2), 20.0), np.array([[True, True, True], [False, True, True]])
    truth = KeypointTruth(points, visible, np.array([1, 3, 4]), np.full(3, 400.0), num_frames=6, size=(40, 50))

    def tracker(errors: tuple[float, float]):
        def track(queries):
            assert queries.tolist() == [[1, 20, 20]]
            tracks = np.full((1, 6, 2), 1e3)
            tracks[0, [1, 3, 4]] = 20
            tracks[0, [3, 4], 0] += errors
            return tracks, np.zeros((1, 6), bool)

        return track

    for errors, within_area, within_3px in (((0, 0), 1, 1), ((2.9, 3.1), 1, 0.5), ((3.9, 4.1), 0.5, 0)):
        row = score(tracker(errors), truth).row  # 0.2 * sqrt(400) = 4 px
        assert row == pytest.approx({"0.2 area": within_area, "3 px": within_3px})


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


def test_a_folder_of_sequences_is_scored_run_by_run(trained, scene_dir, capsys):
    for name in ("one", "two", ".unfinished"):
        shutil.copytree(scene_dir, Path("videos") / name)
    flags = [*trained, "--data_dir", "videos"]
    shutil.copytree("out/tiny_scene", "out/tiny_one")
    assert "no checkpoint in out/tiny_two" in refusal(flags, capsys)
    checkpoint = ["--ckpt_path", "out/tiny_scene/model_000002.pth"]
    assert "one checkpoint, but videos holds 2" in refusal([*flags, *checkpoint], capsys)
    shutil.copytree("out/tiny_scene", "out/tiny_two")
    evaluate.main(flags)
    assert "mean of 2 videos" in capsys.readouterr().out
    content = json.loads(Path("out/tiny_scores.json").read_text())
    assert list(content["videos"]) == ["one", "two"] and Path("out/tiny_two/scores.json").exists()
    assert content["mean"]["OmniMotion"] == pytest.approx(content["videos"]["one"]["OmniMotion"])


def test_without_a_model_or_exact_tracks_it_refuses(tiny_flags, scene_dir, tmp_path, capsys):
    assert "train first" in refusal(tiny_flags, capsys)
    assert "--gt is not given" in refusal(["--tracks", "x.npz"], capsys)
    assert "--gt nowhere.npz" in refusal(["--tracks", "x.npz", "--gt", "nowhere.npz"], capsys)
    np.savez("alone.npz", points=np.zeros((1, 3, 2)), occluded=np.zeros((1, 3)))
    assert "no color/" in refusal(["--tracks", "x.npz", "--gt", "alone.npz"], capsys)
    train([*tiny_flags, "--num_iters", "1"])
    (tmp_path / "bare" / "scene").mkdir(parents=True)
    (tmp_path / "bare" / "scene" / "color").symlink_to(scene_dir / "color")
    assert "gt_tracks.npz is missing" in refusal([*tiny_flags, "--data_dir", "bare/scene"], capsys)
    assert "badja.json" in refusal([*tiny_flags, "--benchmark", "badja"], capsys)
    assert "drop one of them" in refusal([*tiny_flags, "--benchmark", "badja", "--split", "gap"], capsys)


def test_gaps_share_out_the_entries():
    """Scores of the parts are those of the whole, weighted by their entries: shown for the accuracy of occlusion."""
    truth = random_answers(1, n=20, t=40)

    def track(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(len(queries))
        return rng.uniform(0, 80, (len(queries), 40, 2)), rng.random((len(queries), 40)) < 0.5

    scores = score(track, TrackTruth(truth.gt_tracks, truth.gt_occluded, truth.size, exact=False))
    distance = np.abs(scores.answers.gaps)
    assert list(scores.by_gap) == ["gap 1-2", "gap 3-4", "gap 5-8", "gap 9-16", "gap 17-32", "gap 33-39"]
    total = 0.0
    for name, row in scores.by_gap.items():
        low, high = map(int, name.removeprefix("gap ").split("-"))
        inside = (distance >= low) & (distance <= high)
        assert row["OA"] == tap_vid_metrics(scores.answers, inside).oa
        total += row["OA"] * inside.sum()
    assert total / (distance > 0).sum() == pytest.approx(scores.row["OA"])


def test_the_mean_skips_what_a_video_lacks():
    results = {
        "a": {"flow": Scores({"AJ": 0.2, "TC": math.nan})},
        "b": {"flow": Scores({"AJ": 0.4, "TC": 3.0}), "model": Scores({"AJ": math.nan, "TC": math.nan})},
    }
    means = mean_rows(results)
    assert means["flow"] == pytest.approx({"AJ": 0.3, "TC": 3.0}) and math.isnan(means["model"]["AJ"])


def test_errors_are_drawn_for_any_answers():
    """With a mask and without, and where no query is asked at all."""
    video = np.zeros((12, 90, 140, 3), np.uint8)
    answers = random_answers(0)
    on = np.arange(7) % 2 == 0
    pictures = [error_figure(video, {"flow": answers, "model": answers}, mask) for mask in (on, None)]
    assert pictures[0].shape == pictures[1].shape and not np.array_equal(*pictures)
    nothing = random_answers(0, n=0)
    assert error_figure(video, {"model": nothing}, None).dtype == np.uint8
