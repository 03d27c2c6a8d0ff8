"""What a trained model knows, as files for other programs: `export` writes the formats that it is asked for.

Files that belong to one frame are named after its number: frame 0 has that of `first_frame`, five digits at least.
"""

import math
import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm, trange

from loaders.clip import colors_at
from networks.omnimotion import OmniMotion, Tracks
from networks.rendering import density_to_alpha, gather_max_weight, render_weights
from utils.atomic import write_array
from utils.config import run_dir
from utils.conventions import stmap_from_px, to_opengl_axes
from utils.coords import pixel_grid
from utils.errors import explain_failed_writes
from utils.images import write_image
from visualization.export_dense import write_exr, write_flo, write_ply
from visualization.export_formats import check_formats
from visualization.export_nuke import write_nuke
from visualization.export_tracks import TrackTable, write_csv, write_npz, write_tapvid

TRACKED_AT_A_TIME = 50  # points between two moves of the bar
CLOUD_RAYS = 200_000  # of all frames together: a point cloud of more is no clearer
TRACK_FILES = {
    "npz": ("tracks.npz", write_npz),
    "csv": ("tracks.csv", write_csv),
    "tapvid": ("tracks_tapvid.npz", write_tapvid),
    "nuke": ("tracks.nk", write_nuke),
}


def export(
    model: OmniMotion,
    video: NDArray[np.uint8],
    query_points: torch.Tensor,
    formats: Sequence[str],
    out_dir: Path,
    *,
    query_frame: int = 0,
    first_frame: int = 0,
    fps: float = math.nan,
    occlusion_th: float = 0.99,
    density_th: float = 0.7,
    use_max_loc: bool = True,
    chunk_size: int = 10000,
) -> list[Path]:
    """Write the formats into `out_dir`; the files and folders that hold them.

    Args:
        video: [T,H,W,3], which gives the points their colours.
        query_points: [N,3] (t, x, y) of the track files.
        formats: some of `EXPORT_FORMATS` (visualization/export_formats.py).
        query_frame: where dense motion (`flow`, `exr`) starts.
        first_frame: the number of frame 0 in file names and in Nuke.
        fps: of the video, NaN where unknown.
        occlusion_th: score above which a point is hidden. density_th: density σ below which the cloud has no point.
        use_max_loc, chunk_size: as of `OmniMotion.track`.

    Raises:
        InputError: an unknown format, `exr` without OpenEXR, unusable query points, a full disk.
    """
    check_formats(formats)
    out_dir, written = Path(out_dir), []

    def number(frame_id: int) -> str:
        return f"{first_frame + frame_id:05d}"

    with explain_failed_writes(out_dir):
        if asked := [TRACK_FILES[name] for name in formats if name in TRACK_FILES]:
            queries = torch.as_tensor(query_points, dtype=torch.float32).cpu()
            pieces = tqdm(queries.split(TRACKED_AT_A_TIME), desc="tracking points")
            tracks = Tracks.joined([model.track(piece, None, use_max_loc, chunk_size) for piece in pieces])
            table = _table(tracks, queries.numpy(), video, occlusion_th, fps, first_frame)
            for name, write in asked:
                write(out_dir / name, table)
                written.append(out_dir / name)
        if motion := [name for name in ("flow", "exr") if name in formats]:
            written += _save_motion(model, query_frame, motion, out_dir, number, chunk_size)
        if "depth" in formats:
            written.append(_save_depth(model, out_dir / "depth", number, chunk_size))
        if "ply" in formats:
            written.append(_save_cloud(model, out_dir / "canonical.ply", density_th, chunk_size))
    return written


def export_run(
    model: OmniMotion,
    video: NDArray[np.uint8],
    names: list[str],
    query_points: torch.Tensor,
    args: Namespace,
    fps: float = math.nan,
) -> list[Path]:
    """`export` as the flags say, into `export/` of the run's folder; `names`: the frames' file names."""
    number = re.search(r"\d+$", Path(names[0]).stem)
    by_name = int(number[0]) if number else 0
    return export(
        model,
        video,
        query_points,
        args.export,
        run_dir(args) / "export",
        query_frame=args.query_frame_id,
        first_frame=by_name if args.first_frame is None else args.first_frame,
        fps=fps,
        occlusion_th=args.occlusion_th,
        density_th=args.density_th,
        use_max_loc=args.use_max_loc,
        chunk_size=args.chunk_size,
    )


