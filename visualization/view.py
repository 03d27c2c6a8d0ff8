"""Pictures of a trained model: what of it is looked at (`View`), and one function for each style of viz.py."""

import math
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from loaders.clip import Clip
from networks.omnimotion import OmniMotion, Tracks
from networks.rendering import composite, gather_max_weight
from preprocessing.source_frames import FrameReader, original_frames, read_source_record
from utils.config import run_dir
from utils.conventions import scale_points
from utils.coords import with_time
from utils.errors import InputError
from visualization import draw
from visualization.camera import camera_by_homographies, camera_by_median
from visualization.contact_sheet import save_with_sheet
from visualization.dense import Rendered, canonical_frames, color_frames, dense_px, depth_frames, flow_frames
from visualization.query_points import check_queries, choose_points, grid_points, read_queries
from visualization.trails import draw_pairs, draw_trails

BACKGROUND_POINTS = 400  # for the camera's motion only
TRACKED_AT_A_TIME = 50  # points between two moves of the bar
DEFAULT_FPS = 10.0  # of frames whose rate nobody knows
CPU_WORK = 4e11  # multiplications that a CPU is given for one dense picture: about ten seconds


def query_points(args: Namespace, clip: Clip) -> NDArray[np.float32]:
    """The points [N,3] (t, x, y) that the flags name: `--points`, or a grid or random points of the query frame.

    These lie on the foreground, where it is known, and in `--region`.

    Raises:
        InputError: unusable or too many points, or flags that contradict one another.
    """
    num_frames, height, width = clip.video.shape[:3]
    if args.frames and args.frames[1] > num_frames:
        raise InputError(f"--frames ends at {args.frames[1]}, expected at most {num_frames}, as many as the clip has")
    if args.points:
        if args.region or args.random or args.grid_interval:
            raise InputError(
                "--points names the points itself: drop --region, --random and --grid_interval, or --points"
            )
        queries = read_queries(args.points)
    else:
        mask = np.ones((height, width), bool) if clip.foreground is None else clip.foreground.copy()
        if args.region:
            x0, y0, x1, y1 = args.region
            if x1 > width or y1 > height:
                raise InputError(f"--region is {args.region}, expected x up to {width} and y up to {height}")
            inside = np.zeros_like(mask)
            inside[y0:y1, x0:x1] = True
            mask &= inside
        px = choose_points(mask, args.grid_interval, args.random, args.loader_seed)
        queries = with_time(args.query_frame_id, torch.from_numpy(px)).numpy()
    check_queries(queries, num_frames, height, width)
    return queries


