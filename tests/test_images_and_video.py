"""Frames and videos: whatever a user has is read right or refused in words."""

import os
import signal
import warnings
from pathlib import Path
from typing import Any

import cv2
import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from utils.errors import InputError
from utils.ffmpeg import probe_video
from utils.images import decode_image, list_frames, read_frame, read_frames, write_image
from utils.video import read_animation, read_video, write_video

RGB = np.array([[[250, 10, 20], [30, 240, 50], [60, 70, 230]], [[1, 2, 3], [90, 91, 92], [255, 0, 128]]], np.uint8)


def encode(path, bgr):
    """Write as OpenCV does, with any number of channels and depth."""
    cv2.imencode(path.suffix, bgr)[1].tofile(path)
    return path


def test_frames_come_in_natural_order_without_strangers(tmp_path):
    for name in ("10.png", "2.PNG", "1.jpg", ".3.png", ".DS_Store", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "4.png").mkdir()
    assert [p.name for p in list_frames(tmp_path)] == ["1.jpg", "2.PNG", "10.png"]


@pytest.mark.parametrize("names", [[], ["0.png"]])
def test_one_frame_is_no_sequence(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=rf"found {len(names)} .*at least two"):
        list_frames(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="found 0"):
        list_frames(tmp_path / "nothing")


def test_every_kind_of_image_becomes_rgb(tmp_path):
    bgr = RGB[..., ::-1]
    alpha = np.dstack([bgr, np.full(bgr.shape[:2], 7, np.uint8)])
    assert (read_frame(encode(tmp_path / "rgb.png", bgr)) == RGB).all()
    assert (read_frame(encode(tmp_path / "rgba.png", alpha)) == RGB).all()
    assert (read_frame(encode(tmp_path / "deep.png", bgr.astype(np.uint16) * 257)) == RGB).all()
    assert (read_frame(encode(tmp_path / "grey.png", RGB[..., 0])) == RGB[..., :1]).all()
    assert (read_frame(encode(tmp_path / "grün ü.png", bgr)) == RGB).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_cut_or_strange_file_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    path = encode(tmp_path / f"whole{suffix}", noise)
    assert read_frame(path).shape == (40, 50, 3)
    for name, data in {"cut": path.read_bytes()[:-300], "text": b"not an image", "empty": b""}.items():
        bad = tmp_path / f"{name}{suffix}"
        bad.write_bytes(data)
        with pytest.raises(InputError, match=f"{name}{suffix}"):
            read_frame(bad)
    with pytest.raises(InputError, match="gone"):
        read_frame(tmp_path / f"gone{suffix}")


@pytest.mark.parametrize("kind", ["png", "jpg", "progressive jpg", "jpg with a thumbnail"])
def test_an_image_that_is_cut_anywhere_is_refused(tmp_path, kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8))
    exif = Image.Exif()
    noise.resize((8, 6)).save(tmp_path / "thumbnail.jpg")
    exif.get_ifd(0x8769)[0x927C] = (tmp_path / "thumbnail.jpg").read_bytes()  # a maker's note, which holds a whole jpeg
    options: dict[str, Any] = {"jpg with a thumbnail": {"exif": exif}, "progressive jpg": {"progressive": True}}
    path = tmp_path / f"whole.{kind.split()[-1] if 'progressive' in kind else kind[:3]}"
    noise.save(path, **options.get(kind, {}))
    whole, cut = path.read_bytes(), tmp_path / f"cut{path.suffix}"
    assert whole.count(b"\xff\xd9") >= 2 or "thumbnail" not in kind
    assert read_frame(path).shape == (24, 32, 3)
    for length in range(2, len(whole) - 1, 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut short|not an image"):
            read_frame(cut)


def test_mixed_sizes_name_the_first_odd_frame(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, shape in zip(paths, [(4, 6, 3), (4, 6, 3), (5, 6, 3)], strict=True):
        write_image(path, np.zeros(shape, np.uint8))
    assert read_frames(paths[:2]).shape == (2, 4, 6, 3)
    with pytest.raises(InputError, match=r"2\.png is 6x5 but 0\.png is 6x4"):
        read_frames(paths)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (31, 45)])
def test_a_video_of_any_size_survives_writing_and_reading(tmp_path, height, width):
    ramp = np.linspace(30, 220, width, dtype=np.uint8)
    frames = np.stack(
        [np.broadcast_to(np.stack([ramp, ramp[::-1], ramp * 0 + 20 * t], -1), (height, width, 3)) for t in range(4)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_video(tmp_path / "v.mp4", frames)
    back = np.stack(list(read_video(tmp_path / "v.mp4")))
    assert back.shape == (4, height + height % 2, width + width % 2, 3)
    assert np.abs(back[:, :height, :width].astype(int) - frames).mean() < 6  # swapped channels: above 40
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="finds ffmpeg in /proc")
def test_an_ffmpeg_that_ends_early_is_told_in_a_sentence(tmp_path):
    def frames():
        rng, before = np.random.default_rng(0), children()
        for t in range(60):
            if t == 2:
                for pid in children() - before:
                    os.kill(pid, signal.SIGKILL)
            yield rng.integers(0, 255, (128, 128, 3), np.uint8)

    with pytest.raises(InputError, match=r"cannot write .*v.mp4 whole: make room"):
        write_video(tmp_path / "v.mp4", frames())
    assert list(tmp_path.iterdir()) == []


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_a_gif_is_read_as_rgb(tmp_path):
    frames: list[Any] = [np.full((16, 20, 3), (200, 30, 10 * t), np.uint8) for t in range(3)]
    imageio.mimsave(tmp_path / "v.gif", frames)
    back = list(read_video(tmp_path / "v.gif"))
    assert len(back) == 3 and back[0].shape == (16, 20, 3)
    assert np.abs(np.stack(back).astype(int) - np.stack(frames)).max() < 12


def test_the_rate_of_a_video_is_known(tmp_path):
    frames = [np.full((16, 20, 3), 40 * t, np.uint8) for t in range(4)]
    first, *others = map(Image.fromarray, frames)
    first.save(tmp_path / "v.gif", save_all=True, append_images=others, duration=40)
    assert [frame.time for frame in read_animation(tmp_path / "v.gif")] == [0, 0.04, 0.08, 0.12]
    write_video(tmp_path / "v.mp4", frames, 30000 / 1001)
    assert probe_video(tmp_path / "v.mp4").fps == pytest.approx(29.97, abs=0.01)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"nothing of a video" * 20)
    with pytest.raises(InputError, match=r"v\.mp4"):
        next(read_video(tmp_path / "v.mp4"))
    with pytest.raises(InputError, match="no video file"):
        next(read_video(tmp_path / "w.mp4"))


def test_sixteen_bits_are_written_whole(tmp_path):
    values = np.array([[0, 300, 65535]], np.uint16)
    write_image(tmp_path / "count.png", values)
    assert (decode_image(tmp_path / "count.png") == values).all()
