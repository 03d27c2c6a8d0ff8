"""Clips in one file that is no video: TIFF stacks, animated WebP, PNG and GIF, arrays."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from preprocessing.tiff_directory import axes_of, read_directory
from tests.input_files import check_prepared, clip, encode, grey
from utils.errors import InputError

VIDEO = clip(4)
DURATIONS = [40, 80, 120, 40]  # ms


def write_tiff(path: Path, pages: np.ndarray, description: str = "", **options: Any) -> Path:
    """Write grey or RGB pages with Pillow, which stores what ImageJ and OME write into the description."""
    tags = ImageFileDirectory_v2()
    if description:
        tags[270] = description
    first, *others = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=others, tiffinfo=tags, **options)
    return path


def write_colour_tiff(path: Path, pages: np.ndarray) -> Path:
    """Write RGB pages of any depth."""
    assert cv2.imwritemulti(str(path), [np.ascontiguousarray(page[..., ::-1]) for page in pages])
    return path


def animate(path: Path) -> Path:
    first, *others = map(Image.fromarray, VIDEO)
    first.save(path, save_all=True, append_images=others, duration=DURATIONS, lossless=True)
    return path


def saved(path: Path, array: np.ndarray) -> Path:
    np.savez(path, frames=array) if path.suffix == ".npz" else np.save(path, array)
    return path


def stretched(video: np.ndarray) -> np.ndarray:
    """The clip with its percentiles 0.1 and 99.9 at 0 and 255, in float64."""
    low, high = np.percentile(video.astype(np.float64), (0.1, 99.9))
    return ((video - low) / (high - low) * 255).clip(0, 255)


def as_grey(video: np.ndarray) -> np.ndarray:
    return np.repeat(grey(video)[..., None], 3, axis=-1)


DARK = (grey(VIDEO) * np.uint16(4)).astype(np.uint16)  # up to 1000 of 65535
NOISE = np.random.default_rng(2).integers(0, 4000, DARK.shape, np.uint16)
BOTH = np.stack([DARK, NOISE], 1).reshape(-1, *DARK.shape[1:])  # two channels in turn
IMAGEJ = "ImageJ=1.53t\nimages=8\nchannels=2\nframes=4\nhyperstack=true\nmode=composite\n"
OME = '<OME><Pixels DimensionOrder="XYZTC" SizeC="2" SizeT="4" SizeX="48" SizeY="32" SizeZ="1"/></OME>'

# kind: (how to write it, what is read back, mean error)
KINDS: dict[str, tuple[Callable[[Path], Path], np.ndarray, float]] = {
    "tiff, 8 bit grey": (lambda p: write_tiff(p / "v.tif", grey(VIDEO)), as_grey(VIDEO), 0),
    "tiff, 8 bit colour, packed": (lambda p: write_tiff(p / "v.tif", VIDEO, compression="tiff_lzw"), VIDEO, 0),
    "tiff without a suffix": (lambda p: write_tiff(p / "v.tif", VIDEO).rename(p / "v"), VIDEO, 0),
    "tiff, 16 bit": (lambda p: write_tiff(p / "v.tif", DARK), stretched(as_grey(VIDEO)), 1),
    "tiff, 16 bit colour": (lambda p: write_colour_tiff(p / "v.tif", VIDEO * np.uint16(9)), stretched(VIDEO), 1),
    "tiff, float": (lambda p: write_tiff(p / "v.tif", grey(VIDEO) * np.float32(9) - 50), stretched(as_grey(VIDEO)), 1),
    "tiff, big": (lambda p: write_tiff(p / "v.tif", VIDEO, big_tiff=True), VIDEO, 0),
    "ImageJ, two channels": (lambda p: write_tiff(p / "v.tif", BOTH, IMAGEJ), stretched(as_grey(VIDEO)), 1),
    "ImageJ, slices": (
        lambda p: write_tiff(p / "v.tif", grey(VIDEO), "ImageJ=1.53t\nimages=4\nslices=4\n"),
        as_grey(VIDEO),
        0,
    ),
    "OME, channels last": (
        lambda p: write_tiff(p / "v.ome.tif", np.concatenate([DARK, NOISE]), OME),
        stretched(as_grey(VIDEO)),
        1,
    ),
    "webp": (lambda p: animate(p / "v.webp"), VIDEO, 0),
    "png": (lambda p: animate(p / "v.png"), VIDEO, 0),
    "gif": (lambda p: animate(p / "v.gif"), VIDEO, 12),
    "npy, grey": (lambda p: saved(p / "v.npy", grey(VIDEO)), as_grey(VIDEO), 0),
    "npy, colour": (lambda p: saved(p / "v.npy", VIDEO), VIDEO, 0),
    "npy, unit floats": (lambda p: saved(p / "v.npy", VIDEO / 255), VIDEO, 0),
    "npy, big-endian": (lambda p: saved(p / "v.npy", DARK.astype(">u2")), stretched(as_grey(VIDEO)), 1),
    "npz, 16 bit": (lambda p: saved(p / "v.npz", DARK[..., None]), stretched(as_grey(VIDEO)), 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_is_a_clip(tmp_path, train_to_flow, kind):
    write, expected, tolerance = KINDS[kind]
    source = write(tmp_path)
    said = train_to_flow(source)
    root = tmp_path / "data" / source.stem
    check_prepared(root, expected, tolerance)
    assert ("has 2 channels: the first one is used" in said) == ("channels" in kind)
    assert (" become 0 to 255 (percentiles" in said) == (expected.dtype == np.float64)
    record = json.loads((root / "source.json").read_text())
    if source.suffix in (".webp", ".png", ".gif"):
        assert record["times"] == [0, 0.04, 0.12, 0.24] and record["fps"] == pytest.approx(3 / 0.24)
    else:
        assert "times" not in record and "fps" not in record


def test_a_range_of_a_stack_is_read(tmp_path, train_to_flow):
    source = write_tiff(tmp_path / "v.tif", np.concatenate([np.zeros_like(BOTH), BOTH]), IMAGEJ.replace("=4", "=8"))
    train_to_flow(source, "--frame_range", "4:8")
    check_prepared(tmp_path / "data" / "v_4-8", stretched(as_grey(VIDEO)), 1)


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "one page": (lambda p: write_tiff(p / "v.tif", VIDEO[:1]), "holds 1 frame(s), expected at least two"),
    "a still png": (lambda p: encode(p / "v.png", VIDEO[0]), "holds 1 frame(s)"),
    "slices and times": (
        lambda p: write_tiff(p / "v.tif", grey(VIDEO), "ImageJ=1.53t\nimages=4\nslices=2\nframes=2\n"),
        "2 slices at each of 2 times, expected one image at each time: make a projection",
    ),
    "pages in one block": (
        lambda p: write_tiff(p / "v.tif", grey(VIDEO)[:1], "ImageJ=1.53t\nimages=4\nframes=4\n"),
        "has one page for 4 images",
    ),
    "channels first": (lambda p: saved(p / "v.npy", VIDEO.transpose(0, 3, 1, 2)), "expected frames of numbers [T,H,W]"),
    "one image": (lambda p: saved(p / "v.npy", VIDEO[0]), "would be 3x48"),
    "bools": (lambda p: saved(p / "v.npy", VIDEO > 9), "holds bool [4, 32, 48, 3], expected frames of numbers"),
    "no frames": (lambda p: saved(p / "v.npy", VIDEO[:0]), "holds 0 frame(s), expected at least two"),
    "one frame": (lambda p: saved(p / "v.npy", VIDEO[:1]), "holds 1 frame(s), expected at least two"),
    "no pixels": (lambda p: saved(p / "v.npy", VIDEO[:, :0]), "would be 48x0"),
    "no arrays": (lambda p: saved(p / "v.npz", np.array([{}], object)), "v.npz as an array of frames"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_stack_that_is_no_clip_is_refused(tmp_path, refused_by_train, kind):
    write, message = REFUSED[kind]
    assert message in refused_by_train(write(tmp_path))


def write_floats(folder: Path, kind: str, frames: np.ndarray) -> Path:
    """Write grey floats as an array, a stack, or images in a folder."""
    if kind == "npy":
        return saved(folder / "v.npy", frames)
    if kind == "tiff":
        return write_tiff(folder / "v.tif", frames)
    for t, frame in enumerate(frames):
        encode(folder / "v" / f"{t:05d}.tif", frame)
    return folder / "v"


@pytest.mark.parametrize("kind", ["npy", "tiff", "folder"])
def test_a_range_beyond_the_end_of_floats_is_refused(tmp_path, refused_by_train, kind):
    source = write_floats(tmp_path, kind, grey(VIDEO).astype(np.float32))
    assert "--frame_range is 2:9, expected an end of at most 4" in refused_by_train(source, "--frame_range", "2:9")


@pytest.mark.parametrize("kind", ["npy", "tiff", "folder"])
def test_frames_that_are_not_used_may_hold_nan(tmp_path, train_to_flow, kind):
    frames = np.concatenate([grey(VIDEO), grey(VIDEO)[:1]]).astype(np.float32)
    frames[-1] = np.nan
    said = train_to_flow(write_floats(tmp_path, kind, frames), "--num_imgs", "4")
    assert "the first 4 of 5 frames are used" in said
    check_prepared(tmp_path / "data" / "v_0-4", stretched(as_grey(VIDEO)), 1)


def test_several_arrays_are_refused(tmp_path, refused_by_train):
    np.savez(tmp_path / "v.npz", tracks=np.ones((4, 9, 2)), visibility=np.ones((4, 9)))
    assert "found ['tracks', 'visibility'], expected one array" in refused_by_train(tmp_path / "v.npz")


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".png", ".gif", ".npy", ".npz"])
def test_a_stack_that_is_cut_anywhere_is_refused(tmp_path, refused_by_train, suffix):
    path = tmp_path / f"v{suffix}"
    if suffix == ".tif":
        write_tiff(path, VIDEO)
    else:
        saved(path, VIDEO) if suffix in (".npy", ".npz") else animate(path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.93):
        path.write_bytes(whole[: int(share * len(whole))])
        assert f"cannot read {path}" in refused_by_train(path).replace("page 3 of ", "")


def test_the_directory_of_a_tiff_is_walked_to_its_end(tmp_path):
    path = write_tiff(tmp_path / "v.tif", grey(VIDEO), "short")
    assert read_directory(path).num_pages == 4 and read_directory(path).description == "short"
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[start : start + 2], "little")
    after = start + 2 + 12 * entries
    content[after : after + 4] = content[4:8]  # the first page is its own successor
    path.write_bytes(content)
    with pytest.raises(InputError, match="cut short or damaged"):
        read_directory(path)


def test_axes_are_read_in_their_order():
    assert list(axes_of(OME).items()) == [("Z", 1), ("T", 4), ("C", 2)]
    assert axes_of(IMAGEJ) == {"C": 2, "Z": 1, "T": 4}
    assert axes_of("ImageJ=1.53t\nimages=6\nchannels=2\n") == {"C": 2, "Z": 1, "T": 3}
    assert axes_of("a photo") == {}