def follow(
    model: OmniMotion, queries: NDArray, frame_ids: Sequence[int], args: Namespace
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where query points [N,3] (t, x, y) are in the frames: pixels [F,N,2], and whether hidden or outside [F,N].

    In its own frame a point is exactly where it was asked, and visible.
    """
    bar = tqdm(torch.from_numpy(queries).split(TRACKED_AT_A_TIME), "tracking points")
    tracks = Tracks.joined([model.track(piece, frame_ids, args.use_max_loc, args.chunk_size) for piece in bar])
    occluded = tracks.occluded(args.occlusion_th, model.config.height, model.config.width)
    return tracks.px.cpu().numpy(), occluded.cpu().numpy()


@dataclass(frozen=True)
class View:
    """A model and what is to be seen of it; what several styles need is computed once, when first asked for."""

    model: OmniMotion
    clip: Clip
    queries: NDArray[np.float32]  # [N,3] (t, x, y), pixels of the frames that are tracked
    args: Namespace

    @property
    def out_dir(self) -> Path:
        """Where pictures go."""
        return Path(self.args.out) if self.args.out else run_dir(self.args) / "vis"

    @property
    def frame_ids(self) -> range:
        """The F frames that are drawn."""
        return range(*self.args.frames) if self.args.frames else range(len(self.clip.video))

    @cached_property
    def pictures(self) -> FrameReader:
        """What is drawn on: the frames in their own size where they were reduced, or else as they are tracked."""
        return original_frames(self.clip.paths, self.clip.video)

    @property
    def working_size(self) -> tuple[int, int]:
        """(H, W) of the frames that are tracked."""
        return self.clip.video.shape[1:3]

    def to_pictures(self, px: NDArray) -> NDArray:
        """Pixels of the frames that are tracked → pixels of `pictures`."""
        return scale_points(px, self.working_size, self.pictures.size)

    @cached_property
    def tracks(self) -> tuple[NDArray, NDArray]:
        """The query points in `pictures` [F,N,2], and whether they are hidden [F,N]."""
        px, occluded = follow(self.model, self.queries, self.frame_ids, self.args)
        return self.to_pictures(px), occluded

    @property
    def drawn_tracks(self) -> NDArray:
        """`tracks` without a place where they are hidden, unless hidden points are to be seen."""
        px, occluded = self.tracks
        return px if self.args.vis_occlusion else np.where(occluded[..., None], np.nan, px)

    @cached_property
    def camera(self) -> NDArray:
        """Maps [F,3,3] of `pictures` into the first one, by points of the query frame's background."""
        foreground = self.clip.foreground
        background = None if foreground is None or foreground.all() else ~foreground
        px = grid_points(*self.working_size, BACKGROUND_POINTS, background)
        queries = with_time(self.args.query_frame_id, torch.from_numpy(px)).numpy()
        px, occluded = follow(self.model, queries, self.frame_ids, self.args)
        px = self.to_pictures(px)
        return camera_by_homographies(px, occluded) if background is None else camera_by_median(px)

    @cached_property
    def rendered(self) -> Rendered:
        """Colour, depth and canonical place of every frame, on a CPU at fewer points than the frames have pixels."""
        side = affordable_side(self.model)
        if side is not None and side < max(self.working_size):
            print(f"on this CPU colour, depth and canonical places are rendered {side} pixels wide or high")
        px, shape = dense_px(self.working_size, side)
        rows = [_render(self.model, i, px, self.args.chunk_size) for i in tqdm(self.frame_ids, "rendering")]
        colors, depths, canonical = (np.stack(column) for column in zip(*rows, strict=True))
        count = len(self.frame_ids)
        return Rendered(
            colors.reshape(count, *shape, 3), depths.reshape(count, *shape), canonical.reshape(count, *shape, 3)
        )

    @property
    def known_fps(self) -> float | None:
        """Pictures a second: as asked, else as the source has them, else None."""
        return self.args.fps or read_source_record(self.clip.paths).get("fps")

    @property
    def fps(self) -> float:
        """Pictures a second of what is drawn."""
        return self.known_fps or DEFAULT_FPS

    def save(self, name: str, frames: Iterable[NDArray[np.uint8]]) -> list[Path]:
        """Write the frames of a video and its contact sheet; their paths."""
        return save_with_sheet(self.out_dir, name, frames, self.frame_ids, self.fps)

    def prefix(self, frame_ids: Sequence[int]) -> str:
        """How files of queries in these frames are called."""
        return Path(self.clip.names[frame_ids[0]]).stem if len(frame_ids) == 1 else "points"


@torch.no_grad()
def _render(model: OmniMotion, frame_id: int, px: torch.Tensor, chunk_size: int) -> tuple[NDArray, NDArray, NDArray]:
    """Colours uint8 [N,3], depths [N] and canonical places float16 [N,3] at pixels [N,2]: one march of the rays."""
    pieces = []
    for piece in px.to(model.device).split(chunk_size):
        rays = model.render_rays(model.rays(piece)[None], torch.tensor([frame_id]))
        depths = composite(rays.weights, model.depths()[:, None].expand(*rays.weights.shape, 1))[0, :, 0]
        surface = gather_max_weight(rays.weights, rays.x_canonical)[0]
        pieces.append((composite(rays.weights, rays.rgbs)[0], depths, surface))
    colors, depths, surface = (torch.cat(column).cpu().numpy() for column in zip(*pieces, strict=True))
    return draw.to_uint8(colors), depths, surface.astype(np.float16)


def affordable_side(model: OmniMotion) -> int | None:
    """Longest side of the dense pictures, pixels: on a CPU what `CPU_WORK` allows, else None (no limit)."""
    if model.device.type != "cpu":
        return None
    work_per_px = sum(p.numel() for p in model.parameters()) * model.config.num_samples_ray
    return max(1, round(math.sqrt(CPU_WORK / work_per_px)))


def save_grid(view: View) -> list[Path]:
    """Query frame beside every frame, a video for each frame that has queries."""
    written = []
    for t in np.unique(view.queries[:, 0]).astype(int):
        of_frame = view.queries[:, 0] == t
        (query,) = view.pictures.read([t])
        px = view.to_pictures(view.queries[of_frame, 1:])
        tracks, occluded = view.drawn_tracks[:, of_frame], view.tracks[1][:, of_frame]
        frames = view.pictures.read(view.frame_ids)
        title = f"query: frame {t}"
        pairs = draw_pairs(query, title, px, frames, tracks, occluded, draw.angle_colors(px), view.args.radius)
        written += view.save(f"{view.prefix([t])}_grid", pairs)
    return written


def save_trails(view: View) -> list[Path]:
    """All points with fading trails in the colours of `jet`."""
    return _save_paths(view, "trails", draw.jet_colors, view.args.trail_length)


def save_rainbow(view: View) -> list[Path]:
    """All points with their paths since the first frame, in rainbow colours by place."""
    return _save_paths(view, "rainbow", draw.spread_colors, None)


def _save_paths(view: View, name: str, colors: Callable[[NDArray], NDArray], length: int | None) -> list[Path]:
    (tracks, occluded), size = (view.drawn_tracks, view.tracks[1]), view.pictures.size
    frames, paint = view.pictures.read(view.frame_ids), colors(view.to_pictures(view.queries[:, 1:]))
    drawn = draw_trails(frames, size, tracks, occluded, view.camera, paint, length, view.args.radius)
    return view.save(f"{view.prefix(np.unique(view.queries[:, 0]).astype(int))}_{name}", drawn)


def save_flow(view: View) -> list[Path]:
    """Where every pixel of frame `query_frame_id` goes, in Middlebury colours."""
    query, (height, width) = view.args.query_frame_id, view.working_size
    px, _ = dense_px((height, width))
    grid = px.reshape(height, width, 2).to(view.model.device)
    places = tqdm(view.model.dense_tracks(query, view.frame_ids, view.args.chunk_size), "flow", len(view.frame_ids))
    flow = np.stack([(place - grid).half().cpu().numpy() for place in places])
    if query in view.frame_ids:
        flow[view.frame_ids.index(query)] = 0
    scale = np.array(view.pictures.size[::-1]) / (width, height)
    return view.save(f"{view.prefix([query])}_flow", flow_frames(flow * scale.astype(np.float16), view.pictures.size))


def save_depth(view: View) -> list[Path]:
    """Pseudo-depth of every frame, one colour scale for all: small is near."""
    return view.save("depth", depth_frames(view.rendered.depths, view.pictures.size))


def save_color(view: View) -> list[Path]:
    """Every frame beside the model's rendering of it."""
    return view.save("color", color_frames(view.pictures.read(view.frame_ids), view.rendered.colors))


def save_canonical(view: View) -> list[Path]:
    """Canonical coordinates of every pixel's surface, as colours."""
    return view.save("canonical", canonical_frames(view.rendered.canonical, view.pictures.size))


STYLES: dict[str, Callable[[View], list[Path]]] = {
    "grid": save_grid,
    "trails": save_trails,
    "rainbow": save_rainbow,
    "flow": save_flow,
    "depth": save_depth,
    "color": save_color,
    "canonical": save_canonical,
}
