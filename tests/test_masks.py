"""Masks of any tool: labels, palettes, soft edges, arrays and folders, read alone and through train, viz, evaluate."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import evaluate
import train
import viz
from loaders.clip_masks import MaskOptions, find_masks
from preprocessing.frames import prepare_sequence
from preprocessing.sequence_paths import SequencePaths
from tests.conftest import TINY
from tests.input_files import encode, write_images
from utils.errors import InputError
from utils.images import decode_image
from utils.masks import read_mask

SIZE = (40, 56)
DAVIS = [int(f"{i:08b}"[::-1][c::3].ljust(8, "0")[:8], 2) for i in range(256) for c in range(3)]  # its colours


def label_map(*labels: int, dtype: type = np.uint8) -> np.ndarray:
    """A map of squares of 10x10 pixels with these labels, from the left, on a background of 0."""
    image: np.ndarray = np.zeros(SIZE, dtype)
    for i, label in enumerate(labels):
        image[10:20, 2 + 13 * i : 12 + 13 * i] = label
    return image


def palette(indices: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette(colours)
    return image


def soft(maximum: int, dtype: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """A disc with an edge of a few pixels, and where it is above half of its maximum."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    strength = np.clip((14 - np.hypot(y - 20, x - 28)) / 6 + 0.5, 0, 1)
    levels = np.rint(strength * maximum).astype(dtype)
    return levels, levels > maximum / 2


def test_davis_colours_are_those_of_its_palette():
    assert DAVIS[: 3 * 4] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] and DAVIS[3 * 8 : 3 * 9] == [64, 0, 0]


@pytest.mark.parametrize(
    "kind", ["255", "01", "rgb", "16 bit", "alpha", "colour of opaque rgba", "bool", "float", "bw"]
)
def test_masks_of_one_object_select_the_same(tmp_path, kind):
    wanted = np.zeros((4, 5), bool)
    wanted[1:3, 2:] = True
    full = wanted.astype(np.uint8) * 255
    images: dict[str, np.ndarray] = {
        "255": full,
        "01": wanted.astype(np.uint8),
        "rgb": np.dstack([full * 0, full, full * 0]),
        "16 bit": wanted.astype(np.uint16) * 65535,
        "alpha": np.dstack([full * 0 + 200, full * 0, full * 0, full]),
        "colour of opaque rgba": np.dstack([full, full * 0, full * 0, full * 0 + 255]),
        "bool": wanted[None],
        "float": wanted[..., None] * 0.7,
        "bw": ~wanted,
    }
    image = images[kind]
    path = tmp_path / ("m.npy" if kind in ("bool", "float") else "m.png")
    if kind == "bw":  # indices in any order: greys are read as greys
        palette(image.astype(np.uint8), [255, 255, 255, 0, 0, 0]).save(path)
    elif path.suffix == ".npy":
        np.save(path, image)
    else:
        encode(path, image)
    assert (read_mask(path, 4, 5).foreground == wanted).all()


LABEL_MAPS: dict[str, tuple[np.ndarray, str]] = {
    "grey png": (label_map(1, 2, 3), ".png"),
    "grey png of one large label": (label_map(1, 2, 255), ".png"),
    "spread greys": (label_map(85, 170, 255), ".png"),
    "16 bit": (label_map(3, 700, 40000, dtype=np.uint16), ".png"),
    "tiff": (label_map(3, 700, 40000, dtype=np.uint16), ".tif"),
    "npy": (label_map(3, 700, 70000, dtype=np.int64), ".npy"),
    "float npy": (label_map(1, 2, 3, dtype=np.float32), ".npy"),
    "palette": (label_map(1, 8, 9), ".png"),
}


@pytest.mark.parametrize("kind", LABEL_MAPS)
def test_every_label_but_0_is_foreground_and_one_can_be_picked(tmp_path, kind):
    labels, suffix = LABEL_MAPS[kind]
    path = tmp_path / f"m{suffix}"
    if kind == "palette":
        palette(labels, DAVIS).save(path)
    elif suffix == ".npy":
        np.save(path, labels)
    else:
        encode(path, labels)
    mask = read_mask(path, *SIZE)
    assert (mask.foreground == (labels > 0)).all() and mask.rule == "every label but 0 is foreground"
    second = sorted(np.unique(labels).tolist())[2]
    assert (read_mask(path, *SIZE, label=second).foreground == (labels == second)).all()
    with pytest.raises(InputError, match=rf"no label 77, found \d+, {second:.0f}, \d+: give another label"):
        read_mask(path, *SIZE, label=77)


