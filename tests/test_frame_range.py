"""`--frame_range`: some frames of a source in every command, numbered in exports as they are in the source."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import evaluate
import train
import viz
from evaluation.ground_truth import exact_tracks
from preprocessing.frame_range import FrameRange
from preprocessing.frames import prepare_sequence
from preprocessing.sequence_paths import SequencePaths
from preprocessing.source_record import frame_origin, mean_rate, read_source_record
from preprocessing.sources import numbers_in_names
from tests.conftest import TINY
from tests.input_files import check_prepared, clip, prepare, write_images
from utils.images import list_frames, write_image

VIDEO = clip(9)


@pytest.mark.parametrize("folder", ["seq", "seq/color"])
def test_a_range_of_a_folder_is_copied(tmp_path, train_to_flow, folder):
    write_images(tmp_path / folder, VIDEO, "plate.{}.png", first=1001)
    said = train_to_flow(tmp_path / "seq", "--frame_range", "3:7")
    assert "left out" not in said
    root = tmp_path / "data" / "seq_3-7"
    check_prepared(root, VIDEO[3:7], 0)
    assert [path.name for path in list_frames(root / "color")] == [f"0000{i}.png" for i in range(3, 7)]
    record = json.loads((root / "source.json").read_text())
    assert record["frame_range"] == "3:7" and record["numbers"] == [1004, 1005, 1006, 1007]
    assert record["files"][0] == "plate.1004.png" and record["source_frames"] == 9
    assert (tmp_path / "out" / "tiny_seq_3-7" / "args.txt").exists()


def test_preprocessing_takes_ranges_and_numbers_alike(tmp_path):
    write_images(tmp_path / "seq" / "color", VIDEO)
    prepare(tmp_path / "seq", tmp_path, "--frame_range", "2:6")
    check_prepared(tmp_path / "data" / "seq_2-6", VIDEO[2:6], 0)
    prepare(tmp_path / "seq", tmp_path, "--frame_range", "0:9", "--num_frames", "3")
    check_prepared(tmp_path / "data" / "seq_0-3", VIDEO[:3], 0)


def test_a_long_range_is_cut_to_num_imgs(tmp_path, train_to_flow):
    write_images(tmp_path / "seq", VIDEO)
    said = train_to_flow(tmp_path / "seq", "--frame_range", "1:8", "--num_imgs", "4")
    assert said.startswith("the first 4 of 7 frames are used, 3 are left out")
    check_prepared(tmp_path / "data" / "seq_1-5", VIDEO[1:5], 0)


def test_a_sequence_in_place_says_what_is_left_out(tmp_path, train_to_flow):
    write_images(tmp_path / "seq" / "color", VIDEO)
    assert train_to_flow(tmp_path / "seq", "--num_imgs", "4").startswith("the first 4 of 9 frames are used, 5 are left")
    assert not (tmp_path / "data").exists()


def test_masks_and_tracks_follow_their_frames(tmp_path):
    root = tmp_path / "seq"
    write_images(root / "color", VIDEO, "{}.png")
    for t in range(9):
        mask = np.zeros((32, 48), np.uint8)
        mask[:, : t + 1] = 255
        write_image(root / "mask" / f"{t}.png", mask)
    points = np.stack([np.arange(9.0), np.zeros(9)], -1)[None].astype(np.float32)
    np.savez(root / "gt_tracks.npz", points=points, occluded=np.zeros((1, 9), bool))
    paths = prepare_sequence(root, None, tmp_path / "data", frame_range="1:8:3")
    assert paths.root.name == "seq_1-8-3"
    assert [path.name for path in sorted(paths.mask.iterdir())] == ["00001.png", "00004.png", "00007.png"]
    tracks = exact_tracks(paths.gt_tracks, (32, 48), 3)
    assert tracks.points[0, :, 0].tolist() == [1, 4, 7]


def test_a_mask_folder_of_the_whole_clip_fits_a_range(tmp_path, train_to_flow):
    write_images(tmp_path / "seq", VIDEO, "plate.{}.png", first=1001)
    for t in range(9):
        mask = np.zeros((32, 48), np.uint8)
        mask[:, : 2 * t + 2] = 255
        write_image(tmp_path / "masks" / f"plate.{1001 + t}.png", mask)
    flags = ["--frame_range", "3:7", "--mask_dir", str(tmp_path / "masks")]
    assert "4 of 4 frames have a mask" in train_to_flow(tmp_path / "seq", *flags)


@pytest.fixture
def ranged_run(scene_dir, tmp_path, monkeypatch) -> Path:
    """A run on every second frame of the scene, whose exact tracks are of all its frames."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("visualization.tensorboard.training_images", lambda *args, **kwargs: {})
    for draw in ("save_grid", "save_trails"):
        monkeypatch.setattr(f"visualization.styles.{draw}", lambda *args: [])
    train.main([*TINY.split(), "--data_dir", str(scene_dir), "--frame_range", "1:6:2", "--num_iters", "1"])
    return tmp_path / "out" / "tiny_scene_1-6-2"


