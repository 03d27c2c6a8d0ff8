"""From folders and films of any kind to the end of preprocessing, and for odd clips through training and drawing."""

import re
from pathlib import Path

import cv2
import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

import train
import viz
from preprocessing.pair_files import write_counts, write_pair_mask
from preprocessing.pairs import Pairs
from preprocessing.sequence_paths import SequencePaths
from tests.input_files import check_prepared, clip, encode, ffmpeg, grey, prepare, snapshot, write_images
from utils.images import list_frames, read_frame
from utils.video import read_video, write_video


def with_alpha(video: np.ndarray) -> np.ndarray:
    return np.concatenate([video, np.full_like(video[..., :1], 9)], -1)


def write_la(folder: Path, video: np.ndarray) -> None:
    for t, frame in enumerate(grey(video)):
        Image.fromarray(np.dstack([frame, np.full_like(frame, 9)]), mode="LA").save(folder / f"{t}.png")


# kind: (how to write the frames into color/, what is read back as, mean error that the format costs)
IMAGES = {
    "RGBA": (lambda folder, v: write_images(folder, with_alpha(v)), None, 0),
    "grey": (lambda folder, v: write_images(folder, grey(v)), grey, 0),
    "grey with alpha": (write_la, grey, 0),
    "float": (lambda folder, v: write_images(folder, v.astype(np.float32) / 255, "{}.tiff"), None, 0),
    ".JPG": (lambda folder, v: write_images(folder, v, "IMG_{:04d}.JPG"), None, 9),
    "unpadded": (lambda folder, v: write_images(folder, v, "{}.png", first=8), None, 0),
    "letters": (lambda folder, v: write_images(folder, v, "ein büld é 影 {}.png"), None, 0),
    ".DS_Store": (lambda folder, v: (write_images(folder, v) / ".DS_Store").write_bytes(b"Bud1"), None, 0),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_any_kind_are_used_in_place(tmp_path, kind):
    write, read_as, tolerance = IMAGES[kind]
    # `color` elsewhere in the path, spaces and other letters: only the last `color` is the frames'.
    root = tmp_path / "color" / "ma séquence color 影" / "seq"
    (root / "color").mkdir(parents=True)
    write(root / "color", clip())
    prepare(root, tmp_path)
    expected = clip() if read_as is None else np.repeat(read_as(clip())[..., None], 3, axis=-1)
    check_prepared(root, expected, tolerance)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "name", ["clip.mp4", "a color/12:30 é 影.MP4", "color.gif", "grey.gif", "images", "x/color", "x/color/color"]
)
def test_videos_and_folders_are_copied(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, video = Path(name), clip()
    source.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".gif":
        video = np.repeat(grey(video)[..., None], 3, axis=-1) if source.stem == "grey" else video
        imageio.mimsave(source, list(video[..., 0] if source.stem == "grey" else video))
    elif source.suffix:
        write_video(source, video)
    else:
        write_images(source, video)
    before = snapshot(tmp_path)
    prepare(source, tmp_path)
    check_prepared(tmp_path / "data" / source.stem, video, 12 if source.suffix else 0)
    assert before.items() <= snapshot(tmp_path).items()


def test_a_photo_is_upright_as_its_camera_noted(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6  # the stored rows are the picture's columns, from the right
    for t, frame in enumerate(clip(height=48, width=32)):
        (tmp_path / "seq" / "color").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rot90(frame)).save(tmp_path / "seq" / "color" / f"{t}.jpg", exif=exif, quality=95)
    prepare(tmp_path / "seq", tmp_path)
    check_prepared(tmp_path / "seq", clip(height=48, width=32), 9)


def test_a_jpeg_with_a_thumbnail_and_a_trailer_is_whole_until_it_is_cut(tmp_path, refused):
    clean = encode(tmp_path / "1.jpg", clip(1)[0])
    image, thumbnail = clean.read_bytes(), cv2.imencode(".jpg", clip(1)[0, ::4, ::4])[1].tobytes()
    header = b"\xff\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = image[:2] + header + image[2:]
    path = tmp_path / "0.jpg"
    path.write_bytes(whole + b"\xff\xda a film" * 20000)
    assert (read_frame(path) == read_frame(clean)).all()
    path.write_bytes(whole[:-200])
    assert "0.jpg: the image is cut short" in refused(tmp_path)


@pytest.fixture
def refused(tmp_path, capsys):
    """Calls preprocessing on what it must refuse: status 2, one sentence, no file left; returns the sentence."""

    def call(source: Path, *flags: str) -> str:
        before = snapshot(tmp_path)
        with pytest.raises(SystemExit) as stopped:
            prepare(source, tmp_path, *flags)
        assert stopped.value.code == 2 and snapshot(tmp_path) == before
        assert not list(tmp_path.rglob("*.partial"))
        error = capsys.readouterr().err
        assert "Traceback" not in error
        message = error.strip().splitlines()[-1]
        assert message.startswith("error: ") and len(message) < 500
        return message

    return call


def spoil(path: Path, content: bytes | np.ndarray) -> None:
    """Put a file of these bytes, or of this picture, in the place of `path`."""
    encode(path, content) if isinstance(content, np.ndarray) else path.write_bytes(content)


# kind: (file that is spoilt, how, part of the message)
SPOILT = {
    "mixed sizes": ("00002.png", lambda whole: clip(1, 20, 30)[0], "30x20 .*48x32.* one size"),
    "cut png": (
        "00002.png",
        lambda whole: whole[: len(whole) // 2],
        r"00002\.png: the image is cut short or damaged; copy it",
    ),
    "damaged png": ("00002.png", lambda whole: whole[:99] + bytes(50) + whole[149:], r"00002\.png: not an image"),
    "empty png": ("00002.png", lambda whole: b"", r"00002\.png: the file is empty"),
    "text": ("00002.png", lambda whole: b"no picture", r"00002\.png: not an image .*; convert it"),
    "two of a stem": ("00002.jpg", lambda whole: clip(1)[0], r"both 00002\.jpg and 00002\.png, expected one"),
    "floats above 1": ("00004.tiff", lambda whole: np.float32(clip(1)[0]), r"from 0 to 2\d\d, expected 0 to 1: conv"),
    "NaN": ("00004.tiff", lambda whole: np.full((32, 48), np.nan, np.float32), "from nan to nan, expected 0 to 1"),
}


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_frame_is_refused(tmp_path, refused, kind, in_place):
    name, spoilt, message = SPOILT[kind]
    folder = write_images(tmp_path / "seq" / "color" if in_place else tmp_path / "seq", clip())
    path = folder / name
    spoil(path, spoilt(path.read_bytes() if path.exists() else b""))
    assert re.search(message, refused(tmp_path / "seq"))


@pytest.mark.parametrize("num_frames", [0, 1])
@pytest.mark.parametrize("folder", ["seq", "seq/color"])
def test_too_few_frames_are_refused(tmp_path, refused, num_frames, folder):
    write_images(tmp_path / folder, clip()[:num_frames])
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / ".DS_Store").write_bytes(b"Bud1")
    assert f"found {num_frames} image(s)" in refused(tmp_path / "seq")


def test_frames_too_small_for_flow_are_refused(tmp_path, refused):
    write_images(tmp_path / "seq" / "color", clip())
    assert "would be 9x6 (width x height), expected at least 12 by 8" in refused(tmp_path / "seq", "--max_side", "9")
    prepare(tmp_path / "seq", tmp_path, "--max_side", "12")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".gif"])
