"""Tracks as files for other programs: an npz with a readme inside, CSV, the arrays of TAP-Vid.

In memory, positions are pixels (x, y), integer = pixel centre, y down; `utils.conventions` converts them for files.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from utils.atomic import write_atomic
from utils.conventions import Size, corner_from_px, scale_points, tapvid_queries
from utils.coords import is_inside_image


@dataclass(frozen=True)
class TrackTable:
    """N points in T frames, with their colours and the clip's size, rate, numbering and times."""

    tracks: NDArray  # float32 [T,N,2]
    visibility: NDArray  # bool [T,N]: inside the image and not occluded
    occlusion_score: NDArray  # float32 [T,N] in [0,1], 1 = occluded
    depth: NDArray  # float32 [T,N], small = near
    queries: NDArray  # float32 [N,3] (t, x, y)
    colors: NDArray  # uint8 [N,3] RGB of the video at the queries
    size: Size  # (height, width) of the frames
    fps: float  # frames per second, NaN if unknown
    frame_numbers: NDArray  # int [T]: numbers of the frames in their source, and in other programs
    times: NDArray  # float64 [T]: seconds from the start of the source, NaN if unknown
    names: tuple[str, ...] = ()  # of the points; empty if they have none

    @property
    def labels(self) -> list[str]:
        """A name for each point, no two the same; `point 3` for one without a name."""
        return unique_names(self.names or [""] * len(self.queries))

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Confidence [T,N] in [0,1] that a point is visible: 1 − its occlusion score, 0 outside the image."""
        inside = is_inside_image(torch.from_numpy(self.tracks), *self.size).numpy()
        return np.where(inside, 1 - self.occlusion_score, 0)

    def scaled(self, size: Size) -> "TrackTable":
        """Return the table in pixels of the frames resized to `size`."""
        queries = self.queries.copy()
        queries[:, 1:] = scale_points(queries[:, 1:], self.size, size)
        return replace(self, tracks=scale_points(self.tracks, self.size, size), queries=queries, size=size)


def unique_names(names: Sequence[str]) -> list[str]:
    """Return the names, an empty one and one that occurs before completed by the point's number."""
    unique: dict[str, None] = {}
    for n, name in enumerate(names):
        label = name or f"point {n}"
        while label in unique:
            label += f" point {n}"
        unique[label] = None
    return list(unique)


TRACKS_README = (
    "Tracks of points through a video. T frames, N points; load with numpy.load(file), nothing in it is pickled.",
    "Positions are pixels (x, y): x to the right, y down, (0, 0) is the CENTRE of the upper left pixel.",
    "tracks float32 [T,N,2]: position of each point in each frame, also where it is occluded.",
    "visibility bool [T,N]: true where it is visible: inside the image and not occluded.",
    "occlusion_score float32 [T,N]: 0 = nothing in front of it, 1 = occluded (outside the image it means nothing).",
    "depth float32 [T,N]: pseudo-depth, without unit, small = near; to be compared within a frame.",
    "queries float32 [N,3] (t, x, y): the query point: its frame, counted from 0, and its position there.",
    "colors uint8 [N,3]: RGB of the video at the query.",
    "size int [2]: height and width of the frames, pixels. fps: frames a second, NaN where unknown.",
    "frame_numbers int [T]: the numbers of the frames in their source, in file names, in CSV and in Nuke; first_frame",
    "int: that of frame 0. times float64 [T]: seconds from the start of the source, NaN where unknown.",
    "names str [N]: the points' names; only if they have some.",
)
TAPVID_README = (
    "Tracks in the arrays of TAP-Vid and TAPIR. N points, T frames; load with numpy.load(file), nothing is pickled.",
    "Positions are raster coordinates (x, y): x to the right, y down, (0, 0) is the upper left CORNER of the image,",
    "the centre of the first pixel is (0.5, 0.5). They are pixels of `size`: times 256 / (width, height) for the",
    "256x256 raster that TAP-Vid scores on, divided by (width, height) for the 0..1 of its pickles.",
    "tracks float32 [N,T,2]. occluded bool [N,T]: true where occluded or outside the image.",
    "query_points float32 [N,3] (t, y, x): mind the order. size int [2]: height, width.",
    "names str [N]: the points' names; only if they have some.",
)


def write_npz(path: Path, table: TrackTable) -> None:
    """Write `tracks.npz`; `TRACKS_README`, stored in it as `readme`, describes its arrays."""
    arrays = {name: value for name, value in vars(table).items() if name != "names" or value}
    _write_npz(path, readme=np.array(TRACKS_README), first_frame=table.frame_numbers[0], **arrays)


def write_tapvid(path: Path, table: TrackTable) -> None:
    """Write TAP-Vid's arrays, as TAPIR's tools read them; `TAPVID_README`, stored as `readme`, describes them."""
    _write_npz(
        path,
        readme=np.array(TAPVID_README),
        tracks=corner_from_px(table.tracks).swapaxes(0, 1),
        occluded=~table.visibility.T,
        query_points=tapvid_queries(table.queries),
        size=table.size,
        **({"names": np.array(table.names)} if table.names else {}),
    )


def _write_npz(path: Path, **arrays: Any) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


CSV_COLUMNS = (
    *("point", "query_frame", "query_x", "query_y", "red", "green", "blue"),
    *("frame", "time", "x", "y", "visible", "occlusion_score", "depth"),
)


def write_csv(path: Path, table: TrackTable) -> None:
    """Write one row for each point in each frame, under `CSV_COLUMNS`.

    Points count from 0, frames have their numbers in the source. `time` is in seconds, empty if unknown; `visible` is
    0 or 1. A last column holds the points' names if they have some.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*CSV_COLUMNS, "name"] if table.names else CSV_COLUMNS)
    times = ("" if np.isnan(time) else f"{time:.6f}" for time in table.times)
    frames = list(zip(table.frame_numbers.tolist(), times, strict=True))
    for n, ((t, x, y), color) in enumerate(zip(table.queries.tolist(), table.colors.tolist(), strict=True)):
        columns = table.tracks[:, n], table.visibility[:, n], table.occlusion_score[:, n], table.depth[:, n]
        rows = zip(frames, *(column.tolist() for column in columns), strict=True)
        for frame, px, visible, score, depth in rows:
            numbers = *(f"{value:.4f}" for value in px), int(visible), f"{score:.4f}", f"{depth:.5f}"
            query = n, frames[int(t)][0], f"{x:.4f}", f"{y:.4f}", *color
            writer.writerow([*query, *frame, *numbers, *table.names[n : n + 1]])
    write_atomic(path, text.getvalue().encode())
