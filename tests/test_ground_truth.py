"""Ground truth of a clip: exact tracks, TAP-Vid's pickles, BADJA's labels."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from evaluation.ground_truth import badja_keypoints, exact_tracks, frame_size, tapvid_tracks
from loaders.clip_masks import ClipMasks
from preprocessing.sequence_paths import SequencePaths
from utils.errors import InputError
from utils.images import list_frames, write_image
from utils.mask_files import mask_files
from utils.masks import read_mask


def test_exact_tracks_are_cut_and_scaled_as_the_frames(tmp_path):
    points = np.array([[[-0.5, -0.5], [39.5, 19.5], [3, 4]]], np.float32)  # the corners of 40x20, and one more frame
    np.savez(tmp_path / "gt_tracks.npz", points=points, occluded=np.zeros((1, 3), bool))
    beside = exact_tracks(tmp_path / "gt_tracks.npz", (20, 40), 2)
    assert np.array_equal(beside.points, points[:, :2]) and beside.exact
    write_image(tmp_path / "color" / "0.png", np.zeros((20, 40, 3), np.uint8))
    assert frame_size(SequencePaths(tmp_path)) == (20, 40)
    halved = exact_tracks(tmp_path / "gt_tracks.npz", (10, 20))
    np.testing.assert_allclose(halved.points[0, :2], [[-0.5, -0.5], [19.5, 9.5]])


def test_tracks_with_unknown_positions_are_not_exact(tmp_path):
    """Tracks in the form that `get_tapvid.py` writes."""
    points, occluded = np.ones((2, 3, 2)), np.array([[True, False, False]] * 2)
    np.savez(tmp_path / "gt_tracks.npz", points=np.where(occluded[..., None], np.nan, points), occluded=occluded)
    assert not exact_tracks(tmp_path / "gt_tracks.npz", (8, 8)).exact


def test_unusable_exact_tracks_are_one_sentence(tmp_path):
    path = tmp_path / "gt_tracks.npz"
    with pytest.raises(InputError, match="is missing"):
        exact_tracks(path, (8, 8))
    for content in ({"tracks": np.zeros((1, 3, 2))}, {"points": np.zeros((2, 3, 2)), "occluded": np.zeros((3, 2))}):
        np.savez(path, **content)
        with pytest.raises(InputError, match="expected points"):
            exact_tracks(path, (8, 8))
    np.savez(path, points=np.array([None]), occluded=np.zeros((1, 1)))
    with pytest.raises(InputError, match="no exact tracks"):
        exact_tracks(path, (8, 8))
    path.write_text("text")
    with pytest.raises(InputError, match="no npz file"):
        exact_tracks(path, (8, 8))
    np.savez(path, points=np.zeros((1, 3, 2)), occluded=np.zeros((1, 3)))
    with pytest.raises(InputError, match="3 frames, the clip 4"):
        exact_tracks(path, (8, 8), 4)


def test_a_tapvid_pickle_gives_pixels_of_the_frames_in_hand(tmp_path):
    points = np.array([[[0.0, 0.0], [1, 1], [0.5, 0.5]]])
    stored = {"video": [], "points": points, "occluded": np.array([[False, False, True]])}
    path = tmp_path / "tapvid.pkl"
    path.write_bytes(pickle.dumps({"goat": stored}))
    truth = tapvid_tracks(path, "goat", (20, 40))
    np.testing.assert_allclose(truth.points, [[[-0.5, -0.5], [39.5, 19.5], [np.nan, np.nan]]])
    assert truth.occluded.tolist() == [[False, False, True]] and not truth.exact
    assert np.array_equal(tapvid_tracks(path, "goat", (20, 40), 2).points, truth.points[:, :2])  # the first frames
    with pytest.raises(InputError, match=r"no video dog, it holds goat"):
        tapvid_tracks(path, "dog", (20, 40))


def write_badja(folder: Path, frames: list[str], joints, visibility) -> Path:
    """Labels, and masks of 48x27 with a foreground of 3, 6, … pixels."""
    labels = [
        {"image_path": f"Full-Resolution/dog/{stem}.jpg", "joints": each, "visibility": flags}
        for stem, each, flags in zip(frames, joints, visibility, strict=True)
    ]
    for count, stem in enumerate(frames, 1):
        mask = np.zeros((27, 48), np.uint8)
        mask[:3, :count] = 255
        write_image(folder / "mask" / f"{stem}.png", mask)
    (folder / "badja.json").write_text(json.dumps(labels))
    return folder / "badja.json"


def masks_in(folder: Path) -> ClipMasks:
    """Masks of frames `<stem>.png` or `<stem>.jpg`."""
    files = {f"{path.stem}{suffix}": path for path in mask_files(folder) for suffix in (".png", ".jpg")}
    return ClipMasks(files, folder)


def test_badja_labels_are_read_by_frame_and_flags(tmp_path):
    """Row 1079, column 0 is the last row's first pixel: at 48x27, a fortieth, x = −0.4875, y = 26.4875."""
    joints = [[[1079, 0], [39.5, 79.5]], [[0, 0], [5, 5]], [[7, 7], [8, 8]]]
    path = write_badja(tmp_path, ["00004", "00001", "00009"], joints, [[True, False], [True, True], [True, True]])
    truth = badja_keypoints(path, [f"{t:05d}.png" for t in range(6)], masks_in(tmp_path / "mask"), (27, 48))
    assert truth.frames.tolist() == [1, 4] and truth.num_frames == 6  # in order; frame 9 is not in the clip
    np.testing.assert_allclose(truth.points[0, 1], [-0.4875, 26.4875])
    np.testing.assert_allclose(truth.points[1, 1], [1.5, 0.5])
    assert truth.visible.tolist() == [[True, True], [True, False]] and truth.areas.tolist() == [6, 3]


