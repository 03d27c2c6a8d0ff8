"""Videos with deep values, hidden or damaged frames, or several sizes: what is read is what the file holds, or said."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from preprocessing.frames import prepare_sequence
from preprocessing.sources import open_source
from tests.input_files import check_prepared, clip, count_packets, ffmpeg, grey
from utils.errors import InputError
from utils.ffmpeg import decode_video, probe_video
from utils.images import list_frames
from utils.video import read_video

RGB = np.random.default_rng(1).integers(0, 1 << 16, (3, 32, 48, 3)).astype("<u2")
DEEP = {  # pixel format: (bits, what is seen, what is stored)
    "gray9le": (9, RGB[..., 0], RGB[..., 0]),
    "gray10le": (10, RGB[..., 0], RGB[..., 0]),
    "gray12le": (12, RGB[..., 0], RGB[..., 0]),
    "gray16le": (16, RGB[..., 0], RGB[..., 0]),
    "ya16le": (16, RGB[..., 0], RGB[..., :2]),
    "gbrp12le": (12, RGB, RGB[..., [1, 2, 0]].transpose(0, 3, 1, 2)),
    "rgb48le": (16, RGB, RGB),
}


@pytest.mark.parametrize("pixel_format", DEEP)
def test_values_of_a_deep_video_are_those_of_the_file(tmp_path, pixel_format):
    bits, seen, stored = DEEP[pixel_format]
    (tmp_path / "v.raw").write_bytes((stored >> (16 - bits)).tobytes())
    layout = ["-f", "rawvideo", "-pix_fmt", pixel_format, "-s", "48x32", "-i", tmp_path / "v.raw"]
    ffmpeg(*layout, "-c:v", "png" if "ya" in pixel_format else "ffv1", tmp_path / "v.mkv")
    frames = [image for image, _ in open_source(tmp_path / "v.mkv").read()]
    np.testing.assert_array_equal(frames, seen >> (16 - bits))


def test_the_value_range_of_a_12_bit_video_is_in_its_unit(tmp_path, train_to_flow):
    values = grey(clip(4)) * np.uint16(16)
    (tmp_path / "v.raw").write_bytes(values.astype("<u2").tobytes())
    layout = ["-f", "rawvideo", "-pix_fmt", "gray12le", "-s", "48x32", "-i", tmp_path / "v.raw"]
    ffmpeg(*layout, "-c:v", "ffv1", tmp_path / "v.mkv")
    assert "values from 0 to 4080 become 0 to 255" in train_to_flow(tmp_path / "v.mkv", "--value_range", "0:4080")
    check_prepared(tmp_path / "data" / "v", np.repeat(grey(clip(4))[..., None], 3, axis=-1), 0.1)


def write_trimmed(path: Path) -> Path:
    """Cut a video without decoding it: an edit list hides the frames from the key frame to the start of the cut."""
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=160x120:r=25:d=3", "-g", "50", path.parent / "long.mp4")
    ffmpeg("-ss", "0.5", "-i", path.parent / "long.mp4", "-t", "1", "-c", "copy", path)
    return path


@pytest.mark.parametrize("limit", [None, 20, 30])
def test_frames_that_an_edit_list_hides_do_not_count(tmp_path, limit):
    video, said = write_trimmed(tmp_path / "v.mp4"), list[str]()
    shown = len(list(read_video(video)))
    assert shown == probe_video(video).num_frames < 30 < count_packets(video)
    root = prepare_sequence(video, None, tmp_path / "data", limit=limit, log=said.append).root
    record = json.loads((root / "source.json").read_text())
    assert record["source_frames"] == shown and record["num_frames"] == min(shown, limit or shown)
    assert [line[:29] for line in said] == ([f"the first 20 of {shown} frames are"] if limit == 20 else [])


@pytest.mark.parametrize("limit", [None, 20, 30])
def test_fewer_decodable_frames_than_counted_are_a_clip(tmp_path, monkeypatch, limit):
    """A stream may begin between key frames, or hold frames that are not to be shown."""
    video, said = write_trimmed(tmp_path / "v.mp4"), list[str]()
    shown = len(list(read_video(video)))
    monkeypatch.setattr("preprocessing.sources.Video.num_coded", 40)
    root = prepare_sequence(video, None, tmp_path / "data", limit=limit, log=said.append).root
    record = json.loads((root / "source.json").read_text())
    assert record["source_frames"] == (40 if limit == 20 else shown)
    assert record["num_frames"] == len(list_frames(root / "color")) == min(shown, limit or shown)
    assert (f"v.mp4 shows {shown} of its 40 coded frames" in said) == (limit != 20)
    again = list[str]()
    assert prepare_sequence(video, None, tmp_path / "data", limit=limit, log=again.append).root == root
    assert again == said if limit != 30 else again == said[1:]
    with pytest.raises(InputError, match=f"ends after {shown} of the 35 frames"):
        prepare_sequence(video, None, tmp_path / "data", frame_range="0:35")


@pytest.mark.parametrize(("limit", "chosen"), [(None, ""), (95, ""), (None, "0:60")])
def test_damage_inside_a_video_is_told(tmp_path, limit, chosen):
    video = tmp_path / "v.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=160x120:r=25:d=4", "-g", "12", video)
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    video.write_bytes(content)
    said = list[str]()
    for _ in range(2):  # the second time from the copy
        prepare_sequence(video, None, tmp_path / "data", limit=limit, frame_range=chosen, log=said.append)
        found = re.search(r"warning: (.*) of v.mp4 could be decoded \((.*)\); motion jumps", said.pop())
        assert found and found[2].startswith("Error submitting packet to decoder: Invalid data")
        assert found[1] == "not all frames" if chosen else re.fullmatch(r"\d\d of 100 coded frames", found[1])


def write_joined(path: Path, *looks: str) -> Path:
    """Write one transport stream of ten frames of each look, a size and a pixel format."""
    parts = []
    for k, look in enumerate(looks):
        size, pixel_format = look.split()
        parts.append(path.parent / f"part{k}.ts")
        ffmpeg("-f", "lavfi", "-i", f"testsrc=s={size}:r=10:d=1", "-pix_fmt", pixel_format, "-bf", "0", parts[-1])
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("flags", [[], ["--frame_range", "2:20:3"], ["--frame_range", "12:20"], ["--num_imgs", "15"]])
def test_a_change_of_size_is_refused(tmp_path, refused_by_train, flags):
    video = write_joined(tmp_path / "v.ts", "160x120 yuv420p", "128x96 yuv420p")
    said = refused_by_train(video, *flags)
    assert re.search("v.ts changes its size at frame (9|10), from 160x120 to 128x96", said)
    assert not (tmp_path / "data").exists() or not any((tmp_path / "data").iterdir())


def test_frames_before_a_change_of_size_are_usable(tmp_path):
    video = write_joined(tmp_path / "v.ts", "160x120 yuv420p", "128x96 yuv420p")
    assert len(list(decode_video(video, range(2, 8, 2)))) == 3
    with pytest.raises(InputError, match="changes its size"):
        list(read_video(video))


def test_a_change_of_the_pixel_format_keeps_the_numbers_of_frames(tmp_path):
    video = write_joined(tmp_path / "v.ts", "160x120 yuv420p", "160x120 yuv444p")
    frames = [image for image, _ in decode_video(video)]
    for (image, _), k in zip(decode_video(video, range(3, 17, 4)), range(3, 17, 4), strict=True):
        np.testing.assert_array_equal(image, frames[k])
