"""What is known about a clip: exact tracks, TAP-Vid's pickles, BADJA's labels; and tracks stored by other trackers."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from evaluation.ground_truth import badja_keypoints, exact_tracks, frame_size, tapvid_tracks
from evaluation.stored_tracker import stored_tracker
from preprocessing.sequence_paths import SequencePaths
from preprocessing.tapvid_pickle import read_tapvid
from utils.errors import InputError
from utils.images import write_image


def test_exact_tracks_are_cut_and_scaled_as_the_frames(tmp_path):
    points = np.array([[[-0.5, -0.5], [39.5, 19.5], [3, 4]]], np.float32)  # the corners of 40x20, and one more frame
    np.savez(tmp_path / "gt_tracks.npz", points=points, occluded=np.zeros((1, 3), bool))
    beside = exact_tracks(tmp_path / "gt_tracks.npz", (20, 40), 2)
    assert np.array_equal(beside.points, points[:, :2]) and beside.exact
    write_image(tmp_path / "color" / "0.png", np.zeros((20, 40, 3), np.uint8))
    assert frame_size(SequencePaths(tmp_path)) == (20, 40)
    halved = exact_tracks(tmp_path / "gt_tracks.npz", (10, 20))
    np.testing.assert_allclose(halved.points[0, :2], [[-0.5, -0.5], [19.5, 9.5]])


def test_positions_that_nobody_knows_are_not_exact(tmp_path):
    """As `get_tapvid.py` leaves them."""
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
    with pytest.raises(InputError, match=r"no video dog, it holds goat"):
        tapvid_tracks(path, "dog", (20, 40))


class Runs:
    """Pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


ADDRESSES = b"C\x20" + b"A" * 32
OBJECTS = named("numpy", "dtype") + text("O") + b"\x89\x88\x87R"  # dtype("O", False, True), then told it has none
DISGUISED = OBJECTS + b"(K\x03" + text("|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
START = named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
FORGED = {
    "called": named("numpy", "ndarray") + b"K\x04\x85" + DISGUISED + ADDRESSES + b"\x87R",
    "made anew": named("numpy", "ndarray") + b"K\x04\x85" + DISGUISED + ADDRESSES + b"\x87\x81",
    "from a buffer": named("numpy.core.numeric", "_frombuffer")
    + (b"(" + ADDRESSES + DISGUISED + b"K\x04\x85" + text("C") + b"tR"),
    # dtype("f8") in the byte order "O,": two fields, one of them an object.
    "by its byte order": START
    + (b"(K\x01K\x01\x85" + named("numpy", "dtype") + text("f8") + b"\x89\x88\x87R")
    + (b"(K\x03" + text("O,") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb" + b"\x89](K\x01K\x02\x86etb"),
    "by its state": START + b"(K\x01K\x04\x85" + DISGUISED + b"\x89" + ADDRESSES + b"tb",
}


@pytest.mark.parametrize("forged", FORGED)
def test_addresses_that_a_pickle_calls_objects_are_refused(tmp_path, forged):
    path = tmp_path / "tapvid.pkl"
    path.write_bytes(b"\x80\x04}" + text("goat") + b"}" + text("occluded") + FORGED[forged] + b"ss.")
    with pytest.raises(InputError, match="'O,f8', expected numbers" if "byte order" in forged else "pickle"):
        tapvid_tracks(path, "goat", (20, 40))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_numbers_survive_every_protocol(tmp_path, protocol):
    kinds = ("u1", "<f4", ">f8", "?", "<i8")
    arrays = {kind: np.arange(24).reshape(2, 3, 4).astype(kind) for kind in kinds}
    arrays["columns"] = np.asfortranarray(arrays["<f4"])
    path = tmp_path / "tapvid.pkl"
    path.write_bytes(pickle.dumps({"goat": arrays}, protocol))
    for name, found in read_tapvid(path)["goat"].items():
        assert found.dtype.newbyteorder("=") == arrays[name].dtype.newbyteorder("="), name
        np.testing.assert_array_equal(found, arrays[name])


def test_a_pickle_that_would_run_something_is_refused_unrun(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"goat": {"points": Runs(os.mkdir, str(trace))}}))
    with pytest.raises(InputError, match="the pickle asks for"):
        tapvid_tracks(path, "goat", (20, 40))
    assert not trace.exists()


