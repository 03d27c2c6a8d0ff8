"""Tracks in After Effects and Blender, by what their files do there; in Blender itself if its module is installed."""

import ast
import importlib.util
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

from preprocessing.source_frames import FrameReader
from tests.track_tables import FRAMES, HEIGHT, POINTS, WIDTH, random_table
from utils.images import read_frame
from visualization.export_animation import write_after_effects, write_blender
from visualization.export_tracks import TrackTable

NAMES = ("left ear", 'the "nose"', "", "Öhr 😀", "'''\n\\", "left ear", "a/b")
TEXTS = [("Text", ""), ("other.py", "/other.py"), ("tracks.py", "//tracks.py")]
PLATE_SIZE = (2 * HEIGHT, 2 * WIDTH)


@pytest.fixture
def table() -> TrackTable:
    return replace(random_table(), names=NAMES)


@pytest.fixture
def plate() -> FrameReader:
    """Frames of twice the size, each of one colour that says its number."""
    return FrameReader(PLATE_SIZE, lambda ids: (np.full((*PLATE_SIZE, 3), 40 * t, np.uint8) for t in ids))


def after_effects_keys(path: Path) -> dict[int, list[float]]:
    """{frame: [x, y, z]} of the only block of keyframe data."""
    header, _, block = path.read_text(encoding="utf-8").strip().partition("Transform\tPosition\n")
    assert header.splitlines() == [
        "Adobe After Effects 8.0 Keyframe Data",
        "",
        "\tUnits Per Second\t25",
        f"\tSource Width\t{WIDTH}",
        f"\tSource Height\t{HEIGHT}",
        "\tSource Pixel Aspect Ratio\t1",
        "\tComp Pixel Aspect Ratio\t1",
        "",
    ]
    titles, *rows, blank, other_blank, end = block.split("\n")
    assert titles == "\tFrame\tX pixels\tY pixels\tZ pixels\t" and end == "End of Keyframe Data"
    assert blank == other_blank == ""
    keys = {}
    for row in rows:
        empty, frame, *position, last = row.split("\t")
        assert empty == last == ""
        keys[int(frame)] = [float(value) for value in position]
    return keys


@pytest.mark.parametrize(
    ("visible", "shown"),
    [
        ([1, 1, 1, 1, 1], [0, 1, 2, 3, 4]),
        ([0, 0, 1, 1, 0], [2, 2, 2, 3]),
        ([1, 0, 0, 1, 0], [0, 0, 0, 3]),
        ([0, 0, 0, 0, 1], [4, 4, 4, 4, 4]),
        ([0, 0, 0, 0, 0], [0]),
    ],
)
def test_after_effects_holds_a_position_while_it_is_occluded(table, tmp_path, visible, shown):
    """Each frame has a key up to the last visible one, which is held: no path between keys is left to the program."""
    table.visibility[:, 0] = visible
    write_after_effects(tmp_path, table)
    keys = after_effects_keys(tmp_path / "0_left ear.txt")
    assert list(keys) == list(range(len(shown))) and all(z == 0 for *_, z in keys.values())
    np.testing.assert_allclose([xy for *xy, _ in keys.values()], table.tracks[shown, 0] + 0.5, atol=6e-5)


def test_after_effects_has_a_file_for_each_point_with_its_name(table, tmp_path):
    write_after_effects(tmp_path, table)
    names = ["left ear", "the _nose_", "point 2", "Öhr _", "_____", "left ear point 5", "a_b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}_{name}.txt" for n, name in enumerate(names)]


def test_a_name_longer_than_a_file_may_have_is_cut(table, tmp_path):
    write_after_effects(tmp_path, replace(table, names=("𠀀" * 500, *NAMES[1:])))
    assert len(list(tmp_path.iterdir())) == POINTS


def test_a_second_export_replaces_the_first(table, plate, tmp_path):
    """Fewer points, other names and numbers; files of the user stay."""
    ours, frames = tmp_path / "ae", tmp_path / "blender" / "frames"
    for folder in (ours, frames):
        folder.mkdir(parents=True)
        (folder / "notes_1.txt").touch()
        (folder / "plate.01001.png").touch()
    for names, first in ((NAMES, 1001), (("nose",) * POINTS, 7)):
        renamed = replace(table, names=names, frame_numbers=np.arange(first, first + FRAMES))
        write_after_effects(ours, renamed)
        write_blender(tmp_path / "blender", renamed, plate)
    kept = {"notes_1.txt", "plate.01001.png"}
    assert {path.name for path in ours.iterdir()} == kept | {"0_nose.txt"} | {
        f"{n}_nose point {n}.txt" for n in range(1, POINTS)
    }
    assert {path.name for path in frames.iterdir()} == kept | {f"{n:05d}.png" for n in range(7, 7 + FRAMES)}


