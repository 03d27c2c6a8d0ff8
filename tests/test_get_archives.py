"""From DAVIS's zip and TAP-Vid's pickle to sequence folders; all archives here are made by the tests."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image  # writes palettes, which OpenCV does not; comes with imageio

from preprocessing import archives, get_davis, get_tapvid
from utils.conventions import raster_from_px
from utils.tapvid_pickle import read_tapvid
from utils.video_io import read_frame, read_mask

REPOSITORY = Path(__file__).resolve().parent.parent
RANDOM = np.random.default_rng(0)
IDS = np.array([[0, 1, 2], [0, 0, 5]], np.uint8)


def encoded(suffix: str, rgb: np.ndarray) -> bytes:
    return cv2.imencode(suffix, rgb[..., ::-1])[1].tobytes()


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def palette_png(**options) -> bytes:
    image = Image.fromarray(IDS).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 1, 0, 0])
    image.putdata(IDS.ravel().tolist())
    return png(image, **options)


def jpeg(value: int) -> bytes:
    return encoded(".jpg", np.full((2, 3, 3), value, np.uint8))


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def davis_members(*names: str) -> dict[str, bytes]:
    members = {"DAVIS/README.md": b"-", "__MACOSX/DAVIS/JPEGImages/480p/bear/._00000.jpg": b"-"}
    for name in names:
        for t in range(2):
            members[f"DAVIS/JPEGImages/480p/{name}/{t:05d}.jpg"] = jpeg(50 * t)
            members[f"DAVIS/Annotations/480p/{name}/{t:05d}.png"] = palette_png()
    return members


@pytest.fixture
def davis(tmp_path) -> Path:
    return write_zip(tmp_path / "davis.zip", davis_members("bear", "car-shadow"))


def tapvid_sequence(height: int = 6, width: int = 8, num_frames: int = 3) -> dict:
    return {
        "video": RANDOM.integers(0, 256, (num_frames, height, width, 3), np.uint8),
        "points": RANDOM.random((4, num_frames, 2)),
        "occluded": RANDOM.random((4, num_frames)) > 0.5,
    }


def pickled(path: Path, data: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(data, protocol))
    return path


def tracks(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "gt_tracks.npz") as stored:
        return stored["points"], stored["occluded"]


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def refused(main, capsys, *arguments: object) -> str:
    """The one sentence with which a command ends with status 2."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert stopped.value.code == 2 and len(lines) == 1
    return lines[0]


# DAVIS


