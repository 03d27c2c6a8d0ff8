"""DAVIS archives become sequence folders, whole or not at all."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image  # writes palettes, which OpenCV does not; comes with imageio

from preprocessing import archives, get_davis, get_tapvid
from tests.archive_files import (
    IDS,
    REPOSITORY,
    contents,
    davis_members,
    jpeg,
    palette_png,
    pickled,
    png,
    refused,
    tapvid_sequence,
    write_zip,
)
from utils.images import decode_image
from utils.masks import read_mask


@pytest.fixture
def davis(tmp_path) -> Path:
    return write_zip(tmp_path / "davis.zip", davis_members("bear", "car-shadow"))


def test_davis_frames_are_the_archives_bytes_and_masks_every_object(davis, tmp_path):
    get_davis.main(["--archive", str(davis), "--out", str(tmp_path / "data")])
    assert contents(tmp_path / "data") == ["bear", "car-shadow"]
    for name in contents(tmp_path / "data"):
        folder = tmp_path / "data" / name
        assert contents(folder) == ["color", "mask"]
        assert contents(folder / "color") == ["00000.jpg", "00001.jpg"]
        assert contents(folder / "mask") == ["00000.png", "00001.png"]
        assert (folder / "color" / "00001.jpg").read_bytes() == jpeg(50)
        stored = decode_image(folder / "mask" / "00001.png")
        assert np.array_equal(stored, (IDS > 0) * 255)
        assert np.array_equal(read_mask(folder / "mask" / "00001.png", 2, 3).foreground, IDS > 0)


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
    stored = decode_image(tmp_path / "data/bear/mask/00000.png")
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
    assert contents(tmp_path / "data") == ["bear", "car-shadow", "davis.zip", "davis.zip.sha256"]


def test_a_download_that_has_changed_is_refused(davis, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(get_davis, "URL", davis.as_uri())
    arguments = ["--download", "--out", str(tmp_path / "data")]
    get_davis.main(arguments)
    write_zip(tmp_path / "data" / "davis.zip", davis_members("dog"))
    assert "has SHA-256" in refused(get_davis.main, capsys, *arguments)
    assert contents(tmp_path / "data") == ["bear", "car-shadow", "davis.zip", "davis.zip.sha256"]


def test_failed_downloads_leave_nothing(tmp_path, monkeypatch, capsys):
    class Short(io.BytesIO):
        headers = {"Content-Length": "10"}  # noqa: RUF012

    out = ["--download", "--out", tmp_path / "data"]
    monkeypatch.setattr(get_davis, "URL", (tmp_path / "none.zip").as_uri())
    assert "cannot get file:" in refused(get_davis.main, capsys, *out)
    monkeypatch.setattr(archives.urllib.request, "urlopen", lambda url, timeout: Short(b"1234"))
    assert "only 4 of 10 bytes arrived" in refused(get_davis.main, capsys, *out)
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


def test_flags_exclude_one_another(davis, capsys):
    for arguments in ([], ["--download", "--archive", str(davis)]):
        with pytest.raises(SystemExit) as stopped:
            get_davis.main(arguments)
        assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        get_tapvid.main(["--archive", str(davis), "--size", "-1"])
    assert stopped.value.code == 2 and "--size -1" in capsys.readouterr().err
