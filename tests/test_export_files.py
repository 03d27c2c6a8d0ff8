"""Every exported format, read back by a reader that is not ours, on values whose meaning is known beforehand."""

import csv
import re
import struct
from dataclasses import replace

import cv2
import numpy as np
import OpenEXR
import pytest
from plyfile import PlyData

from evaluate import main as evaluate
from evaluation.queries import queries_first
from tests.track_tables import FRAMES, HEIGHT, POINTS, WIDTH, random_table
from visualization.export_dense import write_exr, write_flo, write_ply
from visualization.export_nuke import write_nuke
from visualization.export_tracks import TrackTable, write_csv, write_npz, write_tapvid


@pytest.fixture
def table() -> TrackTable:
    return random_table()


def test_npz_holds_everything_and_explains_it(table, tmp_path):
    write_npz(tmp_path / "tracks.npz", table)
    with np.load(tmp_path / "tracks.npz", allow_pickle=False) as file:
        arrays = {name: value for name, value in vars(table).items() if name != "names"}  # the points have none
        for name, value in arrays.items():
            np.testing.assert_array_equal(file[name], value)
        assert set(file.files) == {*arrays, "first_frame", "readme"}
        explanation = " ".join(file["readme"])
        assert all(re.search(rf"\b{name}\b", explanation) for name in vars(table))