def test_davis_frames_are_the_archives_bytes_and_masks_every_object(davis, tmp_path):
    get_davis.main(["--archive", str(davis), "--out", str(tmp_path / "data")])
    assert contents(tmp_path / "data") == ["bear", "car-shadow"]
    for name in contents(tmp_path / "data"):
        folder = tmp_path / "data" / name
        assert contents(folder) == ["color", "mask"]
        assert contents(folder / "color") == ["00000.jpg", "00001.jpg"]
        assert contents(folder / "mask") == ["00000.png", "00001.png"]
        assert (folder / "color" / "00001.jpg").read_bytes() == jpeg(50)
        stored = cv2.imread(str(folder / "mask" / "00001.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(stored, (IDS > 0) * 255)
        assert np.array_equal(read_mask(folder / "mask" / "00001.png", 2, 3), IDS > 0)


@pytest.mark.parametrize(
    "annotation",
    [
        palette_png(bits=8),
        palette_png(transparency=0),
        png(Image.fromarray((IDS > 0).astype(np.uint8) * 255)),
        png(Image.fromarray((IDS > 0) * np.uint8(255)).convert("RGBA")),
        png(Image.fromarray(IDS)),
    ],
    ids=["palette", "palette with transparency", "2016: 0 and 255", "2016: rgba", "bare ids"],
)
def test_every_kind_of_annotation_gives_the_foreground(annotation, tmp_path):
    members = davis_members("bear") | {"DAVIS/Annotations/480p/bear/00000.png": annotation}
    archive = write_zip(tmp_path / "davis.zip", members)
    get_davis.main(["--archive", str(archive), "--out", str(tmp_path / "data")])
    stored = cv2.imread(str(tmp_path / "data/bear/mask/00000.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, (IDS > 0) * 255)


def test_only_the_sequences_asked_for_and_an_existing_one_stays(davis, tmp_path, capsys):
    (tmp_path / "data" / "bear").mkdir(parents=True)
    get_davis.main(["--archive", str(davis), "--out", str(tmp_path / "data"), "--sequences", "bear", "bear"])
    assert contents(tmp_path / "data") == ["bear"] and contents(tmp_path / "data" / "bear") == []
    assert f"{tmp_path / 'data' / 'bear'} exists and is left as it is" in capsys.readouterr().out


def test_an_unknown_sequence_lists_what_is_there(davis, tmp_path, capsys):
    message = refused(get_davis.main, capsys, "--archive", davis, "--out", tmp_path / "data", "--sequences", "bare")
    assert "no sequence bare" in message and "bear, car-shadow" in message
    assert contents(tmp_path / "data") == []


@pytest.mark.parametrize("name", ["/etc/x.jpg", "DAVIS/JPEGImages/480p/../x.jpg", "a\\..\\..\\x", "C:\\x", "\\x"])
def test_names_that_lead_out_are_refused(name, tmp_path, capsys):
    archive = write_zip(tmp_path / "davis.zip", davis_members("bear") | {name: b"-"})
    assert "leads out of its folder" in refused(
        get_davis.main, capsys, "--archive", archive, "--out", tmp_path / "data"
    )
    assert contents(tmp_path) == ["davis.zip"]


def test_unusable_zips_are_one_sentence(davis, tmp_path, capsys):
    whole, out = davis.read_bytes(), ["--out", tmp_path / "data"]
    assert "no archive at" in refused(get_davis.main, capsys, "--archive", tmp_path / "none.zip", *out)
    assert "no archive at" in refused(get_davis.main, capsys, "--archive", tmp_path, *out)
    for broken in (b"", b"text", whole[:-30], whole[: len(whole) // 2], whole[-200:]):
        davis.write_bytes(broken)
        assert "cannot read" in refused(get_davis.main, capsys, "--archive", davis, *out)
    assert "no DAVIS/JPEGImages" in refused(
        get_davis.main, capsys, "--archive", write_zip(tmp_path / "other.zip", {"x": b""}), *out
    )
    assert contents(tmp_path / "data") == []


def test_damage_met_half_way_leaves_only_whole_folders(davis, tmp_path, capsys):
    whole = davis.read_bytes()
    at = (
        whole.index(b"DAVIS/Annotations/480p/car-shadow/00001.png") + 60
    )  # the first copy of the name precedes the data
    davis.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    assert "cannot read" in refused(get_davis.main, capsys, "--archive", davis, "--out", tmp_path / "data")
    assert contents(tmp_path / "data") == ["bear"]
    davis.write_bytes(whole)
    get_davis.main(["--archive", str(davis), "--out", str(tmp_path / "data")])
    assert contents(tmp_path / "data") == ["bear", "car-shadow"]


def test_an_annotation_that_is_no_image_is_named(tmp_path, capsys):
    for data in (b"", b"text"):
        members = davis_members("bear") | {"DAVIS/Annotations/480p/bear/00001.png": data}
        archive = write_zip(tmp_path / "davis.zip", members)
        message = refused(get_davis.main, capsys, "--archive", archive, "--out", tmp_path / "data")
        assert "cannot decode DAVIS/Annotations/480p/bear/00001.png" in message


def test_runs_from_the_repository_and_goes_on_after_a_kill(davis, tmp_path):
    leftover = tmp_path / "data" / ".bear.partial" / "color"
    leftover.mkdir(parents=True)
    (leftover / "99999.jpg").write_bytes(b"cut short")
    command = [sys.executable, "preprocessing/get_davis.py", "--archive", davis, "--out", tmp_path / "data"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "ready: 2 sequence(s)" in done.stdout
    assert contents(tmp_path / "data") == ["bear", "car-shadow"]
    assert contents(tmp_path / "data" / "bear" / "color") == ["00000.jpg", "00001.jpg"]
    command[1:] = ["preprocessing/get_tapvid.py", "--archive", davis]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


# Both


def test_a_download_is_made_once_and_is_whole(davis, tmp_path, monkeypatch):
    monkeypatch.setattr(get_davis, "URL", davis.as_uri())
    arguments = ["--download", "--out", str(tmp_path / "data"), "--sequences"]
    get_davis.main([*arguments, "bear"])
    assert (tmp_path / "data" / "davis.zip").read_bytes() == davis.read_bytes()
    davis.unlink()
    get_davis.main([*arguments, "car-shadow"])
    assert contents(tmp_path / "data") == ["bear", "car-shadow", "davis.zip"]


def test_failed_downloads_leave_nothing(tmp_path, monkeypatch, capsys):
    class Short(io.BytesIO):
        headers = {"Content-Length": "10"}  # noqa: RUF012

    out = ["--download", "--out", tmp_path / "data"]
    monkeypatch.setattr(get_davis, "URL", (tmp_path / "none.zip").as_uri())
    assert "cannot get file:" in refused(get_davis.main, capsys, *out)
    monkeypatch.setattr(archives.urllib.request, "urlopen", lambda url, timeout: Short(b"1234"))
    assert "4 of 10 bytes came" in refused(get_davis.main, capsys, *out)
    assert contents(tmp_path / "data") == []


def test_an_interrupt_leaves_nothing(davis, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    for command, name in ((get_davis, "bear"), (get_tapvid, "tapvid_00000")):
        archive = davis if command is get_davis else pickled(tmp_path / "tapvid.pkl", [tapvid_sequence()])
        with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
            patch.setattr(command, "write_image", interrupt)
            command.main(["--archive", str(archive), "--out", str(tmp_path / "data")])
        assert contents(tmp_path / "data") == []
        command.main(["--archive", str(archive), "--out", str(tmp_path / "data"), "--sequences", name])
        assert contents(tmp_path / "data") == [name]
        (tmp_path / "data" / name).rename(tmp_path / name)


# TAP-Vid


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
    assert points[:, 1].tolist() == [[0, 0], [255, 255], [-0.5, -0.5], [255.5, 255.5], [127.5, 127.5]]
    assert occluded.dtype == bool and np.array_equal(occluded, sequence["occluded"])
    assert np.allclose(raster_from_px(points, (256, 256)), sequence["points"] * 256, atol=1e-4)


def test_size_zero_keeps_the_frames_and_scales_x_and_y_apart(tmp_path):
    sequence = tapvid_sequence(height=6, width=8)
    sequence["points"][0, 0] = [0.5 / 8, 5.5 / 6]  # the bottom left pixel
    archive = pickled(tmp_path / "tapvid.pkl", {"goat": sequence})
    get_tapvid.main(["--archive", str(archive), "--out", str(tmp_path / "data"), "--size", "0"])
    for t, frame in enumerate(sequence["video"]):
        assert np.array_equal(read_frame(tmp_path / "data" / "goat" / "color" / f"{t:05d}.png"), frame)
    points, _ = tracks(tmp_path / "data" / "goat")
    assert np.allclose(points[0, 0], [0, 5], atol=1e-6)
    assert np.allclose(raster_from_px(points, (6, 8)) / 256, sequence["points"], atol=1e-6)


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
    points, _ = tracks(tmp_path / "data" / "0003_of_0010_00001")
    assert np.allclose(points, packed["points"] * [16, 8] - 0.5, atol=1e-5)


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
        assert "the pickle asks for" in message and call[0].__name__ in message
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


def test_flags_exclude_one_another(davis, capsys):
    for arguments in ([], ["--download", "--archive", str(davis)]):
        with pytest.raises(SystemExit) as stopped:
            get_davis.main(arguments)
        assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        get_tapvid.main(["--archive", str(davis), "--size", "-1"])
    assert stopped.value.code == 2 and "--size -1" in capsys.readouterr().err