def script_data(path: Path) -> tuple[dict, list[dict]]:
    """SCENE and POINTS of a script, which must be literals."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
    }
    return values["SCENE"], values["POINTS"]


def test_the_blender_script_holds_scene_and_points(table, plate, tmp_path):
    table.tracks[0, 0] = 0, 0  # the centre of the upper left pixel
    write_blender(tmp_path, table, plate)
    scene, points = script_data(tmp_path / "tracks.py")
    assert scene == {
        "frames": str(tmp_path / "frames"),
        "first_frame": 1001,
        "num_frames": FRAMES,
        "size": (2 * WIDTH, 2 * HEIGHT),
        "fps": 25.0,
    }
    assert [point["name"] for point in points] == [
        *("left ear", 'the "nose"', "point 2", "Öhr 😀", "'''\n\\", "left ear point 5", "a/b")
    ]
    np.testing.assert_allclose(points[0]["markers"][0], [0.5 / WIDTH, 1 - 0.5 / HEIGHT], atol=1e-6)
    for n, point in enumerate(points):
        assert point["visible"] == table.visibility[:, n].tolist() and point["color"] == tuple(table.colors[n])
        x, y = np.transpose(point["markers"])
        np.testing.assert_allclose(np.stack([x * WIDTH, (1 - y) * HEIGHT], 1), table.tracks[:, n] + 0.5, atol=1e-4)
        np.testing.assert_allclose(np.array(point["locations"])[:, 2], -table.depth[:, n], atol=1e-6)
    frames = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in frames] == [f"0{number}.png" for number in range(1001, 1001 + FRAMES)]  # no gap
    assert [read_frame(path)[0, 0, 0] for path in frames] == [0, 40, 80, 120, 160]
    assert read_frame(frames[0]).shape == (*PLATE_SIZE, 3)


def test_the_blender_script_makes_a_marker_and_a_key_for_each_point_in_each_frame(table, plate, tmp_path, monkeypatch):
    """Beside a stand-in for Blender, which takes every call: the next test needs the real one."""
    bpy = MagicMock()
    monkeypatch.setitem(sys.modules, "bpy", bpy)
    write_blender(tmp_path, replace(table, fps=float("nan")), plate)
    runpy.run_path(str(tmp_path / "tracks.py"), run_name="__main__")
    bpy.data.movieclips.load.assert_called_once_with(str(tmp_path / "frames" / "01001.png"))
    markers = bpy.data.movieclips.load().tracking.objects[0].tracks.new().markers
    assert [call.args[0] for call in markers.insert_frame.call_args_list] == [1, 2, 3, 4, 5] * POINTS
    keys = bpy.data.objects.new().keyframe_insert.call_args_list
    assert [call.kwargs["frame"] for call in keys] == [1001, 1002, 1003, 1004, 1005] * POINTS
    scene = bpy.data.scenes.new()
    assert (scene.frame_start, scene.frame_end) == (1001, 1005) and isinstance(scene.render.fps, MagicMock)


def test_the_blender_script_finds_its_frames_beside_the_text_that_was_opened(table, plate, tmp_path, monkeypatch):
    """In the text editor `__file__` is the .blend file with the text's name behind it; the export was moved."""
    bpy = MagicMock()
    monkeypatch.setitem(sys.modules, "bpy", bpy)
    bpy.path.abspath = lambda path: path.replace("//", f"{tmp_path}/moved/")
    bpy.data.texts = [SimpleNamespace(name=name, filepath=path) for name, path in TEXTS]
    bpy.data.movieclips.load.side_effect = RuntimeError
    write_blender(tmp_path / "made", table, plate)
    (tmp_path / "made").rename(tmp_path / "moved")
    script = compile((tmp_path / "moved" / "tracks.py").read_text(), "tracks.py", "exec")
    with pytest.raises(RuntimeError):
        exec(script, {"__file__": "/a.blend/tracks.py", "__name__": "__main__"})
    bpy.data.movieclips.load.assert_called_once_with(str(tmp_path / "moved" / "frames" / "01001.png"))
    bpy.data.scenes.new.assert_not_called()  # no empty scene is left


IN_BLENDER = """
import json, runpy, sys, bpy
from bpy_extras.object_utils import world_to_camera_view
runpy.run_path(sys.argv[1], run_name="__main__")
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[2])
bpy.ops.wm.open_mainfile(filepath=sys.argv[2])
scene, clip = bpy.context.scene, bpy.data.movieclips["OmniMotion"]
tracks, seen = list(clip.tracking.objects[0].tracks), []
empties = bpy.data.collections["OmniMotion points"].objects
for frame in range(scene.frame_start, scene.frame_end + 1):
    scene.frame_set(frame)
    views = [world_to_camera_view(scene, scene.camera, empty.matrix_world.translation) for empty in empties]
    markers = [track.markers.find_frame(frame - clip.frame_start + 1) for track in tracks]
    seen.append([[*view[:2], *marker.co, marker.mute] for view, marker in zip(views, markers)])
clip = [clip.source, clip.frame_duration, clip.frame_start, *clip.size]
names = [track.name for track in tracks]
found = {"seen": seen, "clip": clip, "names": names, "rate": scene.render.fps / scene.render.fps_base}
print("found:", json.dumps(found))
"""


@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="Blender's Python module bpy is not installed")
def test_blender_shows_markers_and_empties_at_the_pixels(table, plate, tmp_path):
    write_blender(tmp_path, replace(table, fps=24000 / 1001), plate)
    command = [sys.executable, "-c", IN_BLENDER, str(tmp_path / "tracks.py"), str(tmp_path / "scene.blend")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(output.split("found:")[1].splitlines()[0])
    seen = np.array(found["seen"])  # [T,N] (view x, y, marker x, y, muted)
    expected = (table.tracks + 0.5) / (WIDTH, HEIGHT) * (1, -1) + (0, 1)
    np.testing.assert_allclose(seen[..., :2], expected, atol=1e-5)
    np.testing.assert_allclose(seen[..., 2:4], expected, atol=1e-5)
    np.testing.assert_array_equal(seen[..., 4].astype(bool), ~table.visibility)
    assert found["clip"] == ["SEQUENCE", FRAMES, 1001, 2 * WIDTH, 2 * HEIGHT]
    assert found["names"] == table.labels and found["rate"] == pytest.approx(23.976, abs=1e-3)
