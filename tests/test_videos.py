"""Videos as cameras, phones and recorders write them: each coded frame once, with its time, from any container."""

import json
from pathlib import Path

import numpy as np
import pytest

import train
import viz
from preprocessing.frames import prepare_sequence
from tests.conftest import TINY
from tests.input_files import check_prepared, clip, count_packets, ffmpeg, write_images
from utils.ffmpeg import decode_video, probe_video
from utils.ffmpeg_process import FRAME_TIME
from utils.images import list_frames
from utils.video import read_video, write_video

TIMES = [0.0, 0.033, 0.066, 0.2, 0.21, 0.25, 0.7, 0.733]  # seconds: 8 frames where a constant rate would have 19
MEAN_RATE = 7 / 0.733


def write_uneven(path: Path, video: np.ndarray) -> Path:
    """Write frames with uneven times, B-frames included."""
    write_images(path.parent / "frames", video, "{}.png")
    times = "+".join(f"eq(N,{n})*{round(1000 * time)}" for n, time in enumerate(TIMES))
    options = ["-vf", f"settb=1/1000,setpts='{times}'", "-fps_mode", "passthrough", "-enc_time_base", "1/1000"]
    options += [] if path.suffix == ".webm" else ["-c:v", "libx264"]
    ffmpeg("-start_number", "0", "-i", path.parent / "frames" / "%d.png", *options, "-b:v", "2M", path)
    return path


def record_of(root: Path) -> dict:
    return json.loads((root / "source.json").read_text())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm", ".ts", ".flv"])
def test_a_variable_rate_video_has_the_frames_that_it_holds(tmp_path, train_to_flow, suffix):
    video = write_uneven(tmp_path / f"v{suffix}", clip(8))
    assert count_packets(video) == 8
    train_to_flow(video)
    check_prepared(tmp_path / "data" / "v", clip(8), 12)
    record = record_of(tmp_path / "data" / "v")
    assert record["num_frames"] == record["source_frames"] == 8
    np.testing.assert_allclose(record["times"], TIMES, atol=2e-3)
    assert record["fps"] == pytest.approx(MEAN_RATE, rel=0.01)


SUFFIXES = {  # how ffmpeg is told to write what it would not choose by itself
    ".mts": [],
    ".m2ts": [],
    ".ts": [],
    ".wmv": ["-b:v", "4M"],
    ".flv": ["-b:v", "4M"],
    ".3gp": ["-c:v", "mpeg4", "-q:v", "2"],
    ".ogv": ["-q:v", "10"],
    ".mxf": ["-c:v", "mpeg2video", "-q:v", "1", "-pix_fmt", "yuv420p"],
    ".y4m": ["-pix_fmt", "yuv444p"],
    ".vob": ["-q:v", "1"],
    ".dat": ["-f", "matroska"],  # a suffix that says nothing
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_video_that_ffmpeg_reads_is_a_clip(tmp_path, train_to_flow, suffix):
    write_images(tmp_path / "frames", clip(5), "{}.png")
    video = tmp_path / f"v{suffix}"
    ffmpeg("-framerate", "25", "-start_number", "0", "-i", tmp_path / "frames" / "%d.png", *SUFFIXES[suffix], video)
    assert count_packets(video) == 5
    train_to_flow(video)
    check_prepared(tmp_path / "data" / "v", clip(5), 16)
    assert record_of(tmp_path / "data" / "v")["fps"] == pytest.approx(25, rel=0.01)


def test_what_ffmpeg_cannot_read_is_refused_with_its_reason(tmp_path, refused_by_train):
    (tmp_path / "notes.mkv").write_text("no film\n" * 99)
    assert "notes.mkv as a video (Error opening input" in (said := refused_by_train(tmp_path / "notes.mkv"))
    assert "Invalid data found" in said
    (tmp_path / "notes.txt").write_text("a line of text\n" * 999)
    assert "notes.txt as a video (it holds text, which ffmpeg" in refused_by_train(tmp_path / "notes.txt")
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "sound.m4a")
    assert "sound.m4a as a video (ffmpeg finds no video in it)" in refused_by_train(tmp_path / "sound.m4a")
    assert "is a URL, expected a file: download it" in refused_by_train("https://example.org/v.mp4")
    write_video(tmp_path / "one.mp4", clip(1))
    assert "holds 1 frame(s), expected at least two" in refused_by_train(tmp_path / "one.mp4")