def write_badja(folder: Path, frames: list[str], joints, visibility) -> Path:
    """Labels, and masks of 48x27 with a foreground of 3, 6, … pixels."""
    labels = [
        {"image_path": f"Full-Resolution/dog/{stem}.jpg", "joints": each, "visibility": seen}
        for stem, each, seen in zip(frames, joints, visibility, strict=True)
    ]
    for count, stem in enumerate(frames, 1):
        mask = np.zeros((27, 48), np.uint8)
        mask[:3, :count] = 255
        write_image(folder / "mask" / f"{stem}.png", mask)
    (folder / "badja.json").write_text(json.dumps(labels))
    return folder / "badja.json"


def test_badja_labels_are_read_by_frame_and_flags(tmp_path):
    """Row 1079, column 0 is the last row's first pixel: at 48x27, a fortieth, x = −0.4875, y = 26.4875."""
    joints = [[[1079, 0], [39.5, 79.5]], [[0, 0], [5, 5]], [[7, 7], [8, 8]]]
    path = write_badja(tmp_path, ["00004", "00001", "00009"], joints, [[True, False], [True, True], [True, True]])
    truth = badja_keypoints(path, [f"{t:05d}.png" for t in range(6)], tmp_path / "mask", (27, 48))
    assert truth.frames.tolist() == [1, 4] and truth.num_frames == 6  # in order; frame 9 is not in hand
    np.testing.assert_allclose(truth.points[0, 1], [-0.4875, 26.4875])
    np.testing.assert_allclose(truth.points[1, 1], [1.5, 0.5])
    assert truth.visible.tolist() == [[True, True], [True, False]] and truth.areas.tolist() == [6, 3]


def test_badja_labels_of_numbered_copies_are_found_by_the_frames_own_names(tmp_path):
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
    truth = badja_keypoints(path, copies, tmp_path / "mask", (27, 48), own)
    assert truth.frames.tolist() == [0, 2] and truth.areas.tolist() == [3, 6]


def test_a_guess_outside_the_image_is_no_label(tmp_path):
    path = write_badja(tmp_path, ["0", "1"], [[[-9, 5000], [1, 1]]] * 2, [[False, True]] * 2)
    assert badja_keypoints(path, ["0.png", "1.png"], tmp_path / "mask", (27, 48)).visible.sum() == 2


def test_unusable_badja_labels_are_one_sentence(tmp_path):
    names, seen = ["0.png", "1.png"], [[True], [True]]

    def message(path: Path, size=(27, 48), mask="mask") -> str:
        with pytest.raises(InputError) as refused:
            badja_keypoints(path, names, tmp_path / mask, size)
        return str(refused.value)

    good = write_badja(tmp_path, ["0", "1"], [[[0, 0]], [[1, 1]]], seen)
    assert "uncropped" in message(good, (48, 48))
    assert "no mask of 0.png" in message(good, mask="nowhere")
    assert "within (1080, 1920)" in message(write_badja(tmp_path, ["0", "1"], [[[0, 0]], [[1500, 1]]], seen))
    assert "0 of them are in the clip" in message(write_badja(tmp_path, ["7", "8"], [[[0, 0]], [[1, 1]]], seen))
    (tmp_path / "badja.json").write_text("[{}]")
    assert "joint_annotations" in message(tmp_path / "badja.json")


def test_the_dogs_labels_lie_on_the_dog():
    """Real labels on real masks: swapped axes, another resolution or another frame would put them on the grass."""
    paths = SequencePaths(Path(__file__).resolve().parents[2] / "shared" / "data" / "davis" / "dog")
    if not (paths.root / "badja.json").is_file():
        pytest.skip(f"no labelled DAVIS clip at {paths.root}")
    from utils.images import list_frames, read_mask

    names = [frame.name for frame in list_frames(paths.color)]
    truth = badja_keypoints(paths.root / "badja.json", names, paths.mask, (480, 854))
    on = []
    for k, t in enumerate(truth.frames):
        mask = read_mask(paths.mask / f"{t:05d}.png", 480, 854)
        x, y = truth.points[truth.visible[:, k], k].round().astype(int).T
        on.extend(mask[y, x])
    assert len(on) > 150 and np.mean(on) > 0.9


def test_stored_tracks_answer_the_queries_in_order(tmp_path):
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
