"""Dense results of a model for other programs: motion, depth and geometry, computed one frame at a time.

Memory does not grow with the number of frames: each is written before the next is computed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm, trange

from networks.omnimotion import OmniMotion
from networks.rendering import density_to_alpha, gather_max_weight, render_weights
from utils.atomic import write_array
from utils.conventions import stmap_from_px, to_opengl_axes
from utils.coords import pixel_grid
from utils.images import write_image
from visualization.export_dense import write_exr, write_flo, write_ply

CLOUD_RAYS = 200_000  # of all frames together: more do not make a point cloud clearer


@dataclass(frozen=True)
class PointCloud:
    """M points of the canonical volume."""

    points: NDArray[np.float32]  # [M,3], y up, z towards the viewer
    colors: NDArray[np.uint8]  # [M,3] RGB
    density: NDArray[np.float32]  # [M] σ


def save_motion(
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


def save_depth(model: OmniMotion, folder: Path, number: Callable[[int], str], chunk_size: int) -> Path:
    """Write every frame's composited depth as float32 npy, and as 16-bit png with 0 … 65535 from near to far."""
    near, far = model.config.min_depth, model.config.max_depth
    for t in trange(model.config.num_frames, desc="depth", unit="frame"):
        depth = model.depth(t, chunk_size).cpu().numpy()
        write_array(folder / f"{number(t)}.npy", depth)
        steps = ((depth - near) / (far - near) * 65535).round().clip(0, 65535)
        write_image(folder / f"{number(t)}.png", steps.astype(np.uint16))
    return folder


def save_cloud(path: Path, cloud: PointCloud, density_th: float) -> Path:
    """Write a point cloud, whose points have at least the density `density_th`, as PLY."""
    comment = f"canonical volume, y up, z towards the viewer; density at least {density_th:g}"
    write_ply(path, cloud.points, cloud.colors, cloud.density, comment)
    return path


@torch.no_grad()
def canonical_cloud(model: OmniMotion, density_th: float, chunk_size: int) -> PointCloud:
    """Return the surface points of all frames' rays (samples of largest weight) of at least a density.

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
    return PointCloud(to_opengl_axes(points), (rgbs * 255).round().astype(np.uint8), density[:, 0])
