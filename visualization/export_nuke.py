"""Tracks as a Nuke script: one Tracker4 node with a track for each point, a key in every frame.

Nuke's origin is the lower left corner of the image, y points up, the centre of the first pixel is at 0.5.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.atomic import write_atomic
from utils.conventions import nuke_from_px
from visualization.export_tracks import TrackTable, unique_names

# The columns of the node's table: (type, whether it can be animated, width on the screen), as Nuke saves them.
COLUMNS = (
    ((5, 1, 20), ("enable",)),
    ((3, 1, 75), ("name",)),
    ((2, 1, 58), ("track_x", "track_y")),
    ((2, 1, 63), ("offset_x", "offset_y")),
    ((4, 1, 27), ("T", "R", "S")),
    ((2, 0, 45), ("error",)),
    ((1, 1, 0), ("error_min", "error_max")),
    ((1, 1, 0), ("pattern_x", "pattern_y", "pattern_r", "pattern_t")),
    ((1, 1, 0), ("search_x", "search_y", "search_r", "search_t")),
    ((2, 1, 0), ("key_track", "key_search_x", "key_search_y", "key_search_r", "key_search_t")),
    ((2, 1, 0), ("key_track_x", "key_track_y", "key_track_r", "key_track_t")),
    ((2, 1, 0), ("key_centre_offset_x", "key_centre_offset_y")),
)
TITLES = {"enable": "e"}  # columns whose title differs from their name
UNSAFE = re.compile(r"[^\w .:-]")  # of a name; Tcl would run what stands in brackets
NUM_UNUSED = 11  # the last columns: keys of Nuke's own tracking


def write_nuke(path: Path, table: TrackTable) -> None:
    """Write a `.nk` script to open or paste in Nuke, with a key in every frame; tracks are disabled where occluded."""
    num_points = table.visibility.shape[1]
    numbers, (height, width) = table.frame_numbers.tolist(), table.size
    columns = [
        f"{{ {kind} {animated} {screen} {name} {TITLES.get(name, name)} 1 }}"
        for (kind, animated, screen), group in COLUMNS
        for name in group
    ]
    positions = nuke_from_px(table.tracks, height)
    labels = unique_names([UNSAFE.sub("_", label) for label in table.labels])
    tracks = [_track(positions[:, n], table.visibility[:, n], numbers, label) for n, label in enumerate(labels)]
    lines = [
        f"# {num_points} points in frames {numbers[0]} to {numbers[-1]} of {width}x{height} pixels; y up",
        "Tracker4 {",
        " inputs 0",
        f" tracks {{ {{ 1 {len(columns)} {num_points} }}",
        *(" { " + columns[0], *(f" {column}" for column in columns[1:])),
        " }",
        " {",
        *tracks,
        " }",
        " }",
        f' label "{width}x{height}, frames {numbers[0]}-{numbers[-1]}"',
        " name OmniMotion",
        "}",
    ]
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def _track(positions: NDArray, visible: NDArray, numbers: list[int], name: str) -> str:
    """Return a row of the table for positions [T,2] in Nuke's coordinates, visible [T], in frames of these numbers."""
    keys = [0, *(np.flatnonzero(np.diff(visible)) + 1).tolist()]  # `K`: constant until the next key
    enable = " ".join(f"x{numbers[t]} {int(visible[t])}" for t in keys)
    keyed = ([f"x{t} {value:.4f}" for t, value in zip(numbers, axis.tolist(), strict=True)] for axis in positions.T)
    x, y = map(" ".join, keyed)
    boxes = "-32 -32 32 32 -22 -22 22 22"
    zero = f"{{curve x{numbers[0]} 0}}"
    return (
        f' {{ {{curve K {enable}}} "{name}" {{curve {x}}} {{curve {y}}} {zero} {zero} 1 0 0 {zero} 1 0 {boxes}'
        f"{' {}' * NUM_UNUSED} }}"
    )
