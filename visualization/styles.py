"""The styles of viz.py: each draws one kind of video of a `View`, and returns the paths of what it wrote."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from visualization.colors import angle_colors, jet_colors, spread_colors
from visualization.contact_sheet import save_overview
from visualization.dense import canonical_frames, color_frames, depth_frames, evenly_spread_px, flow_frames
from visualization.grid import draw_grid
from visualization.trails import draw_trails
from visualization.view import View


def save_grid(view: View) -> list[Path]:
    """Draw the query frame beside every frame, a video for each frame that has queries."""
    written = []
    for t in np.unique(view.queries[:, 0]).astype(int).tolist():
        rows = view.queries[:, 0] == t
        (query,) = view.originals.read([t])
        px = view.to_original_px(view.queries[rows, 1:])
        tracks, occluded = view.drawn_tracks[:, rows], view.tracks[1][:, rows]
        frames = view.originals.read(view.frame_ids)
        title = f"query: frame {t}"
        pairs = draw_grid(query, title, px, frames, tracks, occluded, angle_colors(px), view.options.radius)
        written += view.save(f"{view.file_prefix([t])}_grid", pairs)
    return written


def save_trails(view: View) -> list[Path]:
    """Draw all points with fading trails, in the colours of `jet`."""
    return _save_trails(view, "trails", jet_colors, view.options.trail_length)


def save_rainbow(view: View) -> list[Path]:
    """Draw all points with their paths since the first frame, in rainbow colours by position."""
    return _save_trails(view, "rainbow", spread_colors, None)


def _save_trails(view: View, name: str, to_colors: Callable[[NDArray], NDArray], length: int | None) -> list[Path]:
    frames, colors = view.originals.read(view.frame_ids), to_colors(view.to_original_px(view.queries[:, 1:]))
    tracks, occluded = view.drawn_tracks, view.tracks[1]
    drawn = draw_trails(frames, view.originals.size, tracks, occluded, view.camera, colors, length, view.options.radius)
    query_frames = np.unique(view.queries[:, 0]).astype(int).tolist()
    return view.save(f"{view.file_prefix(query_frames)}_{name}", drawn)


def save_flow(view: View) -> list[Path]:
    """Draw the motion of every pixel of the query frame, in Middlebury colours."""
    query, (height, width) = view.options.query_frame_id, view.working_size
    px, _ = evenly_spread_px((height, width))
    grid = px.reshape(height, width, 2).to(view.model.device)
    targets = view.model.dense_tracks(query, view.frame_ids, view.options.tracking.chunk_size)
    targets = tqdm(targets, "flow", len(view.frame_ids))
    flow = np.stack([(target - grid).half().cpu().numpy() for target in targets])
    if query in view.frame_ids:
        flow[view.frame_ids.index(query)] = 0
    scale = np.array(view.originals.size[::-1]) / (width, height)
    frames = flow_frames(flow * scale.astype(np.float16), view.originals.size)
    return view.save(f"{view.file_prefix([query])}_flow", frames)


def save_depth(view: View) -> list[Path]:
    """Draw the pseudo-depth of every frame, on one colour scale: small is near."""
    return view.save("depth", depth_frames(view.rendered.depths, view.originals.size))


def save_color(view: View) -> list[Path]:
    """Draw every frame beside the model's rendering of it."""
    return view.save("color", color_frames(view.originals.read(view.frame_ids), view.rendered.colors))


def save_canonical(view: View) -> list[Path]:
    """Draw the canonical coordinates of every pixel's surface point, as colours."""
    return view.save("canonical", canonical_frames(view.rendered.canonical, view.originals.size))


STYLES: dict[str, Callable[[View], list[Path]]] = {
    "grid": save_grid,
    "trails": save_trails,
    "rainbow": save_rainbow,
    "flow": save_flow,
    "depth": save_depth,
    "color": save_color,
    "canonical": save_canonical,
}
"""All of `style_names.STYLE_NAMES` but `page`, which is no video (`visualization.page`)."""


def save_styles(view: View, names: Collection[str]) -> list[Path]:
    """Draw the videos of some styles, in the order of `STYLES`, and an overview of their contact sheets.

    Returns:
        The paths of the files; none if `names` has no style of `STYLES`.
    """
    written = [path for name in STYLES if name in names for path in STYLES[name](view)]
    if sheets := [path for path in written if path.suffix == ".png"]:
        written.append(save_overview(view.options.out_dir / "overview.png", sheets))
    return written