@pytest.mark.parametrize(("aspect", "stored"), [("2/1", (32, 24)), ("1/2", (16, 48))])
def test_pixels_that_are_not_square_are_made_square(tmp_path, train_to_flow, aspect, stored):
    """A wide or high pixel stands for two square ones."""
    write_images(tmp_path / "frames", clip(4), "{}.png")
    shape = f"scale={stored[1]}:{stored[0]}:flags=area,setsar={aspect}"
    ffmpeg("-start_number", "0", "-i", tmp_path / "frames" / "%d.png", "-vf", shape, "-crf", "5", tmp_path / "v.mp4")
    said = train_to_flow(tmp_path / "v.mp4")
    assert f"v.mp4 are not square ({aspect.replace('/', ':')}): its frames are resized to square pixels" in said
    check_prepared(tmp_path / "data" / "v", clip(4), 12)


def test_a_turned_video_is_upright(tmp_path, train_to_flow):
    write_images(tmp_path / "frames", clip(4, 48, 32), "{}.png")
    frames = ["-start_number", "0", "-i", tmp_path / "frames" / "%d.png"]
    ffmpeg(*frames, "-vf", "transpose=clock", "-crf", "5", tmp_path / "stored.mp4")
    ffmpeg("-display_rotation", "90", "-i", tmp_path / "stored.mp4", "-c", "copy", tmp_path / "v.mp4")
    train_to_flow(tmp_path / "v.mp4")
    check_prepared(tmp_path / "data" / "v", clip(4, 48, 32), 12)


def test_a_video_is_decoded_no_further_than_needed(tmp_path, monkeypatch):
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=160x120:r=5:d=400", "-preset", "ultrafast", tmp_path / "long.mp4")
    decoded = []

    class Counting:
        def search(self, line):
            found = FRAME_TIME.search(line)
            decoded.extend([found] if found else [])
            return found

    monkeypatch.setattr("utils.ffmpeg_process.FRAME_TIME", Counting())
    assert len(list(decode_video(tmp_path / "long.mp4", range(20, 60, 2)))) == 20
    assert 59 <= len(decoded) < 1000  # ffmpeg's threads run a little ahead
    decoded.clear()
    assert len(list(decode_video(tmp_path / "long.mp4"))) == len(decoded) == 2000
    root = prepare_sequence(tmp_path / "long.mp4", None, tmp_path / "data", frame_range="20:60:2").root
    assert root.name == "long_20-60-2" and len(list_frames(root / "color")) == 20


def test_frames_beyond_num_imgs_are_counted_before_anything_long(tmp_path, train_to_flow):
    video = write_uneven(tmp_path / "v.mp4", clip(8))
    said = train_to_flow(video, "--num_imgs", "4")
    assert "the first 4 of 8 frames are used, 4 are left out: give --frame_range" in said.splitlines()[0]
    check_prepared(tmp_path / "data" / "v_0-4", clip(8)[:4], 12)
    assert not (tmp_path / "data" / "v").exists()
    assert "4 are left out" in train_to_flow(video, "--num_imgs", "4")  # from the copy
    assert "left out" not in train_to_flow(video, "--frame_range", "0:4")


def test_a_whole_copy_serves_a_smaller_number_of_frames(tmp_path, train_to_flow):
    video = write_uneven(tmp_path / "v.mp4", clip(8))
    prepare_sequence(video, None, tmp_path / "data")
    assert "the first 4 of 8 frames are used" in train_to_flow(video, "--num_imgs", "4")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["v"]


