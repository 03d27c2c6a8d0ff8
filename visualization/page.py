"""The interactive page: one HTML file that plays the clip and shows the track of the pixel under the pointer."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from tqdm import trange

from networks.checkpoints import read_checkpoint
from networks.omnimotion import OmniMotion
from utils.run_log import read_curves
from visualization.colors import depth_to_color, flow_to_color
from visualization.dense import evenly_spread_px, work_per_ray
from visualization.page_file import STEPS_PER_PIXEL, PageFile, block_size, encode_webp, open_page
from visualization.page_tracks import CPU_TRACK_WORK, POINTS_AT_A_TIME, track_facts, write_tracks
from visualization.view import View

PAGE_BYTES = 24_000_000  # largest size of the page: opens quickly and fits in a mail
FRAME_BYTES = PAGE_BYTES // 2  # largest size of the frames
META_BYTES = 500_000  # reserved for settings and curves
CPU_DEPTH_WORK = 1e12  # multiplications allowed on a CPU: about a minute of one core
QUICK_SHARE = 0.2  # of all work allowed, for the page that training ends with
DEPTH_SIDE = 160  # pixels: longest side of the depth pictures
DEPTH_QUALITY = 80
WHEEL_COLORS = 512


def save_page(view: View, name: str, checkpoint: Path, metrics: Path, work_share: float = 1.0) -> Path:
    """Write `index.html`; positions are those of `model.track`, rounded to 1/STEPS_PER_PIXEL pixel.

    Args:
        view: The model, its clip and how it is drawn.
        name: Title of the page.
        checkpoint: File whose step and flags the page lists.
        metrics: `metrics.jsonl` of the training, whose curves the page draws; it may be missing.
        work_share: Share of the usual work allowed on a CPU; with less, the grid and the depth are coarser.

    Returns:
        The path of the page.
    """
    path = view.options.out_dir / "index.html"
    model, tracking, query_frame_id = view.model, view.options.tracking, view.options.query_frame_id
    num_frames, height, width, _ = view.clip.video.shape
    with open_page(path) as page:
        frame_fact = _write_frames(page, view.clip.video)
        depth, depth_fact = _write_depths(page, model, tracking.chunk_size, work_share * CPU_DEPTH_WORK)
        room, work = PAGE_BYTES - META_BYTES - page.size, work_share * CPU_TRACK_WORK
        grids = write_tracks(page, model, query_frame_id, tracking, room, work)
        meta = {
            "name": name,
            "subtitle": f"{num_frames} frames of {width}×{height} pixels, tracked by OmniMotion",
            "size": (width, height),
            "frames": num_frames,
            "fps": view.fps,
            "steps_per_pixel": STEPS_PER_PIXEL,
            "queries": grids,
            "first_query": [grid["frame"] for grid in grids].index(query_frame_id),
            "depth": depth,
            "wheel": _wheel(),
            "curves": read_curves(metrics),
            "settings": _settings(read_checkpoint(checkpoint)),
            "facts": [*track_facts(grids, tracking.occlusion_th), frame_fact, depth_fact],
        }
        page.write_json("meta", meta)
    return path


def _write_frames(page: PageFile, video: NDArray[np.uint8]) -> tuple[str, str]:
    """Append the frames as WebP in the best quality that fits; return the entry about them for the page's facts."""
    sample = video[:: max(1, len(video) // 8)]

    def fits(choice: tuple[int, int]) -> bool:
        shrink, quality = choice
        sizes = [block_size(len(encode_webp(_reduce(frame, shrink), quality))) for frame in sample]
        return float(np.mean(sizes)) * len(video) < FRAME_BYTES

    *choices, smallest = itertools.product((1, 2, 4, 8), (80, 60, 40))
    shrink, quality = next(filter(fits, choices), smallest)
    for t, frame in enumerate(video):
        page.write_block(f"frame-{t}", encode_webp(_reduce(frame, shrink), quality))
    reduced = "" if shrink == 1 else f", reduced to 1/{shrink} (positions are those of the full size)"
    return "Frames", f"WebP of quality {quality}{reduced}"


def _reduce(frame: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
    if shrink == 1:
        return frame
    height, width = (max(1, round(side / shrink)) for side in frame.shape[:2])
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _write_depths(page: PageFile, model: OmniMotion, chunk_size: int, work: float) -> tuple[dict, tuple[str, str]]:
    """Append the depth of every frame as a small picture; return their common scale and the entry for the facts."""
    num_frames, height, width = model.config.num_frames, model.config.height, model.config.width
    side = DEPTH_SIDE
    if model.device.type == "cpu":
        affordable = work / (work_per_ray(model) * num_frames)
        side = min(side, max(1, round(math.sqrt(affordable * max(height, width) / min(height, width)))))
    px, shape = evenly_spread_px((height, width), side)
    chunk_size = min(chunk_size, POINTS_AT_A_TIME)
    bar = trange(num_frames, desc="page: depth", leave=False)
    depths = [model.render(t, px, chunk_size)[1].reshape(shape).cpu().numpy() for t in bar]
    low, high = np.percentile(depths, (1, 99)).tolist()  # a few stray depths must not set the scale
    for t, depth in enumerate(depths):
        page.write_block(f"depth-{t}", encode_webp(depth_to_color(depth, low, high), DEPTH_QUALITY))
    scale = depth_to_color(np.linspace(low, high, 64)[None], low, high)[0]
    legend = {"low": round(low, 3), "high": round(high, 3), "colors": [to_hex(color / 255) for color in scale]}
    return legend, ("Depth", f"rendered at {shape[1]}×{shape[0]} points of each frame")


def _wheel() -> list[list[int]]:
    """Return the colours of motions of full length in all directions, from dx > 0 towards dy > 0."""
    angles = np.linspace(0, 2 * np.pi, WHEEL_COLORS, endpoint=False)
    return flow_to_color(np.stack([np.cos(angles), np.sin(angles)], -1)[None], 1.0)[0].tolist()


def _settings(checkpoint: Mapping) -> list[tuple[str, str]]:
    """Return step and flags of the training, as far as the checkpoint holds them."""
    settings = {"step": checkpoint.get("step", "not in the checkpoint"), **checkpoint.get("flags", {})}
    return [(name, str(value)) for name, value in settings.items()]
