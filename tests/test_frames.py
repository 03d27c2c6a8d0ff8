"""From a video, a folder or a sequence to a sequence folder."""

import json
import os

import cv2
import numpy as np
import pytest

from preprocessing.frames import prepare_sequence, scaled_size
from utils.conventions import scale_points
from utils.errors import InputError
from utils.images import decode_image, list_frames, read_frame, write_image
from utils.masks import read_mask
from utils.video import write_video


def frame(t, height=20, width=30):
    image = np.full((height, width, 3), 40 + 50 * t, np.uint8)
    image[:, :5] = (250, 0, 0)
    return image


@pytest.fixture
def folder(tmp_path):
    """Images whose order as text is not their natural order."""
    for t, name in enumerate(("1.png", "2.png", "10.png")):
        write_image(tmp_path / "in" / "shots" / name, frame(t))
    return tmp_path / "in" / "shots"


@pytest.fixture
def sequence(tmp_path):
    root = tmp_path / "in" / "seq"
    for t in range(3):
        write_image(root / "color" / f"{t}.png", frame(t))
        mask = np.zeros((20, 30), np.uint8)
        mask[10:] = 255
        if t != 1:
            write_image(root / "mask" / f"{t}.png", mask)
    points = np.array([[[0.0, 0.0], [29.0, 19.0], [14.5, 9.5]]], np.float32)
    np.savez(root / "gt_tracks.npz", points=points, occluded=np.zeros((1, 3), bool))
    return root


def test_the_longer_side_fits_and_nothing_grows():
    assert scaled_size(480, 854, 256) == (144, 256)
    assert scaled_size(854, 480, 256) == (256, 144)
    assert scaled_size(100, 50, 256) == scaled_size(100, 50, None) == (100, 50)


def test_points_scale_about_the_image_edges():
    old, new = (20, 30), (10, 15)
    corners = np.array([[-0.5, -0.5], [29.5, 19.5], [14.5, 9.5]])
    assert np.allclose(scale_points(corners, old, new), [[-0.5, -0.5], [14.5, 9.5], [7, 4.5]])


def test_a_scaled_point_still_lies_on_its_pixel():
    """Oracle: the centre of mass of a blob in an image that OpenCV resized."""
    image = np.zeros((40, 60), np.float32)
    image[11:15, 33:39] = 1
    small = cv2.resize(image, (30, 20), interpolation=cv2.INTER_AREA)
    ys, xs = np.mgrid[:20, :30]
    mass = np.array([(small * xs).sum(), (small * ys).sum()]) / small.sum()
    assert np.allclose(scale_points(np.array([35.5, 12.5]), (40, 60), (20, 30)), mass, atol=1e-5)


def test_a_folder_of_images_is_copied_in_natural_order(folder, tmp_path):
    paths = prepare_sequence(folder, None, tmp_path / "data")
    assert paths.root == tmp_path / "data" / "shots"
    frames = list_frames(paths.color)
    assert [p.name for p in frames] == ["00000.png", "00001.png", "00002.png"]
    assert [read_frame(p)[0, 20, 0] for p in frames] == [40, 90, 140]


def test_a_sequence_that_fits_is_used_in_place(sequence, tmp_path):
    for max_side in (None, 30, 400):
        assert prepare_sequence(sequence, max_side, tmp_path / "data").root == sequence
    assert not (tmp_path / "data").exists()


def test_a_read_only_sequence_is_copied(sequence, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode == os.W_OK and path == sequence))
    assert prepare_sequence(sequence, None, tmp_path / "data").root == tmp_path / "data" / "seq"