def test_a_label_map_in_colours_has_no_numbers(tmp_path):
    """Object 8 is dark: (64, 0, 0)."""
    path = encode(tmp_path / "m.png", np.array(DAVIS, np.uint8).reshape(-1, 3)[label_map(1, 8, 9)])
    assert (read_mask(path, *SIZE).foreground == (label_map(1, 8, 9) > 0)).all()
    with pytest.raises(InputError, match=r"label 1 is wanted, but .* holds colours, expected numbers"):
        read_mask(path, *SIZE, label=1)


@pytest.mark.parametrize(("maximum", "dtype"), [(255, np.uint8), (100, np.uint8), (65535, np.uint16), (40, np.uint8)])
def test_soft_masks_count_above_half_of_their_own_maximum(tmp_path, maximum, dtype):
    levels, wanted = soft(maximum, dtype)
    mask = read_mask(encode(tmp_path / "m.png", levels), *SIZE)
    assert (mask.foreground == wanted).all() and "above half" in mask.rule
    in_colour = encode(tmp_path / "c.png", np.dstack([levels * 0, levels, levels * 0]))
    assert (read_mask(in_colour, *SIZE).foreground == wanted).all()
    np.save(tmp_path / "m.npy", levels / maximum * 0.9)
    assert (read_mask(tmp_path / "m.npy", *SIZE).foreground == wanted).all()
    with pytest.raises(InputError, match="holds shades, expected numbers"):
        read_mask(tmp_path / "m.npy", *SIZE, label=1)


@pytest.mark.parametrize("sigma", [0.7, 2, 8])
def test_blurred_edges_of_any_direction_are_soft(tmp_path, sigma):
    """Along a straight edge each level forms a line, in the tails of a blur even a stripe."""
    for shape in (label_map(255, 255, 255), np.triu(np.full(SIZE, 255, np.uint8))):
        levels = cv2.GaussianBlur(shape, (0, 0), sigma)
        mask = read_mask(encode(tmp_path / "m.png", levels), *SIZE)
        assert "above half" in mask.rule and (mask.foreground == (levels > levels.max() / 2)).all()


def test_grey_edges_of_a_mask_are_cut_at_half(tmp_path):
    path = encode(tmp_path / "m.png", np.array([[0, 127, 128, 255]], np.uint8))
    assert read_mask(path, 1, 4).foreground.tolist() == [[False, False, True, True]]


def test_noise_of_a_jpeg_is_no_label(tmp_path):
    path = encode(tmp_path / "m.jpg", label_map(255, 255))
    mask = read_mask(path, *SIZE)
    assert len(np.unique(decode_image(path))) > 2 and (mask.foreground == (label_map(1, 1) > 0)).all()