def _table(
    tracks: Tracks, queries: NDArray, video: NDArray, occlusion_th: float, fps: float, first_frame: int
) -> TrackTable:
    size = video.shape[1:3]
    colors = np.concatenate([colors_at(video[int(query[0])], query[None, 1:]) for query in queries])
    visible = ~tracks.occluded(occlusion_th, *size)
    arrays = (each.cpu().numpy() for each in (tracks.px, visible, tracks.occlusion, tracks.depth))
    return TrackTable(*arrays, queries, (colors * 255).round().astype(np.uint8), size, fps, first_frame)


def _save_motion(
    model: OmniMotion, query: int, formats: list[str], out_dir: Path, number: Callable[[int], str], chunk_size: int
) -> list[Path]:
    """Flow and STMaps between the query frame and every frame, one frame in memory at a time; their folders."""
    size = model.config.height, model.config.width
    grid = pixel_grid(*size).numpy()
    frames = model.dense_tracks(query, None, chunk_size)
    for t, there in enumerate(tqdm(frames, desc="dense motion", total=model.config.num_frames, unit="frame")):
        there = there.cpu().numpy()
        if "flow" in formats:
            path = out_dir / "flow" / f"{number(query)}_{number(t)}.flo"
            write_flo(path, there - grid)
            write_array(path.with_suffix(".npy"), there - grid)
        if "exr" in formats:
            (back,) = model.dense_tracks(t, [query], chunk_size)
            for name, px in (("stabilise", there), ("matchmove", back.cpu().numpy())):
                u, v = np.moveaxis(stmap_from_px(px, size), -1, 0)
                where = f"{name}: query frame {number(query)}, frame {number(t)}; u right, v up, 0..1 edge to edge"
                write_exr(out_dir / "stmap" / f"{name}_{number(query)}.{number(t)}.exr", {"R": u, "G": v}, where)
    return [out_dir / {"flow": "flow", "exr": "stmap"}[name] for name in formats]


def _save_depth(model: OmniMotion, folder: Path, number: Callable[[int], str], chunk_size: int) -> Path:
    """Composited depth of every frame: float32 npy, and 16-bit png with 0 … 65535 for the ends of the rays."""
    near, far = model.config.min_depth, model.config.max_depth
    for t in trange(model.config.num_frames, desc="depth", unit="frame"):
        depth = model.depth(t, chunk_size).cpu().numpy()
        write_array(folder / f"{number(t)}.npy", depth)
        steps = ((depth - near) / (far - near) * 65535).round().clip(0, 65535)
        write_image(folder / f"{number(t)}.png", steps.astype(np.uint16))
    return folder


@torch.no_grad()
def _save_cloud(model: OmniMotion, path: Path, density_th: float, chunk_size: int) -> Path:
    """What the rays of all frames meet (their heaviest samples) in the canonical volume, as a coloured point cloud.

    Surfaces alone: what lies behind them no frame has seen, so that nothing has taught its density.
    """
    config = model.config
    step = math.ceil(math.sqrt(config.num_frames * config.height * config.width / CLOUD_RAYS))
    px = pixel_grid(config.height, config.width, model.device)[step // 2 :: step, step // 2 :: step].reshape(-1, 2)
    found = []
    for t in trange(config.num_frames, desc="point cloud", unit="frame"):
        frame = model.warp.at(torch.tensor([t]))
        for piece in px.split(chunk_size):
            points = frame.to_canonical(model.rays(piece)[None])
            rgbs, sigmas = model.volume(points)
            samples = torch.cat([points, rgbs, sigmas[..., None]], -1)
            surface = gather_max_weight(render_weights(density_to_alpha(sigmas)), samples)[0]
            found.append(surface[surface[:, 6] >= density_th].cpu())
    points, rgbs, density = (part.numpy() for part in torch.cat(found).split([3, 3, 1], 1))
    about = f"canonical volume, y up, z towards the viewer; density at least {density_th:g}"
    write_ply(path, to_opengl_axes(points), (rgbs * 255).round().astype(np.uint8), density[:, 0], about)
    return path
