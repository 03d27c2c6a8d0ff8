"""Tracks as animation: keyframes for After Effects, and a script that sets up a scene in Blender."""

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.source_frames import FrameReader
from utils.atomic import write_atomic
from utils.conventions import corner_from_px, scene_from_px, stmap_from_px
from utils.images import write_image
from visualization.export_tracks import TrackTable

UNSAFE = re.compile(r"[^\w .-]")  # of a file's name
MAX_NAME = 50  # characters of a point's name in its file's: at most 4 bytes each, and file systems allow 255
BLENDER_TEMPLATE = Path(__file__).resolve().parent / "blender_template" / "script.py"
DATA_MARKER = re.compile(r"^# data begins\n.*^# data ends\n", re.DOTALL | re.MULTILINE)


def write_after_effects(folder: Path, table: TrackTable) -> None:
    """Write the keyframes of each point as a text file, to be pasted onto a layer: it sets the layer's position.

    Frames count from 0. Where a point is occluded, it holds the last position in which it was visible, at first the one
    in which it will be. The text has no hold keys, and between two equal keys After Effects bends a path, so occluded
    frames repeat the key; after the last visible frame there is none. The first frame always has one, since the first
    key is pasted at the current time.
    """
    _remove_earlier(folder, r"\d+_.*\.txt")
    height, width = table.size
    positions, digits = corner_from_px(table.tracks), len(str(len(table.queries) - 1))
    for n, label in enumerate(table.labels):
        xy = positions[_held_frames(table.visibility[:, n]), n]
        lines = [
            "Adobe After Effects 8.0 Keyframe Data",
            "",
            f"\tUnits Per Second\t{table.fps:.6g}",
            f"\tSource Width\t{width}",
            f"\tSource Height\t{height}",
            "\tSource Pixel Aspect Ratio\t1",
            "\tComp Pixel Aspect Ratio\t1",
            "",
            "Transform\tPosition",
            "\tFrame\tX pixels\tY pixels\tZ pixels\t",
            *(f"\t{frame}\t{x:.4f}\t{y:.4f}\t0\t" for frame, (x, y) in enumerate(xy.tolist())),
            "",
            "",
            "End of Keyframe Data",
        ]
        name = f"{n:0{digits}d}_{UNSAFE.sub('_', label)[:MAX_NAME]}.txt"
        write_atomic(folder / name, ("\n".join(lines) + "\n").encode())


def _held_frames(visible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return, for the frames up to the last visible one, the frame whose position is held there: see above.

    A point that is never visible has a key in frame 0 alone, with its position there.
    """
    shown = np.flatnonzero(visible)
    first, last = (shown[0], shown[-1]) if len(shown) else (0, 0)
    frames = np.arange(last + 1)
    return np.maximum.accumulate(np.where(visible[: last + 1], frames, first))


def _remove_earlier(folder: Path, pattern: str) -> None:
    """Remove the files of an earlier export, which may have had other points or frames; keep all others."""
    for path in folder.glob("*"):
        if re.fullmatch(pattern, path.name) and path.is_file():
            path.unlink()


def write_blender(folder: Path, table: TrackTable, plate: FrameReader) -> None:
    """Write `tracks.py`, a script that sets up a scene in Blender, and the frames that it shows.

    Args:
        folder: Folder of the script; the frames go to its subfolder `frames`.
        table: The tracks.
        plate: The frames to show, of any one size.
    """
    _remove_earlier(folder / "frames", r"\d+\.png")
    first, (height, width) = int(table.frame_numbers[0]), plate.size
    # Blender reads a sequence as far as its numbers have no gap.
    for number, frame in enumerate(plate.read(range(len(table.tracks))), first):
        write_image(folder / "frames" / f"{number:05d}.png", frame)
    scene = {
        "frames": str((folder / "frames").resolve()),
        "first_frame": first,
        "num_frames": len(table.tracks),
        "size": (width, height),
        "fps": None if math.isnan(table.fps) else float(table.fps),
    }
    markers = stmap_from_px(table.tracks.astype(np.float64), table.size).round(6)
    locations = scene_from_px(table.tracks.astype(np.float64), table.depth.astype(np.float64), table.size).round(6)
    points = [
        {
            "name": label,
            "color": tuple(table.colors[n].tolist()),
            "visible": table.visibility[:, n].astype(int).tolist(),
            "markers": markers[:, n].tolist(),
            "locations": locations[:, n].tolist(),
        }
        for n, label in enumerate(table.labels)
    ]
    # Literals of ASCII characters: no name of a point can end its string.
    data = [f"SCENE = {scene!a}", "POINTS = [", *(f"    {point!a}," for point in points), "]"]
    script = DATA_MARKER.sub(lambda _: "\n".join(data) + "\n", BLENDER_TEMPLATE.read_text(encoding="utf-8"))
    write_atomic(folder / "tracks.py", script.encode())
