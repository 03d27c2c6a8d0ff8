"""TAP-Vid pickles become sequence folders, and none of them runs anything."""

import os
import pickle

import numpy as np
import pytest

from preprocessing import get_tapvid
from preprocessing.tapvid_pickle import read_tapvid
from tests.archive_files import contents, encoded, jpeg, pickled, refused, tapvid_sequence, tracks, write_zip
from utils.conventions import raster_from_px
from utils.images import read_frame


def test_points_are_pixels_whose_integers_are_centres(tmp_path):
    sequence = tapvid_sequence(height=512, width=1024, num_frames=2)
    # Of the raster of 256: the middle of its first pixel, of its last, the image's corners, its middle.
    sequence["points"] = np.zeros((5, 2, 2))
    sequence["points"][:, 1] = [[0.5 / 256, 0.5 / 256], [255.5 / 256, 255.5 / 256], [0, 0], [1, 1], [0.5, 0.5]]
    sequence["occluded"] = np.zeros((5, 2), bool)
    sequence["occluded"][3, 1] = True
    archive = pickled(tmp_path / "tapvid_davis.pkl", {"goat": sequence})
    get_tapvid.main(["--archive", str(archive), "--out", str(tmp_path / "data")])
    assert contents(tmp_path / "data" / "goat") == ["color", "gt_tracks.npz"]
    assert contents(tmp_path / "data" / "goat" / "color") == ["00000.png", "00001.png"]
    frame = read_frame(tmp_path / "data" / "goat" / "color" / "00001.png")
    assert frame.shape == (256, 256, 3)
    blocks = sequence["video"][1].reshape(256, 2, 256, 4, 3).mean((1, 3))  # what INTER_AREA means
    assert np.abs(frame - blocks).max() <= 0.51
    points, occluded = tracks(tmp_path / "data" / "goat")
    assert points.dtype == np.float32 and points.shape == (5, 2, 2)
    assert points[[0, 1, 2, 4], 1].tolist() == [[0, 0], [255, 255], [-0.5, -0.5], [127.5, 127.5]]
    assert np.isnan(points[3, 1]).all()  # occluded: its position is not annotated
    assert occluded.dtype == bool and np.array_equal(occluded, sequence["occluded"])
    assert np.allclose(raster_from_px(points, (256, 256))[~occluded], sequence["points"][~occluded] * 256, atol=1e-4)


def test_size_zero_keeps_the_frames_and_scales_x_and_y_apart(tmp_path):
    sequence = tapvid_sequence(height=6, width=8)
    sequence["points"][0, 0], sequence["occluded"][0, 0] = [0.5 / 8, 5.5 / 6], False  # the bottom left pixel
    archive = pickled(tmp_path / "tapvid.pkl", {"goat": sequence})
    get_tapvid.main(["--archive", str(archive), "--out", str(tmp_path / "data"), "--size", "0"])
    for t, frame in enumerate(sequence["video"]):
        assert np.array_equal(read_frame(tmp_path / "data" / "goat" / "color" / f"{t:05d}.png"), frame)
    points, occluded = tracks(tmp_path / "data" / "goat")
    assert np.allclose(points[0, 0], [0, 5], atol=1e-6)
    assert np.allclose(raster_from_px(points, (6, 8))[~occluded] / 256, sequence["points"][~occluded], atol=1e-6)


@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_every_protocol_and_spelling_of_numpy_is_read(protocol, core, tmp_path, monkeypatch):
    data = {"goat": tapvid_sequence()}
    data["goat"]["points"] = data["goat"]["points"].transpose(1, 0, 2)[..., ::-1]  # strided: no plain buffer
    for function, module in (
        (np.zeros(1).__reduce__()[0], "multiarray"),
        (np.zeros(1).__reduce_ex__(5)[0], "numeric"),
    ):
        monkeypatch.setattr(function, "__module__", f"{core}.{module}")  # under which name it is pickled
    path = pickled(tmp_path / "tapvid.pkl", data, protocol)
    assert f"{core}.".encode() in path.read_bytes()
    read = read_tapvid(path)["goat"]
    for key, values in data["goat"].items():
        assert read[key].dtype == values.dtype and np.array_equal(read[key], values)


