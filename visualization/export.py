"""Tracks, flow, depth and geometry of a trained model as files for other programs.

Files of one frame are named after its number in the source, with at least five digits.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from loaders.clip import colors_at
from networks.omnimotion import OmniMotion
from networks.tracks import TrackingOptions
from preprocessing.source_frames import FrameReader
from preprocessing.source_record import FrameOrigin
from utils.errors import InputError, explain_failed_writes
from visualization.dense import affordable_side, render_frames
from visualization.export_animation import write_after_effects, write_blender
from visualization.export_biology import write_dlc, write_napari
from visualization.export_formats import check_formats, check_timing
from visualization.export_model import canonical_cloud, save_cloud, save_depth, save_motion
from visualization.export_nuke import write_nuke
from visualization.export_rerun import write_rrd
from visualization.export_tracks import TrackTable, write_csv, write_npz, write_tapvid
from visualization.tracking import track_points

TRACK_FILES: dict[str, tuple[str, Callable[[Path, TrackTable], None]]] = {
    "npz": ("tracks.npz", write_npz),
    "csv": ("tracks.csv", write_csv),
    "tapvid": ("tracks_tapvid.npz", write_tapvid),
    "nuke": ("tracks.nk", write_nuke),
    "ae": ("after_effects", write_after_effects),
    "napari": ("tracks_napari.csv", write_napari),
    "dlc": ("tracks_dlc.csv", write_dlc),
}
OF_THE_PLATE = ("nuke", "ae", "blender")  # in pixels of the source's frames, which compositing works on


def export(
    model: OmniMotion,
    video: NDArray[np.uint8],
    query_points: torch.Tensor | ArrayLike,
    formats: Sequence[str],
    out_dir: Path,
    *,
    query_frame: int = 0,
    first_frame: int | None = None,
    origin: FrameOrigin | None = None,
    fps: float = math.nan,
    density_th: float = 0.7,
    tracking: TrackingOptions | None = None,
    names: Sequence[str] = (),
    plate: FrameReader | None = None,
) -> list[Path]:
    """Write the model in some formats.

    Args:
        model: On any device.
        video: The frames [T,H,W,3], which give the points their colours.
        query_points: [N,3] (t, x, y) in pixels, the points of the track files.
        formats: Some of `EXPORT_FORMATS` (visualization/export_formats.py).
        out_dir: Folder of the files; created if missing.
        query_frame: Frame in which dense motion (`flow`, `exr`) starts.
        first_frame: Number of frame 0 in file names, CSV, Nuke, Blender and rerun; None for the one `origin` says.
        origin: Numbers and times of the frames in their source (None: they count from 0).
        fps: Frames per second of the video, NaN if unknown.
        density_th: Smallest density σ of a point in the point cloud.
        tracking: How points are tracked, and when they are occluded (None: the defaults).
        names: A name for each of the query points, for the track files; empty for none.
        plate: The frames in their original size, for the formats of compositing; None for `video`.

    Returns:
        The files, or folders of files, that were written.

    Raises:
        InputError: An unknown format, one without its package, `ae` without a frame rate, frame numbers that are too
            large for Blender, unusable query points or names, a full disk.
    """
    check_formats(formats)
    numbers, times = _numbers_and_times(len(video), origin, first_frame, fps)
    check_timing(formats, fps, int(numbers[0]), len(numbers))
    if needs_tracks := bool({*TRACK_FILES, "blender", "rrd"} & set(formats)):
        queries = _check_queries(query_points, names)
    out_dir, tracking, written = Path(out_dir), tracking or TrackingOptions(), []
    chunk_size = tracking.chunk_size

    def number(frame_id: int) -> str:
        return f"{numbers[frame_id]:05d}"

    with explain_failed_writes(out_dir):
        if needs_tracks:
            table = _track_table(model, video, queries, tracking, fps, numbers, times, tuple(names))
            plate = plate or FrameReader(video.shape[1:3], lambda ids: (video[i] for i in ids))
            written += _save_tracks(table, formats, out_dir, plate)
        if motion := [name for name in ("flow", "exr") if name in formats]:
            written += save_motion(model, query_frame, motion, out_dir, number, chunk_size)
        if "depth" in formats:
            written.append(save_depth(model, out_dir / "depth", number, chunk_size))
        if {"ply", "rrd"} & set(formats):
            cloud = canonical_cloud(model, density_th, chunk_size)
        if "ply" in formats:
            written.append(save_cloud(out_dir / "canonical.ply", cloud, density_th))
        if "rrd" in formats:
            depths = render_frames(model, range(len(video)), affordable_side(model), chunk_size).depths
            write_rrd(out_dir / "tracks.rrd", table, video, depths, cloud)
            written.append(out_dir / "tracks.rrd")
    return written


def _check_queries(query_points: torch.Tensor | ArrayLike, names: Sequence[str]) -> NDArray[np.float32]:
    """Return the query points as an array [N,3].

    Raises:
        InputError: There are none, they have another shape, or the number of names differs.
    """
    queries = torch.as_tensor(query_points, dtype=torch.float32).numpy(force=True)
    if queries.ndim != 2 or queries.shape[1] != 3 or len(queries) == 0:
        raise InputError(f"the query points have shape {list(queries.shape)}: expected [N,3] (t, x, y), at least one")
    if names and len(names) != len(queries):
        raise InputError(f"found {len(names)} names for {len(queries)} query points: expected a name for each, or none")
    return queries


def _save_tracks(table: TrackTable, formats: Sequence[str], out_dir: Path, plate: FrameReader) -> list[Path]:
    """Write the files of tracks alone, and return their paths."""
    written = []
    if plate.is_fallback and (affected := [name for name in OF_THE_PLATE if name in formats]):
        size = f"{plate.size[1]}x{plate.size[0]}"
        print(f"the source is missing or has changed: {', '.join(affected)} fit the reduced frames of {size} pixels")
    for format_name, (file_name, write) in TRACK_FILES.items():
        if format_name in formats:
            write(out_dir / file_name, table.scaled(plate.size) if format_name in OF_THE_PLATE else table)
            written.append(out_dir / file_name)
    if "blender" in formats:
        write_blender(out_dir / "blender", table, plate)
        written.append(out_dir / "blender" / "tracks.py")
    return written


def _numbers_and_times(
    count: int, origin: FrameOrigin | None, first_frame: int | None, fps: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the numbers [T] of the frames, and their times [T] in seconds, NaN where unknown."""
    numbers = np.arange(count) if origin is None else np.array(origin.numbers[:count])
    times = np.arange(count) / fps if origin is None or origin.times is None else np.array(origin.times[:count])
    return numbers + (0 if first_frame is None else first_frame - numbers[0]), times


def _track_table(
    model: OmniMotion,
    video: NDArray[np.uint8],
    queries: NDArray[np.float32],
    tracking: TrackingOptions,
    fps: float,
    numbers: NDArray[np.int64],
    times: NDArray[np.float64],
    names: tuple[str, ...],
) -> TrackTable:
    tracks = track_points(model, queries, None, tracking)
    _, height, width, _ = video.shape
    colors = np.concatenate([colors_at(video[int(query[0])], query[None, 1:]) for query in queries])
    return TrackTable(
        tracks=tracks.px.cpu().numpy(),
        visibility=~tracks.occluded(tracking.occlusion_th, height, width).cpu().numpy(),
        occlusion_score=tracks.occlusion.cpu().numpy(),
        depth=tracks.depth.cpu().numpy(),
        queries=queries,
        colors=(colors * 255).round().astype(np.uint8),
        size=(height, width),
        fps=fps,
        frame_numbers=numbers,
        times=times,
        names=names,
    )