def test_unusable_masks_are_refused(tmp_path):
    path = encode(tmp_path / "m.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(InputError, match="selects nothing"):
        read_mask(path, 4, 5)
    with pytest.raises(InputError, match=r"5x4 .* 6x4"):
        read_mask(path, 4, 6)
    with pytest.raises(InputError, match="no mask at"):
        read_mask(tmp_path / "none.png", 4, 5)
    arrays = {
        "from -8 to 7": np.linspace(-8, 7, 20).reshape(4, 5),
        "from nan to nan": np.full((4, 5), np.nan),
        r"array \[3, 4, 5\]": np.ones((3, 4, 5), bool),
        r"array \[20\]": np.ones(20),
        "cannot read the mask": np.array(["a", "b"]),
    }
    for message, array in arrays.items():
        np.save(tmp_path / "m.npy", array)
        with pytest.raises(InputError, match=message):
            read_mask(tmp_path / "m.npy", 4, 5)


def test_a_mask_of_the_frames_before_they_were_reduced_is_scaled(tmp_path):
    mask = np.zeros((480, 854), np.uint8)
    mask[240:, :427] = 255
    scaled = read_mask(encode(tmp_path / "m.png", mask), 144, 256).foreground
    assert scaled.shape == (144, 256) and scaled[72:, :128].all() and scaled.sum() == 72 * 128


def test_copies_of_masks_select_what_the_masks_do(tmp_path):
    """A reduced copy keeps the kind of each file: labels stay labels, and strength stays strength."""
    source = SequencePaths(tmp_path / "seq")
    levels, wanted = soft(100)
    encode(source.mask / "0.png", levels)
    palette(label_map(1, 8, 9), DAVIS).save(source.mask / "1.png")
    encode(source.mask / "2.png", label_map(3, 700, 40000, dtype=np.uint16))
    np.save(source.mask / "3.npy", label_map(1, 2) > 0)
    np.save(source.mask / "4.npy", label_map(3, 700, 70000, dtype=np.int64))
    encode(source.mask / "5.jpg", label_map(255, 255, 255))
    encode(source.mask / "6.tif", levels.astype(np.float32) / 100)
    for t in range(7):
        encode(source.color / f"{t}.png", np.zeros((*SIZE, 3), np.uint8))
    copy = prepare_sequence(source.root, 28, tmp_path / "data")
    masks = find_masks(copy, MaskOptions())
    full = [
        wanted,
        *(label_map(*labels) > 0 for labels in ((1, 8, 9), (3, 7, 9), (1, 2), (3, 7, 9), (1, 1, 1))),
        wanted,
    ]
    for t, expected in enumerate(full):
        small = masks.read(f"{t:05d}.png", (20, 28)).foreground
        assert (small == expected[1::2, 1::2]).all() or (small == expected[::2, ::2]).all()
    assert (read_mask(copy.mask / "00001.png", 20, 28, 8).foreground.sum()) == 25
    assert (read_mask(copy.mask / "00004.npy", 20, 28, 70000).foreground.sum()) == 25


@pytest.fixture
def clip(tmp_path) -> SequencePaths:
    paths = SequencePaths(tmp_path / "clip")
    for t in range(4):
        encode(paths.color / f"{t:05d}.jpg", np.zeros((*SIZE, 3), np.uint8))
    return paths


def matched(paths: SequencePaths, folder: Path) -> dict[str, str]:
    masks = find_masks(paths, MaskOptions(str(folder)))
    return {Path(frame).stem: file.name for frame, file in masks.files.items()}


def write_masks(folder: Path, *names: str) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        encode(folder / name, label_map(1))
    return folder


def test_a_folder_of_masks_is_matched_by_name_or_in_order(clip, tmp_path):
    frames = ["00000", "00001", "00002", "00003"]
    same = write_masks(tmp_path / "m", *(f"{stem}.png" for stem in (*frames, "00004")))  # one more than frames
    assert matched(clip, same) == {stem: f"{stem}.png" for stem in frames}
    few = write_masks(tmp_path / "m", "00001.png", "00003.png")
    assert matched(clip, few) == {"00001": "00001.png", "00003": "00003.png"}
    counted_from_1 = write_masks(tmp_path / "m", *(f"{t:05d}.png" for t in (1, 2, 3, 4)))
    assert matched(clip, counted_from_1) == {stem: f"{t:05d}.png" for t, stem in enumerate(frames, 1)}
    natural = write_masks(tmp_path / "m", *(f"mask {t}.png" for t in (2, 9, 10, 11)))
    assert list(matched(clip, natural).values()) == ["mask 2.png", "mask 9.png", "mask 10.png", "mask 11.png"]


def test_masks_of_a_copy_have_the_names_of_its_source(tmp_path):
    for t in (8, 9, 10):
        encode(tmp_path / "shots" / f"IMG_{t}.png", np.full((*SIZE, 3), t, np.uint8))
    copy = prepare_sequence(tmp_path / "shots", None, tmp_path / "data")
    folder = write_masks(tmp_path / "m", "IMG_9.png", "IMG_10.png")
    assert matched(copy, folder) == {"00001": "IMG_9.png", "00002": "IMG_10.png"}


@pytest.mark.parametrize("first", [0, 1])
def test_masks_of_a_range_are_those_of_its_frames(tmp_path, first):
    """Frames 2 and 4 of a clip of 6; masks of all 6, whatever their names count from, or of the two alone."""
    for t in range(6):
        encode(tmp_path / "shots" / f"{t:05d}.png", np.full((*SIZE, 3), t, np.uint8))
    copy = prepare_sequence(tmp_path / "shots", None, tmp_path / "data", frame_range="2:6:2")
    names = [f"{t:05d}.png" for t in range(first, first + 6)]
    assert matched(copy, write_masks(tmp_path / "m", *names)) == {"00002": names[2], "00004": names[4]}
    alone = write_masks(tmp_path / "m", *names[:2])
    assert list(matched(copy, alone).values()) == names[:2]


def test_folders_that_cannot_be_matched_are_refused(clip, tmp_path):
    def message(folder: Path) -> str:
        with pytest.raises(InputError) as refused:
            find_masks(clip, MaskOptions(str(folder)))
        return str(refused.value)

    other = write_masks(tmp_path / "m", "a.png", "b.png")
    assert re.search(r"holds 2 masks for 4 frames, and their names differ \(a.png, 00000.jpg\)", message(other))
    assert "both 00000.png and 00000.tif" in message(write_masks(tmp_path / "m", "00000.png", "00000.tif"))
    assert "no such folder" in message(tmp_path / "nowhere")
    objects = write_masks(tmp_path / "m", "001/00000.png", "002/00000.png")
    assert "found no mask in" in message(objects) and "in its folders 001, 002" in message(objects)


MASK_FILES: dict[str, tuple[str, np.ndarray, np.ndarray]] = {  # name, content and foreground of each kind
    "grey labels": ("m.png", label_map(1, 2, 3), label_map(1, 1, 1) > 0),
    "16 bit": ("m.tif", label_map(3, 700, 40000, dtype=np.uint16), label_map(1, 1, 1) > 0),
    "soft": ("m.png", *soft(255)),
    "colours": ("m.png", np.array(DAVIS, np.uint8).reshape(-1, 3)[label_map(1, 8, 9)], label_map(1, 1, 1) > 0),
    "bools": ("m.npy", label_map(0, 1) > 0, label_map(0, 1) > 0),
    "labels in an array": ("m.npy", label_map(3, 70000, dtype=np.int64), label_map(1, 1) > 0),
}


@pytest.fixture
def foreground_of(train_to_flow, scene_dir, monkeypatch) -> Callable[..., tuple[np.ndarray, str]]:
    """Calls train.py's entry with a mask of the scene; returns the foreground that it shows, and what it prints."""
    shown: list[np.ndarray] = []
    monkeypatch.setattr(train, "_open_log", lambda *args: None)
    monkeypatch.setattr(train, "_show_results", lambda args, trainer, clip, *others: shown.append(clip.foreground))

    def call(path: Path, *flags: str) -> tuple[np.ndarray, str]:
        said = train_to_flow(scene_dir, "--foreground_mask_path", str(path), *flags)
        return shown.pop(), said

    return call


@pytest.mark.parametrize("kind", MASK_FILES)
def test_training_takes_masks_of_every_kind(tmp_path, foreground_of, kind):
    name, content, wanted = MASK_FILES[kind]
    if name.endswith(".npy"):
        np.save(tmp_path / name, content)
    else:
        encode(tmp_path / name, content)
    found, said = foreground_of(tmp_path / name)
    assert (found == wanted).all() and f"foreground mask: {tmp_path / name}: " in said


def test_few_levels_are_used_as_strength_with_a_warning(tmp_path, foreground_of):
    """Lines of one pixel are as thin as the edges of a soft mask."""
    image: np.ndarray = np.zeros(SIZE, np.uint8)
    for t, level in enumerate((40, 90, 200)):
        image[10:30, 10 + 5 * t] = level
    found, said = foreground_of(encode(tmp_path / "m.png", image))
    assert (found == (image > 100)).all()
    assert "warning: " in said and "m.png holds the levels 40, 90, 200 alone: if they are labels, choose one" in said
    found, said = foreground_of(tmp_path / "m.png", "--mask_label", "90")
    assert (found == (image == 90)).all() and "warning" not in said
    assert "warning" not in foreground_of(encode(tmp_path / "soft.png", soft(255)[0]))[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--foreground_mask_path", "none.png"], "no mask at none.png"),
        (["--foreground_mask_path", "mask.png", "--mask_label", "3"], "has no label 3, found 1, 2"),
        (["--query_frame_id", "4"], "--query_frame_id is 4, expected one of the clip's frames, 0 to 3"),
        (["--query_frame_id", "3", "--num_imgs", "3"], "expected one of the clip's frames, 0 to 2"),
        (["--query_frame_id", "2", "--frame_range", "1:3"], "expected one of the clip's frames, 0 to 1"),
    ],
)
def test_masks_and_query_frames_are_checked_before_frames_are_copied(tmp_path, refused_by_train, flags, message):
    write_images(tmp_path / "shots", np.zeros((4, *SIZE, 3), np.uint8))
    encode(tmp_path / "mask.png", label_map(1, 2))
    assert message in refused_by_train(tmp_path / "shots", *flags)
    assert not (tmp_path / "data").exists()