def test_a_video_that_is_cut_anywhere_is_refused(tmp_path, refused, suffix):
    write_video(tmp_path / "v.mp4", clip(8))
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    # With its index in front a film can be played while it is loaded: also when the rest never comes.
    ffmpeg("-i", tmp_path / "v.mp4", *(["-movflags", "+faststart"] if suffix in (".mp4", ".mov") else []), whole)
    assert len(list(read_video(whole))) == 8
    for share in (0.1, 0.5, 0.93):
        cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        assert f"cannot read {cut}" in refused(cut)


def test_what_holds_no_film_is_refused(tmp_path, refused):
    (tmp_path / "empty.mp4").touch()
    assert "the file is empty" in refused(tmp_path / "empty.mp4")
    (tmp_path / "text.gif").write_text("no film")
    assert "text.gif as a video" in refused(tmp_path / "text.gif")
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "sound.mp4")
    assert "sound.mp4 as a video" in refused(tmp_path / "sound.mp4")
    write_video(tmp_path / "one.mp4", clip(1))
    assert "holds 1 frame(s), expected at least two" in refused(tmp_path / "one.mp4")


def test_sound_that_outlasts_the_film_is_no_cut(tmp_path):
    write_video(tmp_path / "v.mp4", clip())
    ffmpeg("-i", tmp_path / "v.mp4", "-f", "lavfi", "-i", "sine=d=3", "-c:v", "copy", tmp_path / "sound.mp4")
    assert len(list(read_video(tmp_path / "sound.mp4"))) == len(clip())


@pytest.mark.parametrize("kind", ["two frames in portrait", "odd sides, a black frame", "a frame without valid flow"])
def test_odd_clips_are_trained_and_drawn(tiny_flags, tmp_path, monkeypatch, kind):
    # It takes longest and shows the networks, not the clip.
    monkeypatch.setattr("visualization.tensorboard.weight_figure", lambda module: np.zeros((8, 8, 3), np.uint8))
    video = {"two": clip(2, 48, 32), "odd": clip(5, 31, 45)}.get(kind[:3], clip(5))
    if len(video) > 2:
        noise = np.random.default_rng(1).integers(0, 256, video[2].shape, np.uint8)
        video[2] = 0 if "black" in kind else noise
    paths = SequencePaths(tmp_path / "clip")
    write_images(paths.color, video)
    prepare(paths.root, tmp_path)
    if "valid" in kind:
        forget_flow_of(paths, 2)
    flags = [*tiny_flags, "--data_dir", str(paths.root), "--num_iters", "6", "--preprocess", "never"]
    train.main(flags)
    viz.main(flags)
    for name in ("00000_grid", "00000_trails", "00000_rainbow", "00000_flow", "color", "depth", "canonical"):
        assert len(list(read_video(tmp_path / "out" / "tiny_clip" / "vis" / f"{name}.mp4"))) == len(video)


def forget_flow_of(paths: SequencePaths, frame: int) -> None:
    """Mark all flow from and to a frame invalid; on frames this small, most flow of noise passes the cycle check."""
    names = [file.name for file in list_frames(paths.color)]
    nothing = np.zeros(read_frame(paths.color / names[0]).shape[:2], bool)
    for products in (paths, paths.chained):
        for other in names[:frame] + names[frame + 1 :]:
            write_pair_mask(products, names[frame], other, nothing, nothing)
            write_pair_mask(products, other, names[frame], nothing, nothing)
        products.flow_stats.unlink()
        write_counts(products, names, Pairs(len(names)), "none")


def test_training_refuses_before_it_writes(tiny_flags, tmp_path, capsys):
    write_images(tmp_path / "clip" / "color", clip())
    encode(tmp_path / "clip" / "color" / "00001.png", clip(1, 20, 30)[0])
    before = snapshot(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        train.main([*tiny_flags, "--data_dir", str(tmp_path / "clip")])
    assert stopped.value.code == 2 and snapshot(tmp_path) == before
    assert "all frames must have one size" in capsys.readouterr().err