def test_badja_labels_of_numbered_copies_are_found_by_the_original_names(tmp_path):
    """Frames 3, 4 and 5 of the clip were copied as 0, 1 and 2, their masks too."""
    joints = [[[13.5, 13.5]], [[53.5, 53.5]]]
    path, copies = (
        write_badja(tmp_path, ["00000", "00002"], joints, [[True]] * 2),
        ["00000.png", "00001.png", "00002.png"],
    )
    labels = json.loads(path.read_text())
    for label, stem in zip(labels, ("00003", "00005"), strict=True):
        label["image_path"] = f"{stem}.jpg"
    path.write_text(json.dumps(labels))
    own = [f"{t:05d}.jpg" for t in (3, 4, 5)]
    truth = badja_keypoints(path, copies, masks_in(tmp_path / "mask"), (27, 48), own)
    assert truth.frames.tolist() == [0, 2] and truth.areas.tolist() == [3, 6]


def test_a_guess_outside_the_image_is_no_label(tmp_path):
    path = write_badja(tmp_path, ["0", "1"], [[[-9, 5000], [1, 1]]] * 2, [[False, True]] * 2)
    assert badja_keypoints(path, ["0.png", "1.png"], masks_in(tmp_path / "mask"), (27, 48)).visible.sum() == 2


def test_unusable_badja_labels_are_one_sentence(tmp_path):
    names, visible = ["0.png", "1.png"], [[True], [True]]

    def message(path: Path, size=(27, 48), mask="mask") -> str:
        with pytest.raises(InputError) as refused:
            badja_keypoints(path, names, masks_in(tmp_path / mask), size)
        return str(refused.value)

    good = write_badja(tmp_path, ["0", "1"], [[[0, 0]], [[1, 1]]], visible)
    assert "uncropped" in message(good, (48, 48))
    assert "no mask of 0.png" in message(good, mask="nowhere")
    assert "within (1080, 1920)" in message(write_badja(tmp_path, ["0", "1"], [[[0, 0]], [[1500, 1]]], visible))
    assert "0 of them are in the clip" in message(write_badja(tmp_path, ["7", "8"], [[[0, 0]], [[1, 1]]], visible))
    (tmp_path / "badja.json").write_text("[{}]")
    assert "joint_annotations" in message(tmp_path / "badja.json")


def test_the_dogs_labels_lie_on_the_dog():
    """Real labels on real masks: swapped axes, another resolution or another frame would put them on the grass."""
    paths = SequencePaths(Path(__file__).resolve().parents[2] / "shared" / "data" / "davis" / "dog")
    if not (paths.root / "badja.json").is_file():
        pytest.skip(f"no labelled DAVIS clip at {paths.root}")
    names = [frame.name for frame in list_frames(paths.color)]
    truth = badja_keypoints(paths.root / "badja.json", names, masks_in(paths.mask), (480, 854))
    on = []
    for k, t in enumerate(truth.frames):
        mask = read_mask(paths.mask / f"{t:05d}.png", 480, 854).foreground
        x, y = truth.points[truth.visible[:, k], k].round().astype(int).T
        on.extend(mask[y, x])
    assert len(on) > 150 and np.mean(on) > 0.9
