"""Tracks as tables for programs of biology: napari and DeepLabCut.

Both count frames from 0, and (0, 0) is the centre of the upper left pixel, as in `TrackTable`.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from utils.atomic import write_atomic
from utils.conventions import napari_from_px
from visualization.export_tracks import TrackTable

# napari's reader recognises a table by these names. For a tracks layer the axes are track, frame, y, x.
NAPARI_COLUMNS = ("index", "axis-0", "axis-1", "axis-2", "axis-3", "visible", "confidence", "name")
SCORER = "OmniMotion"  # the author of the positions, in DeepLabCut's words


def write_napari(path: Path, table: TrackTable) -> None:
    """Write one row for each point in each frame, under `NAPARI_COLUMNS`.

    `viewer.open(path, layer_type="tracks")` takes the axes as a tracks layer, and the last columns as its features.
    """
    num_frames, num_points = table.visibility.shape
    positions, confidence, labels = napari_from_px(table.tracks), table.confidence, table.labels
    rows = (
        (
            *(n * num_frames + t, n, t, *(f"{value:.4f}" for value in positions[t, n])),
            *(int(table.visibility[t, n]), f"{confidence[t, n]:.4f}", labels[n]),
        )
        for n in range(num_points)
        for t in range(num_frames)
    )
    _write_rows(path, [NAPARI_COLUMNS, *rows])


def write_dlc(path: Path, table: TrackTable) -> None:
    """Write DeepLabCut's table: a row for each frame, and x, y, likelihood of each point below three rows of names."""
    num_frames, num_points = table.visibility.shape
    columns = np.concatenate([table.tracks, table.confidence[..., None]], -1).reshape(num_frames, -1)
    header = [
        ["scorer", *[SCORER] * (3 * num_points)],
        ["bodyparts", *(label for label in table.labels for _ in range(3))],
        ["coords", *["x", "y", "likelihood"] * num_points],
    ]
    _write_rows(path, [*header, *([t, *(f"{value:.4f}" for value in row)] for t, row in enumerate(columns))])


def _write_rows(path: Path, rows: Iterable[Iterable[object]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomic(path, text.getvalue().encode())