def test_a_smaller_copy_takes_masks_and_tracks_along(sequence, tmp_path):
    paths = prepare_sequence(sequence, 15, tmp_path / "data")
    assert paths.root.name == "seq_15"
    assert read_frame(paths.color / "00000.png").shape == (10, 15, 3)
    assert sorted(p.name for p in paths.mask.iterdir()) == ["00000.png", "00002.png"]
    assert read_mask(paths.mask / "00002.png", 10, 15).foreground[:, 0].tolist() == [False] * 5 + [True] * 5
    tracks = np.load(paths.gt_tracks)
    assert np.allclose(tracks["points"][0], [[-0.25, -0.25], [14.25, 9.25], [7, 4.5]])
    assert tracks["points"].dtype == np.float32 and tracks["occluded"].shape == (1, 3)


def test_a_smaller_copy_of_an_rgba_mask_selects_the_same(sequence, tmp_path):
    mask = np.full((20, 30, 4), (250, 200, 100, 0), np.uint8)
    mask[10:, ..., 3] = 255
    write_image(sequence / "mask" / "1.png", mask)
    copied = prepare_sequence(sequence, 15, tmp_path / "data").mask / "00001.png"
    assert (decode_image(copied)[-1, 0] == (100, 200, 250, 255)).all()
    assert read_mask(copied, 10, 15).foreground[:, 0].tolist() == [False] * 5 + [True] * 5


def test_a_video_is_unpacked(tmp_path):
    write_video(tmp_path / "clip.mp4", np.stack([frame(t, 32, 48) for t in range(3)]))
    paths = prepare_sequence(tmp_path / "clip.mp4", 24, tmp_path / "data")
    assert paths.root.name == "clip_24"
    assert read_frame(paths.color / "00002.png").shape == (16, 24, 3)
    record = json.loads((paths.root / "source.json").read_text())
    assert record["num_frames"] == 3 and record["source"] == str((tmp_path / "clip.mp4").resolve())


def test_a_copy_is_made_once_and_refused_when_the_source_has_changed(folder, tmp_path):
    paths = prepare_sequence(folder, None, tmp_path / "data")
    made = (paths.color / "00000.png").stat().st_mtime_ns
    assert prepare_sequence(folder, None, tmp_path / "data") == paths
    assert (paths.color / "00000.png").stat().st_mtime_ns == made
    write_image(folder / "11.png", frame(3))
    with pytest.raises(InputError, match=r"delete or rename the folder .*data/shots"):
        prepare_sequence(folder, None, tmp_path / "data")


def test_a_strange_folder_in_the_way_is_not_touched(folder, tmp_path):
    write_image(tmp_path / "data" / "shots" / "color" / "0.png", frame(0))
    with pytest.raises(InputError, match=r"no source\.json"):
        prepare_sequence(folder, None, tmp_path / "data")
    assert len(list((tmp_path / "data" / "shots" / "color").iterdir())) == 1


def test_a_folder_inside_the_data_root_is_not_its_own_copy(folder):
    assert prepare_sequence(folder, None, folder.parent).root == folder.parent / "shots_frames"


def test_a_killed_copy_is_done_again(folder, tmp_path):
    (tmp_path / "data" / ".shots.partial" / "color").mkdir(parents=True)
    (tmp_path / "data" / ".shots.partial" / "color" / "00007.png").write_bytes(b"half")
    paths = prepare_sequence(folder, None, tmp_path / "data")
    assert len(list_frames(paths.color)) == 3
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["shots"]


def test_sources_that_cannot_be_used(folder, tmp_path):
    with pytest.raises(InputError, match="nothing at"):
        prepare_sequence(tmp_path / "none", None, tmp_path / "data")
    (tmp_path / "song.mp3").write_bytes(b"la")
    with pytest.raises(InputError, match=r"song\.mp3 as a video \(.*Invalid data found"):
        prepare_sequence(tmp_path / "song.mp3", None, tmp_path / "data")
    write_image(folder / "3.png", frame(0, 10, 10))
    with pytest.raises(InputError, match=r"3\.png is 10x10 but the first is 30x20"):
        prepare_sequence(folder, None, tmp_path / "data")
    assert not (tmp_path / "data" / "shots").exists()