def test_a_range_is_scored_against_the_tracks_of_its_frames(ranged_run, scene_dir):
    """The truth of the copy, and that of the whole sequence, give the same scores."""
    found = []
    for truth in ([], ["--gt", str(scene_dir / "gt_tracks.npz")]):
        evaluate.main(["--run", str(ranged_run), *truth])
        scores = json.loads((ranged_run / "scores.json").read_text())
        assert scores["settings"]["frame_range"] == "1:6:2"
        found.append({key: scores[key] for key in ("videos", "by_gap", "by_group")})
    assert found[0] == found[1] and len(found[0]["videos"]["scene"]) == 3
    with np.load(ranged_run / "tracks_strided.npz") as tracks:
        assert len(tracks["tracks"]) == 3
    expected = exact_tracks(scene_dir / "gt_tracks.npz", (40, 56)).points[:, [1, 3, 5]]
    copied = exact_tracks(Path("data/scene_1-6-2/gt_tracks.npz"), (40, 56)).points
    np.testing.assert_allclose(copied, expected)


def test_exports_have_the_sources_frame_numbers(ranged_run):
    viz.main(["--run", str(ranged_run), "--export", "csv,nuke,flow,depth", "--grid_interval", "20"])
    folder = ranged_run / "export"
    with (folder / "tracks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["frame"] for row in rows} == {"1", "3", "5"} and {row["time"] for row in rows} == {""}
    assert sorted(path.stem for path in (folder / "depth").glob("*.npy")) == ["00001", "00003", "00005"]
    assert sorted(path.stem for path in (folder / "flow").glob("*.npy"))[-1] == "00001_00005"
    assert "frames 1-5" in (folder / "tracks.nk").read_text() and "x3 " in (folder / "tracks.nk").read_text()
    viz.main(["--run", str(ranged_run), "--export", "depth", "--first_frame", "101", "--out", "other"])
    assert sorted(path.stem for path in Path("other/depth").glob("*.npy")) == ["00101", "00103", "00105"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "expected a:b or a:b:step"),
        ("a:b", "expected a:b or a:b:step"),
        ("1:2:3:4", "expected a:b or a:b:step"),
        ("4:5", "holds no two frames"),
        ("4:2", "holds no two frames"),
        ("0:9:0", "step"),
        ("-1:9", "frame_range"),
        ("0:9:9", "holds no two frames"),
        ("2:10", "expected an end of at most 9"),
    ],
)
def test_ranges_without_frames_are_refused(tmp_path, refused_by_train, text, message):
    write_images(tmp_path / "seq" / "color", VIDEO)
    said = refused_by_train(tmp_path / "seq", "--frame_range", text)
    assert "--frame_range" in said and message in said


def test_a_range_is_cut_to_a_limit():
    assert str(FrameRange.parse("3:20:4").cut(3)) == "3:12:4" and list(FrameRange(3, 12, 4).ids) == [3, 7, 11]
    assert FrameRange(0, 9).cut(None) == FrameRange(0, 9).cut(9) == FrameRange(0, 9)


def test_numbers_are_taken_from_names_where_they_increase():
    assert numbers_in_names(["a.1001.png", "a.1003.png"]) == [1001, 1003]
    assert list(numbers_in_names(["b7.png", "a7.png"])) == [7, 8]
    assert list(numbers_in_names(["x.png", "y.png"])) == [0, 1]


def test_the_origin_of_a_sequence_that_is_no_copy(tmp_path):
    origin = frame_origin(SequencePaths(tmp_path), ["a.1001.png", "a.1003.png"])
    assert list(origin.ids) == [0, 1] and origin.numbers == [1001, 1003] and origin.times is origin.fps is None


@pytest.mark.parametrize("content", ["", "[1]", '{"frame_range": 3}', '{"frame_range": "9:1"}', '{"scaled_from": "x"}'])
def test_a_damaged_record_is_none(tmp_path, content):
    (tmp_path / "source.json").write_text(content)
    assert read_source_record(SequencePaths(tmp_path)) == {}


def test_the_mean_rate():
    assert mean_rate([0.0, 0.1, 0.4]) == pytest.approx(5) and mean_rate([0.0, None, 1.0]) is None
    assert mean_rate([1.0]) is None and mean_rate([1.0, 1.0]) is None
