"""Tracks, flow, depth and geometry of a trained model as files for other programs.

Files of one frame are named after its number in the source, with at least five digits.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm, trange

from loaders.clip import colors_at
from networks.omnimotion import OmniMotion, TrackingOptions
from networks.rendering import density_to_alpha, gather_max_weight, render_weights
from preprocessing.source_record import FrameOrigin
from utils.atomic import write_array
from utils.conventions import stmap_from_px, to_opengl_axes
from utils.coords import pixel_grid
from utils.errors import explain_failed_writes
from utils.images import write_image
from visualization.export_dense import write_exr, write_flo, write_ply
from visualization.export_formats import check_formats
from visualization.export_nuke import write_nuke
from visualization.export_tracks import TrackTable, write_csv, write_npz, write_tapvid
from visualization.tracking import track_points

CLOUD_RAYS = 200_000  # of all frames together: more do not make a point cloud clearer
TRACK_FILES: dict[str, tuple[str, Callable[[Path, TrackTable], None]]] = {
    "npz": ("tracks.npz", write_npz),
    "csv": ("tracks.csv", write_csv),
    "tapvid": ("tracks_tapvid.npz", write_tapvid),
    "nuke": ("tracks.nk", write_nuke),
}


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
) -> list[Path]:
    """Write the model in some formats.

    Args:
        model: On any device.
        video: The frames [T,H,W,3], which give the points their colours.
        query_points: [N,3] (t, x, y) in pixels, the points of the track files.
        formats: Some of `EXPORT_FORMATS` (visualization/export_formats.py).
        out_dir: Folder of the files; created if missing.
        query_frame: Frame in which dense motion (`flow`, `exr`) starts.
        first_frame: Number of frame 0 in file names, CSV and Nuke; None for the one that `origin` says.
        origin: Numbers and times of the frames in their source (None: they count from 0).
        fps: Frames per second of the video, NaN if unknown.
        density_th: Smallest density σ of a point in the point cloud.
        tracking: How points are tracked, and when they are occluded (None: the defaults).
        names: A name for each of the query points, for the track files; empty for none.

    Returns:
        The files, or folders of files, that were written.

    Raises:
        InputError: An unknown format, `exr` without OpenEXR, unusable query points, a full disk.
    """
    check_formats(formats)
    out_dir, tracking, written = Path(out_dir), tracking or TrackingOptions(), []
    chunk_size = tracking.chunk_size
    numbers, times = _numbers_and_times(len(video), origin, first_frame, fps)

    def number(frame_id: int) -> str:
        return f"{numbers[frame_id]:05d}"

    with explain_failed_writes(out_dir):
        if writers := [TRACK_FILES[name] for name in formats if name in TRACK_FILES]:
            queries = torch.as_tensor(query_points, dtype=torch.float32).numpy(force=True)
            table = _track_table(model, video, queries, tracking, fps, numbers, times, tuple(names))
            for name, write in writers:
                write(out_dir / name, table)
                written.append(out_dir / name)
        if motion := [name for name in ("flow", "exr") if name in formats]:
            written += _save_motion(model, query_frame, motion, out_dir, number, chunk_size)
        if "depth" in formats:
            written.append(_save_depth(model, out_dir / "depth", number, chunk_size))
        if "ply" in formats:
            written.append(_save_cloud(model, out_dir / "canonical.ply", density_th, chunk_size))
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


def _save_motion(
    model: OmniMotion, query: int, formats: list[str], out_dir: Path, number: Callable[[int], str], chunk_size: int
) -> list[Path]:
    """Write flow and STMaps between the query frame and every frame, one at a time; return their folders."""
    size = model.config.height, model.config.width
    grid = pixel_grid(*size).numpy()
    frames = model.dense_tracks(query, None, chunk_size)
    for t, target in enumerate(tqdm(frames, desc="dense motion", total=model.config.num_frames, unit="frame")):
        forward = target.cpu().numpy()
        if "flow" in formats:
            path = out_dir / "flow" / f"{number(query)}_{number(t)}.flo"
            write_flo(path, forward - grid)
            write_array(path.with_suffix(".npy"), forward - grid)
        if "exr" in formats:
            (backward,) = model.dense_tracks(t, [query], chunk_size)
            for name, px in (("stabilise", forward), ("matchmove", backward.cpu().numpy())):
                u, v = np.moveaxis(stmap_from_px(px, size), -1, 0)
                comment = f"{name}: query frame {number(query)}, frame {number(t)}; u right, v up, 0..1 edge to edge"
                write_exr(out_dir / "stmap" / f"{name}_{number(query)}.{number(t)}.exr", {"R": u, "G": v}, comment)
    return [out_dir / {"flow": "flow", "exr": "stmap"}[name] for name in formats]


def _save_depth(model: OmniMotion, folder: Path, number: Callable[[int], str], chunk_size: int) -> Path:
    """Write every frame's composited depth as float32 npy, and as 16-bit png with 0 … 65535 from near to far."""
    near, far = model.config.min_depth, model.config.max_depth
    for t in trange(model.config.num_frames, desc="depth", unit="frame"):
        depth = model.depth(t, chunk_size).cpu().numpy()
        write_array(folder / f"{number(t)}.npy", depth)
        steps = ((depth - near) / (far - near) * 65535).round().clip(0, 65535)
        write_image(folder / f"{number(t)}.png", steps.astype(np.uint16))
    return folder


@torch.no_grad()
def _save_cloud(model: OmniMotion, path: Path, density_th: float, chunk_size: int) -> Path:
    """Write the surface points of all frames' rays (samples of largest weight) as a coloured point cloud.

    It has only surfaces, because no frame supervises the density behind them.
    """
    config = model.config
    step = math.ceil(math.sqrt(config.num_frames * config.height * config.width / CLOUD_RAYS))
    px = pixel_grid(config.height, config.width, model.device)[step // 2 :: step, step // 2 :: step].reshape(-1, 2)
    surfaces = []
    for t in trange(config.num_frames, desc="point cloud", unit="frame"):
        frame = model.warp.at(torch.tensor([t]))
        for piece in px.split(chunk_size):
            points = frame.to_canonical(model.rays(piece)[None])
            rgbs, sigmas = model.volume(points)
            samples = torch.cat([points, rgbs, sigmas[..., None]], -1)
            surface = gather_max_weight(render_weights(density_to_alpha(sigmas)), samples)[0]
            surfaces.append(surface[surface[:, 6] >= density_th].cpu())
    points, rgbs, density = (part.numpy() for part in torch.cat(surfaces).split([3, 3, 1], 1))
    comment = f"canonical volume, y up, z towards the viewer; density at least {density_th:g}"
    write_ply(path, to_opengl_axes(points), (rgbs * 255).round().astype(np.uint8), density[:, 0], comment)
    return path
