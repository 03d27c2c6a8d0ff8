"""Dense pictures of a model: its colours, depths, canonical coordinates and flow, uint8 RGB [h,w,3] for each frame.

Where rendering is slow (on a CPU), it is done at fewer points, spread evenly over the image, and the pictures are
enlarged to the size of the frames.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from networks.omnimotion import OmniMotion
from networks.rendering import composite, gather_max_weight
from utils.coords import pixel_grid
from visualization.colors import depth_to_color, flow_to_color, to_uint8
from visualization.legends import with_depth_bar, with_flow_wheel
from visualization.marks import beside, enlarge

CPU_WORK = 4e11  # multiplications allowed for one dense picture on a CPU: about ten seconds


@dataclass(frozen=True)
class Rendered:
    """Renderings of F frames by the model, at h·w points spread evenly over the image."""

    colors: NDArray[np.uint8]  # [F,h,w,3]
    depths: NDArray[np.float32]  # [F,h,w]
    canonical: NDArray[np.float16]  # [F,h,w,3] canonical coordinates of the surface


def evenly_spread_px(size: tuple[int, int], longest_side: int | None = None) -> tuple[Tensor, tuple[int, int]]:
    """Spread points evenly over an image of `size` (H, W), at most `longest_side` along either side.

    Returns:
        Pixels [h·w,2] float32 and (h, w): every pixel, or the centres of h·w equal cells.
    """
    shrink = min(1.0, (longest_side or max(size)) / max(size))
    rows, cols = (max(1, round(side * shrink)) for side in size)
    scale = torch.tensor([size[1] / cols, size[0] / rows])
    return ((pixel_grid(rows, cols) + 0.5) * scale - 0.5).reshape(-1, 2), (rows, cols)


def affordable_side(model: OmniMotion) -> int | None:
    """Return the longest side of dense pictures in pixels: on a CPU limited by `CPU_WORK`, else None (no limit)."""
    if model.device.type != "cpu":
        return None
    return max(1, round(math.sqrt(CPU_WORK / work_per_ray(model))))


def work_per_ray(model: OmniMotion) -> int:
    """Estimate the number of multiplications for one ray: each parameter once for each sample."""
    return sum(p.numel() for p in model.parameters()) * model.config.num_samples_ray


def render_frames(model: OmniMotion, frame_ids: Sequence[int], longest_side: int | None, chunk_size: int) -> Rendered:
    """Render colour, depth and canonical coordinates of frames, at most `longest_side` points along either side."""
    px, shape = evenly_spread_px((model.config.height, model.config.width), longest_side)
    rows = [_render_frame(model, i, px, chunk_size) for i in tqdm(frame_ids, "rendering")]
    colors, depths, canonical = (np.stack(column) for column in zip(*rows, strict=True))
    count = len(frame_ids)
    return Rendered(
        colors.reshape(count, *shape, 3), depths.reshape(count, *shape), canonical.reshape(count, *shape, 3)
    )


@torch.no_grad()
def _render_frame(
    model: OmniMotion, frame_id: int, px: Tensor, chunk_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float16]]:
    """Return colours [N,3], depths [N] and canonical coordinates [N,3] at pixels [N,2], from one pass over the rays."""
    pieces = []
    for piece in px.to(model.device).split(model.rays_at_once(chunk_size)):
        rays = model.render_rays(model.rays(piece)[None], torch.tensor([frame_id]))
        depths = composite(rays.weights, model.depths()[:, None].expand(*rays.weights.shape, 1))[0, :, 0]
        surface = gather_max_weight(rays.weights, rays.x_canonical)[0]
        pieces.append((composite(rays.weights, rays.rgbs)[0], depths, surface))
    rgb, depth, canonical = (torch.cat(column).cpu().numpy() for column in zip(*pieces, strict=True))
    return to_uint8(rgb), depth, canonical.astype(np.float16)


def color_frames(frames: Iterable[NDArray[np.uint8]], colors: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Draw the frames [H,W,3] beside the rendered colours [F,h,w,3]."""
    for frame, color in zip(frames, colors, strict=True):
        yield enlarge(beside(frame, _resize(color, frame.shape[:2])))[0]


def depth_frames(depths: NDArray, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Draw depths [F,h,w] in colours of one scale, with its bar, at `size` (H, W)."""
    low, high = np.percentile(depths, (1, 99)).tolist()  # a few stray depths must not set the scale
    for depth in depths:
        yield with_depth_bar(depth_to_color(_resize(depth, size), low, high), low, high, "depth")


def canonical_frames(canonical: NDArray, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Draw canonical coordinates (x, y, z) [F,h,w,3] as (red, green, blue), each from low to high over all frames.

    A point of the scene has one position in the canonical volume, so it should keep its colour through the clip; where
    it does not, the model has lost track of it.
    """
    low, high = np.percentile(canonical.reshape(-1, 3).astype(np.float32), (1, 99), axis=0)
    for positions in canonical.astype(np.float32):
        yield enlarge(_resize(to_uint8((positions - low) / np.maximum(high - low, 1e-6)), size))[0]


def flow_frames(flow: NDArray, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Draw flow [F,h,w,2] in Middlebury colours of one scale, with its wheel; pixels of an image of `size` (H, W)."""
    scale = float(np.percentile(np.linalg.norm(flow.astype(np.float32), axis=-1), 99))  # stray points must not set it
    for frame in flow.astype(np.float32, copy=False):
        yield with_flow_wheel(enlarge(_resize(flow_to_color(frame, scale), size))[0], scale)


def _resize(image: NDArray, size: tuple[int, int]) -> NDArray:
    """Enlarge a picture that was evaluated at `evenly_spread_px` to (H, W)."""
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