def test_a_copy_of_an_earlier_version_is_used_with_a_warning(tmp_path, train_to_flow):
    """It doubled and dropped frames of such a video."""
    video = write_uneven(tmp_path / "v.mp4", clip(8))
    root = prepare_sequence(video, None, tmp_path / "data").root
    stat = video.stat()
    old = {"source": str(video), "max_side": None, "size": stat.st_size, "mtime": stat.st_mtime, "num_frames": 7}
    (root / "source.json").write_text(json.dumps(old | {"height": 32, "width": 48, "fps": 25.0}))
    (root / "color" / "00007.png").unlink()
    said = train_to_flow(video)
    assert "was made by an earlier version: it has 7 frames where the video has 8; delete" in said
    check_prepared(root, clip(8)[:7], 12)


@pytest.mark.parametrize("flags", [[], ["--fps", "5"]])
def test_the_range_and_the_times_reach_pictures_and_exports(tmp_path, tiny_flags, monkeypatch, capsys, flags):
    for draw in ("save_grid", "save_trails"):
        monkeypatch.setattr(f"visualization.styles.{draw}", lambda *args: [])
    monkeypatch.setattr("visualization.tensorboard.training_images", lambda *args, **kwargs: {})
    video = write_uneven(tmp_path / "v.mp4", clip(8))
    train.main([*TINY.split(), "--data_dir", str(video), "--frame_range", "1:8:2", "--num_iters", "1"])
    run = tmp_path / "out" / "tiny_v_1-8-2"
    viz.main(["--run", str(run), "--export", "csv,npz,depth"])
    with np.load(run / "export" / "tracks.npz") as tracks:
        assert tracks["frame_numbers"].tolist() == [1, 3, 5, 7] and tracks["first_frame"] == 1
        np.testing.assert_allclose(tracks["times"], TIMES[1::2], atol=1e-3)
    header, *rows = (line.split(",") for line in (run / "export" / "tracks.csv").read_text().splitlines())
    column = {name: [row[i] for row in rows[:4]] for i, name in enumerate(header)}
    assert column["frame"] == ["1", "3", "5", "7"] and column["query_frame"] == ["1"] * 4
    np.testing.assert_allclose([float(time) for time in column["time"]], TIMES[1::2], atol=1e-3)
    assert sorted(path.name for path in (run / "export" / "depth").glob("*.npy"))[0] == "00001.npy"
    capsys.readouterr()
    viz.main(["--run", str(run), "--style", "trails", *flags])
    rate = 5 if flags else 3 / (TIMES[7] - TIMES[1])
    assert f"videos play at {rate:.4g} frames per second" in (said := capsys.readouterr().out)
    assert ("the mean of the source, whose frames are" in said) != bool(flags)


@pytest.mark.parametrize(("chosen", "rate"), [("", 30), ("1:8", 30), ("0:8:3", 10)])
def test_without_times_the_rate_is_the_nominal_one_by_the_step(tmp_path, monkeypatch, chosen, rate):
    monkeypatch.setattr("utils.ffmpeg_process.FrameLog.next", lambda self: None)
    write_video(tmp_path / "v.mp4", clip(8), 30)
    record = record_of(prepare_sequence(tmp_path / "v.mp4", None, tmp_path / "data", frame_range=chosen).root)
    assert "times" not in record and record["fps"] == rate


def test_the_rate_of_a_written_video_is_kept(tmp_path):
    write_video(tmp_path / "v.mp4", clip(4), 30000 / 1001)
    info = probe_video(tmp_path / "v.mp4")
    assert info.num_frames == len(list(read_video(tmp_path / "v.mp4"))) == 4
    assert info.fps == pytest.approx(29.97, abs=0.01) and info.pixel_aspect == 1 and not info.is_deep