def test_csv_holds_the_same_tracks_as_npz(table, tmp_path):
    write_csv(tmp_path / "tracks.csv", table)
    with open(tmp_path / "tracks.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == FRAMES * POINTS
    for row in rows:
        n, t = int(row["point"]), table.frame_numbers.tolist().index(int(row["frame"]))
        numbers = [float(row[key]) for key in ("x", "y", "occlusion_score", "depth", "query_x", "query_y")]
        truth = [*table.tracks[t, n], table.occlusion_score[t, n], table.depth[t, n], *table.queries[n, 1:]]
        np.testing.assert_allclose(numbers, truth, atol=6e-5)
        assert int(row["visible"]) == table.visibility[t, n] and float(row["time"]) == table.times[t]
        assert int(row["query_frame"]) == table.frame_numbers[int(table.queries[n, 0])]
        assert [int(row[key]) for key in ("red", "green", "blue")] == table.colors[n].tolist()


def test_names_of_points_are_a_column_an_array_and_the_names_of_tracks(table, tmp_path):
    """Brackets in a name would be run by Tcl in Nuke."""
    names = ("left ear", 'the "nose"', "", "Öhr, rechts", "[exit]", "{exit}", "7")
    table = replace(table, names=names)
    write_npz(tmp_path / "tracks.npz", table)
    write_csv(tmp_path / "tracks.csv", table)
    write_nuke(tmp_path / "tracks.nk", table)
    assert np.load(tmp_path / "tracks.npz", allow_pickle=False)["names"].tolist() == list(names)
    with open(tmp_path / "tracks.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == FRAMES * POINTS and all(row["name"] == names[int(row["point"])] for row in rows)
    _, knobs = nuke_tree((tmp_path / "tracks.nk").read_text())
    *_, tracks = knobs[knobs.index("tracks") + 1]
    assert [row[1] for row in tracks] == [
        *('"left ear"', '"the _nose_"', '"point 2"', '"Öhr_ rechts"', '"_exit_"', '"_exit_ point 5"', '"7"')
    ]


def test_tapvid_arrays_are_in_its_conventions(table, tmp_path):
    write_tapvid(tmp_path / "tapvid.npz", table)
    with np.load(tmp_path / "tapvid.npz", allow_pickle=False) as file:
        np.testing.assert_allclose(file["tracks"][3, 2], table.tracks[2, 3] + 0.5)
        np.testing.assert_array_equal(file["occluded"], ~table.visibility.T)
        t, x, y = table.queries[4]
        np.testing.assert_allclose(file["query_points"][4], [t, y + 0.5, x + 0.5], rtol=1e-6)
        assert "names" not in file


def test_names_are_in_tapvid_arrays(table, tmp_path):
    names = tuple(f"joint {n}" for n in range(POINTS))
    write_tapvid(tmp_path / "tapvid.npz", replace(table, names=names))
    with np.load(tmp_path / "tapvid.npz", allow_pickle=False) as file:
        assert tuple(file["names"].tolist()) == names and "names str [N]" in "".join(file["readme"])


@pytest.mark.parametrize("write", [write_npz, write_tapvid])
def test_the_truth_exported_is_scored_as_perfect(write, scene_dir, tmp_path, capsys):
    with np.load(scene_dir / "gt_tracks.npz") as file:
        points, occluded = file["points"], file["occluded"]
    kept, frames = queries_first(occluded)
    queries = np.concatenate([frames[:, None], points[kept, frames]], 1).astype(np.float32)
    tracks, visible = points[kept].swapaxes(0, 1).astype(np.float32), ~occluded[kept].T
    zeros = np.zeros(visible.shape, np.float32)
    colors, numbering = np.zeros((len(kept), 3), np.uint8), (np.arange(len(tracks)), np.arange(len(tracks)) / 10)
    table = TrackTable(tracks, visible, zeros, zeros, queries, colors, (40, 56), 10.0, *numbering)
    write(tmp_path / "tracks.npz", table)
    truth = str(scene_dir / "gt_tracks.npz")
    evaluate(["--tracks", str(tmp_path / "tracks.npz"), "--gt", truth, "--query_mode", "first"])
    (row,) = re.findall(r"^tracks (.*)$", capsys.readouterr().out, re.MULTILINE)
    aj, d_avg, oa, *_, px_visible, _, px_occluded, _ = row.split()
    assert float(aj) == float(d_avg) == float(oa) == 1 and float(px_visible) == float(px_occluded) == 0


def nuke_tree(text: str) -> list:
    """A Nuke script's braces as nested lists of words."""
    stack: list[list] = [[]]
    for word in re.findall(r'[{}]|"[^"]*"|[^\s{}]+', re.sub(r"^#.*$", "", text, flags=re.MULTILINE)):
        if word == "{":
            stack.append([])
        elif word == "}":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    (tree,) = stack
    return tree


def keys_of(curve: list[str]) -> dict[int, float]:
    """{frame: value} of `curve [K] x1 5 x2 6`."""
    assert curve[0] == "curve"
    words = [word for word in curve[1:] if word != "K"]
    return {int(x.removeprefix("x")): float(value) for x, value in zip(words[::2], words[1::2], strict=True)}


def test_nuke_reads_keys_at_the_plates_frames_from_the_lower_left_corner(table, tmp_path):
    table.tracks[0, 0] = 0, 0  # the centre of the upper left pixel
    table.visibility[:, 0] = [True, True, False, False, True]
    write_nuke(tmp_path / "tracks.nk", table)
    kind, knobs = nuke_tree((tmp_path / "tracks.nk").read_text())
    head, columns, rows = knobs[knobs.index("tracks") + 1]
    assert kind == "Tracker4" and head == ["1", str(len(columns)), str(POINTS)]
    names = [column[3] for column in columns]
    assert len(rows) == POINTS and all(len(row) == len(names) == len(set(names)) == 31 for row in rows)
    for n, row in enumerate(rows):
        x, y = (keys_of(row[names.index(name)]) for name in ("track_x", "track_y"))
        assert list(x) == list(y) == [1001, 1003, 1005, 1007, 1009]
        np.testing.assert_allclose(list(x.values()), table.tracks[:, n, 0] + 0.5, atol=6e-5)
        np.testing.assert_allclose(list(y.values()), HEIGHT - (table.tracks[:, n, 1] + 0.5), atol=6e-5)
    first = rows[0]
    assert keys_of(first[names.index("track_x")])[1001] == 0.5 and keys_of(first[names.index("track_y")])[1001] == 19.5
    assert first[0][1] == "K" and keys_of(first[0]) == {1001: 1, 1005: 0, 1009: 1}


def test_opencv_reads_the_flow(tmp_path):
    flow = np.random.default_rng(1).normal(size=(HEIGHT, WIDTH, 2)).astype(np.float32)
    write_flo(tmp_path / "a.flo", flow)
    np.testing.assert_array_equal(cv2.readOpticalFlow(str(tmp_path / "a.flo")), flow)


def exr_header(raw: bytes) -> dict[str, tuple[str, bytes]]:
    """{attribute: (type, value)} of an OpenEXR file of one part in rows, read as its specification says."""
    assert struct.unpack("<ii", raw[:8]) == (20000630, 2)
    found, at = {}, 8
    while raw[at]:
        name, kind, rest = raw[at:].split(b"\0", 2)
        size = struct.unpack("<i", rest[:4])[0]
        found[name.decode()] = kind.decode(), rest[4 : 4 + size]
        at += len(name) + len(kind) + 2 + 4 + size
    return found


def test_exr_is_a_float_image_of_zipped_rows_whatever_the_arrays_strides(tmp_path):
    height = 37  # two whole blocks of 16 rows and a part
    noise = np.random.default_rng(2).normal(size=(height, WIDTH, 3)).astype(np.float32)
    channels = {"R": noise[..., 0], "G": noise[::-1, :, 1], "Z": np.broadcast_to(noise[:1, :, 2], (height, WIDTH))}
    write_exr(tmp_path / "a.exr", channels, "what it is")
    header = exr_header((tmp_path / "a.exr").read_bytes())
    is_float = struct.pack("<ixxxxii", 2, 1, 1)  # kind 2: 32-bit float; every pixel has one
    assert header["channels"] == ("chlist", b"".join(name + b"\0" + is_float for name in (b"G", b"R", b"Z")) + b"\0")
    assert header["compression"] == ("compression", b"\3")
    assert header["dataWindow"] == header["displayWindow"] == ("box2i", struct.pack("<4i", 0, 0, WIDTH - 1, height - 1))
    assert header["comments"] == ("string", b"what it is")
    with OpenEXR.File(str(tmp_path / "a.exr"), separate_channels=True) as file:
        for name, values in channels.items():
            np.testing.assert_array_equal(file.channels()[name].pixels, values)


def test_plyfile_reads_the_cloud(tmp_path):
    rng = np.random.default_rng(3)
    points, density = rng.normal(size=(9, 3)).astype(np.float32), rng.random(9).astype(np.float32)
    colors = rng.integers(0, 256, (9, 3), np.uint8)
    write_ply(tmp_path / "a.ply", points, colors, density, "a cloud")
    cloud = PlyData.read(tmp_path / "a.ply")
    vertices = cloud["vertex"]
    assert cloud.comments == ["a cloud"]
    np.testing.assert_array_equal(np.stack([vertices[name] for name in "xyz"], 1), points)
    np.testing.assert_array_equal(np.stack([vertices[name] for name in ("red", "green", "blue")], 1), colors)
    np.testing.assert_array_equal(vertices["density"], density)