@pytest.fixture(scope="module")
def world(scene_dir, tmp_path_factory) -> Path:
    """The small scene, its trained run, and palette masks of two objects as XMem names them."""
    folder = tmp_path_factory.mktemp("masked")
    shutil.copytree(scene_dir, folder / "scene")
    for t in range(6):
        (folder / "xmem").mkdir(exist_ok=True)
        palette(label_map(0, 8, 9), DAVIS).save(folder / "xmem" / f"frame_{t:07d}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("visualization.tensorboard.training_images", lambda *args, **kwargs: {})
        train.main(
            [*TINY.split(), "--data_dir", "scene", "--num_iters", "2", "--mask_dir", "xmem", "--mask_label", "8"]
        )
    return folder


@pytest.fixture
def inside(world, monkeypatch) -> Path:
    monkeypatch.chdir(world)
    return world


def test_training_takes_masks_of_a_folder_and_says_how(inside, capsys):
    """The run's pictures exist; the same command again only draws, and prints what masks it used."""
    flags = [*TINY.split(), "--data_dir", "scene", "--num_iters", "2", "--mask_dir", "xmem"]
    train.main([*flags, "--mask_label", "8"])
    printed = capsys.readouterr().out
    assert "6 of 6 frames have a mask in xmem, matched in order" in printed
    assert "foreground mask: xmem/frame_0000000.png: label 8 is foreground (labels 8, 9)" in printed
    train.main(flags)
    assert "every label but 0 is foreground (labels 8, 9)" in capsys.readouterr().out


def test_drawn_points_are_on_the_label(inside, capsys):
    """viz.py takes the masks from the run, and a file in their place, for which the run's label does not count."""
    viz.main(["--run", "out/tiny_scene", "--export", "npz", "--out", "a"])
    viz.main(["--run", "out/tiny_scene", "--export", "npz", "--out", "b", "--mask_label", "9", "--random", "100"])
    np.save("one.npy", label_map(0, 0, 0, 5))
    more = ["--foreground_mask_path", "one.npy", "--random", "100"]
    viz.main(["--run", "out/tiny_scene", "--export", "npz", "--out", "c", *more])
    for name, left in (("a", 15), ("b", 28), ("c", 41)):
        x, y = np.load(f"{name}/tracks.npz")["queries"][:, 1:].T
        assert len(x) == 100 and x.min() == left and x.max() == left + 9 and y.min() == 10 and y.max() == 19
    assert "foreground mask: one.npy: every label but 0 is foreground" in capsys.readouterr().out


def test_scores_are_grouped_by_the_same_masks(inside, capsys):
    evaluate.main(["--run", "out/tiny_scene"])
    printed = capsys.readouterr().out
    assert "groups of queries by 2 masks: label 8 is foreground" in printed
    assert "foreground 3% to 10%, OmniMotion" in printed  # 100 of 2240 pixels
    evaluate.main(["--run", "out/tiny_scene", "--mask_dir", "", "--mask_label", "8"])
    printed = capsys.readouterr().out
    assert "masks make no groups of queries: mask scene/mask/00000.png has no label 8, found 255" in printed
    assert "moving, OmniMotion" in printed