def test_a_zip_with_the_pickle_is_read_like_the_pickle(tmp_path, capsys):
    sequence = tapvid_sequence()
    raw = pickle.dumps({"goat": sequence}, 4)
    members = {"tapvid_davis/README.md": b"-", "tapvid_davis/tapvid_davis.pkl": raw, "__MACOSX/._x.pkl": b"-"}
    archive = write_zip(tmp_path / "tapvid_davis.zip", members)
    assert np.array_equal(read_tapvid(archive)["goat"]["video"], sequence["video"])
    whole = archive.read_bytes()
    at = whole.index(sequence["video"].tobytes())
    archive.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    assert "cannot read" in refused(get_tapvid.main, capsys, "--archive", archive, "--out", tmp_path / "data")
    archive.write_bytes(whole[:-20])
    assert "cannot read" in refused(get_tapvid.main, capsys, "--archive", archive, "--out", tmp_path / "data")
    two = write_zip(tmp_path / "two.zip", {"a.pkl": raw, "b.pkl": raw})
    assert "holds 2 .pkl files" in refused(get_tapvid.main, capsys, "--archive", two, "--out", tmp_path / "data")
    two = write_zip(tmp_path / "out.zip", {"../a.pkl": raw})
    assert "leads out" in refused(get_tapvid.main, capsys, "--archive", two, "--out", tmp_path / "data")


def test_lists_are_numbered_and_jpegs_are_decoded(tmp_path):
    plain, packed = tapvid_sequence(), tapvid_sequence()
    # Flat colours come through jpeg nearly unchanged; red and blue would show a swap.
    packed["video"] = [encoded(".jpg", np.full((8, 16, 3), (200, 100, 10 * t), np.uint8)) for t in range(3)]
    archive = pickled(tmp_path / "0003_of_0010.pkl", [plain, packed])
    get_tapvid.main(["--archive", str(archive), "--out", str(tmp_path / "data"), "--size", "0"])
    assert contents(tmp_path / "data") == ["0003_of_0010_00000", "0003_of_0010_00001"]
    frame = read_frame(tmp_path / "data" / "0003_of_0010_00001" / "color" / "00002.png")
    assert frame.shape == (8, 16, 3) and np.abs(frame - np.array([200.0, 100, 20])).max() <= 3
    points, occluded = tracks(tmp_path / "data" / "0003_of_0010_00001")
    assert np.allclose(points[~occluded], (packed["points"] * [16, 8] - 0.5)[~occluded], atol=1e-5)


class Runs:
    """Pickled as a call."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_something_is_refused_unrun(protocol, zipped, tmp_path, capsys):
    trace = tmp_path / "trace"
    for call in ((os.system, f"touch {trace}"), (eval, f"open({str(trace)!r}, 'w')"), (np.save, str(trace), 0)):
        path = pickled(tmp_path / "tapvid.pkl", {"goat": tapvid_sequence() | {"points": Runs(*call)}}, protocol)
        if zipped:
            path = write_zip(tmp_path / "tapvid.zip", {"tapvid.pkl": path.read_bytes()})
        message = refused(get_tapvid.main, capsys, "--archive", path, "--out", tmp_path / "data")
        assert "the pickle refers to" in message and call[0].__name__ in message
        assert not trace.exists() and not trace.with_suffix(".npy").exists() and not (tmp_path / "data").exists()
    with pytest.raises(FileNotFoundError):  # the trap does work: read with plain pickle it runs
        pickle.loads(pickle.dumps(Runs(os.stat, str(trace)), protocol))


def test_unusable_pickles_are_one_sentence(tmp_path, capsys):
    whole = pickle.dumps({"goat": tapvid_sequence()}, 4)
    out = ["--out", tmp_path / "data"]
    path = tmp_path / "tapvid.pkl"
    for cut in (0, 1, 2, 11, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert "cannot read" in refused(get_tapvid.main, capsys, "--archive", path, *out)
    for data in (3, {1: tapvid_sequence()}, {"a", "b"}):
        assert "expected a dict" in refused(get_tapvid.main, capsys, "--archive", pickled(path, data), *out)
    assert "cannot name a sequence" in refused(
        get_tapvid.main, capsys, "--archive", pickled(path, {"../goat": tapvid_sequence()}), *out
    )
    missing = refused(get_tapvid.main, capsys, "--archive", pickled(path, {"a": {}}), *out, "--sequences", "goat")
    assert "no sequence goat" in missing and "holds: a" in missing
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"points": np.zeros((4, 2, 2))},
        {"points": np.zeros((4, 3, 3))},
        {"points": 3},
        {"occluded": np.zeros((3, 3), bool)},
        {"occluded": "text"},
        {"video": []},
        {"video": 3},
        {"video": np.zeros((3, 6, 8), np.uint8)},
        {"video": np.zeros((3, 6, 8, 3), np.float32)},
        {"video": np.zeros((3, 0, 8, 3), np.uint8)},
        {"video": [b"text"] * 3},
        {"video": [jpeg(0), jpeg(0), encoded(".jpg", np.zeros((8, 8, 3), np.uint8))]},
    ],
)
def test_arrays_of_other_shapes_are_refused(change, tmp_path, capsys):
    path = pickled(tmp_path / "tapvid.pkl", {"goat": tapvid_sequence() | change})
    assert "goat" in refused(get_tapvid.main, capsys, "--archive", path, "--out", tmp_path / "data")
    assert contents(tmp_path / "data") == []
