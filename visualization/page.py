"""The interactive page: one file that plays the clip and shows the track of whatever pixel is pointed at.

Tracks are computed beforehand, for a grid of points of some query frames. How fine the grid is, and of how many frames,
depends on what the page may weigh and, on a CPU, on what the computation costs.
"""

import itertools
import math
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from tqdm import tqdm, trange

from loaders.clip import Clip
from networks.checkpoints import read_checkpoint
from networks.omnimotion import OmniMotion
from networks.run_checkpoints import find_trained_checkpoint
from utils.config import run_name
from utils.run_log import read_curves
from visualization.dense import dense_px
from visualization.draw import depth_to_color
from visualization.flow_colors import flow_to_color
from visualization.page_file import STEPS, PageFile, open_page, pack_tracks, quantised, text_size, webp

PAGE_BYTES = 24_000_000  # of the whole page: what still opens at once and can be sent by mail
FRAME_BYTES = PAGE_BYTES // 2  # of the frames at most
MOST_QUERY_FRAMES = 6
COARSE_SPACING = 4  # pixels; a grid coarser than that only if there is a single query frame
# Base64 in the page for one point in one frame, guessed beforehand: 0.64 for the demo, 0.96 for DAVIS's dog.
BYTES_PER_PLACE = 1.0
# Multiplications that a CPU is given: for the tracks some five minutes of one core, for the depths one.
TRACK_WORK, DEPTH_WORK = 1e13, 1e12
DEPTH_SIDE = 160  # pixels: longest side of the depth pictures
DEPTH_QUALITY = 80
WHEEL_COLORS = 512
META_BYTES = 500_000  # kept free for settings and curves
POINTS_AT_A_TIME = 1000  # few enough for the bar to move, and for memory


@dataclass(frozen=True)
class Grid:
    """Points on every `spacing`-th pixel of a frame, from (left, top) on."""

    frame: int
    spacing: int
    left: int
    top: int
    columns: int
    rows: int

    @classmethod
    def over(cls, frame: int, spacing: int, height: int, width: int) -> "Grid":
        """The grid of that spacing that lies in the middle of the image."""
        (left, columns), (top, rows) = (((size - 1) % spacing // 2, -(-size // spacing)) for size in (width, height))
        return cls(frame, spacing, left, top, columns, rows)

    def queries(self) -> torch.Tensor:
        """The points [N,3] (t, x, y), row by row."""
        xs = self.left + self.spacing * torch.arange(self.columns)
        ys = self.top + self.spacing * torch.arange(self.rows)
        x, y = (axis.flatten() for axis in torch.meshgrid(xs, ys, indexing="xy"))
        return torch.stack([torch.full_like(x, self.frame), x, y], -1).float()

    def thinned(self) -> "Grid":
        """Every second column and row of it."""
        return Grid(self.frame, 2 * self.spacing, self.left, self.top, -(-self.columns // 2), -(-self.rows // 2))


def save_page(model: OmniMotion, clip: Clip, out_dir: Path, args: Namespace, fps: float) -> list[Path]:
    """Write `index.html`, which plays `fps` frames a second; its path.

    The page starts with `args.query_frame_id`; its tracks are those of `model.track`, rounded to 1/8 pixel.
    """
    path = Path(out_dir) / "index.html"
    curves = read_curves(Path("logs") / run_name(args) / "metrics.jsonl")
    with open_page(path) as page:
        frame_fact = _write_frames(page, clip.video)
        depth, depth_fact = _write_depths(page, model, len(clip.video), args)
        grids = _write_tracks(page, model, clip.video.shape[:3], args)
        first = next(k for k, grid in enumerate(grids) if grid["frame"] == args.query_frame_id)
        page.json(
            "meta",
            {
                **{"name": run_name(args), "subtitle": _subtitle(clip), "size": clip.video.shape[2:0:-1]},
                **{"frames": len(clip.video), "fps": fps, "steps": STEPS, "queries": grids, "first_query": first},
                **{"depth": depth, "wheel": _wheel(), "curves": curves, "settings": _settings(args)},
                "facts": [*_track_facts(grids, args), frame_fact, depth_fact],
            },
        )
    return [path]


def _write_frames(page: PageFile, video: NDArray[np.uint8]) -> tuple[str, str]:
    """Append the frames as WebP, in the best quality for which they fit; what the page says about them."""
    sample = video[:: max(1, len(video) // 8)]

    def fits(choice: tuple[int, int]) -> bool:
        sizes = [text_size(len(webp(_reduced(frame, choice[0]), choice[1]))) for frame in sample]
        return float(np.mean(sizes)) * len(video) < FRAME_BYTES

    *choices, smallest = itertools.product((1, 2, 4, 8), (80, 60, 40))
    shrink, quality = next(filter(fits, choices), smallest)
    for t, frame in enumerate(video):
        page.block(f"frame-{t}", webp(_reduced(frame, shrink), quality))
    reduced = "" if shrink == 1 else f", reduced to 1/{shrink} (positions are those of the full size)"
    return "Frames", f"WebP of quality {quality}{reduced}"


def _reduced(frame: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
    height, width = (max(1, round(side / shrink)) for side in frame.shape[:2])
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) if shrink > 1 else frame


def _write_depths(page: PageFile, model: OmniMotion, num_frames: int, args: Namespace) -> tuple[dict, tuple[str, str]]:
    """Append the depth of every frame as a small coloured picture; their common scale, what the page says of them."""
    side = DEPTH_SIDE
    height, width = model.config.height, model.config.width
    if model.device.type == "cpu":
        affordable = DEPTH_WORK / (_work_per_ray(model) * num_frames)
        side = min(side, max(1, round(math.sqrt(affordable * max(height, width) / min(height, width)))))
    px, shape = dense_px((height, width), side)
    points = min(args.chunk_size, POINTS_AT_A_TIME)
    bar = trange(num_frames, desc="page: depth", leave=False)
    depths = [model.render(t, px, points)[1].reshape(shape).cpu().numpy() for t in bar]
    low, high = np.percentile(depths, (1, 99)).tolist()  # a few stray depths must not set the scale
    for t, depth in enumerate(depths):
        page.block(f"depth-{t}", webp(depth_to_color(depth, low, high), DEPTH_QUALITY))
    scale = depth_to_color(np.linspace(low, high, 64)[None], low, high)[0]
    known = {"low": round(low, 3), "high": round(high, 3), "colors": [to_hex(color / 255) for color in scale]}
    return known, ("Depth", f"asked at {shape[1]}×{shape[0]} points of each frame")


def _write_tracks(page: PageFile, model: OmniMotion, shape: tuple[int, int, int], args: Namespace) -> list[dict]:
    """Append the tracks from as many query frames as fit; their grids, in the order of the frames."""
    num_frames, height, width = shape
    room = PAGE_BYTES - META_BYTES - page.size
    spacing, count = plan(model, shape, room)
    limit = "time on this CPU" if _affordable_places(model) < room / BYTES_PER_PLACE else "the size of the page"
    because = (
        f": more than {limit} allows is left out" if spacing > 1 or count < min(MOST_QUERY_FRAMES, num_frames) else ""
    )
    print(f"page: tracking {_density(spacing)} of {count} frames{because}")
    frames = spread_frames(args.query_frame_id, num_frames, count)
    points = Grid.over(0, spacing, height, width)
    written: list[dict] = []
    largest = 0
    with tqdm(total=count * points.columns * points.rows, desc="page: tracks", unit="px", leave=False) as bar:
        for frame in frames:
            if largest > room:
                break
            grid = Grid.over(frame, spacing, height, width)
            places, unseen = _follow(model, grid, args, bar)
            packed = pack_tracks(places, unseen)
            while not written and text_size(len(packed)) > room and min(grid.columns, grid.rows) > 1:
                grid, spacing = grid.thinned(), 2 * spacing
                places, unseen = places[..., ::2, ::2], unseen[..., ::2, ::2]
                packed = pack_tracks(places, unseen)
            if written and text_size(len(packed)) > room:
                break
            page.block(f"tracks-{frame}", packed)
            largest = max(largest, text_size(len(packed)))
            room -= text_size(len(packed))
            written.append({**asdict(grid), "flow_scale": _flow_scale(grid, places, unseen)})
    return sorted(written, key=lambda grid: grid["frame"])


def plan(model: OmniMotion, shape: tuple[int, int, int], room: float) -> tuple[int, int]:
    """Spacing of the grids in pixels, and number of query frames, for a page with `room` bytes for tracks.

    As many query frames as are possible with a grid of at most `COARSE_SPACING`, each as fine as can be.
    """
    places = max(1.0, min(room / BYTES_PER_PLACE, _affordable_places(model)))
    for count in range(min(MOST_QUERY_FRAMES, shape[0]), 0, -1):
        spacing = max(1, math.ceil(math.sqrt(math.prod(shape) * count / places)))
        if spacing <= COARSE_SPACING:
            break
    return spacing, count


def spread_frames(first: int, num_frames: int, count: int) -> list[int]:
    """`count` frames of which any beginning lies spread over the clip: each is the one farthest from those before."""
    chosen = [first]
    while len(chosen) < count:
        chosen.append(max(range(num_frames), key=lambda frame: min(abs(frame - other) for other in chosen)))
    return chosen


def _affordable_places(model: OmniMotion) -> float:
    """For how many points in a frame, times frames, there is time."""
    # The ray is marched once; in every frame a point is mapped, and what lies before it is marched: half a ray.
    return TRACK_WORK / (_work_per_ray(model) / 2) if model.device.type == "cpu" else math.inf


def _density(spacing: int) -> str:
    return "every pixel" if spacing == 1 else f"one pixel in {spacing} (across and down)"


def _work_per_ray(model: OmniMotion) -> float:
    return sum(p.numel() for p in model.parameters()) * model.config.num_samples_ray


def _follow(model: OmniMotion, grid: Grid, args: Namespace, bar: tqdm) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """The grid in all frames: places [T,2,rows,columns], 1/STEPS pixel; unseen (hidden, outside) [T,rows,columns]."""
    height, width, queries = model.config.height, model.config.width, grid.queries()
    places = np.empty((model.config.num_frames, 2, len(queries)), np.int16)
    unseen = np.empty((model.config.num_frames, len(queries)), bool)
    for ids in torch.arange(len(queries)).split(min(args.chunk_size, POINTS_AT_A_TIME)):
        tracks = model.track(queries[ids], None, args.use_max_loc, args.chunk_size)
        places[..., ids] = quantised(tracks.px.cpu().numpy()).transpose(0, 2, 1)
        unseen[:, ids] = tracks.occluded(args.occlusion_th, height, width).cpu().numpy()
        bar.update(len(ids))
    return places.reshape(*places.shape[:2], grid.rows, grid.columns), unseen.reshape(-1, grid.rows, grid.columns)


def _flow_scale(grid: Grid, places: NDArray[np.int16], unseen: NDArray[np.bool_]) -> float:
    """Length of the motion that the flow overlay shows in full colour, pixels: all but the longest hundredth."""
    motion = places.astype(np.float32) - places[grid.frame]
    lengths = np.hypot(motion[:, 0], motion[:, 1])[~unseen] / STEPS
    return max(0.1, round(float(np.percentile(lengths, 99)), 1))


def _wheel() -> list[list[int]]:
    """The colours of full-length motions in all directions, from dx > 0 on over dy > 0."""
    turn = np.linspace(0, 2 * np.pi, WHEEL_COLORS, endpoint=False)
    return flow_to_color(np.stack([np.cos(turn), np.sin(turn)], -1)[None], 1.0)[0].tolist()


def _subtitle(clip: Clip) -> str:
    num_frames, height, width = clip.video.shape[:3]
    return f"{num_frames} frames of {width}×{height} pixels, tracked by OmniMotion"


def _settings(args: Namespace) -> list[tuple[str, str]]:
    """Steps and flags of the training, as the checkpoint tells them."""
    checkpoint = read_checkpoint(find_trained_checkpoint(args))
    known = {"step": checkpoint.get("step", "not told by the checkpoint"), **checkpoint.get("flags", {})}
    return [(name, str(value)) for name, value in known.items()]


def _track_facts(grids: list[dict], args: Namespace) -> list[tuple[str, str]]:
    """What a reader must know of the tracks; also printed."""
    grid, frames = grids[0], ", ".join(str(grid["frame"]) for grid in grids)
    density, points = _density(grid["spacing"]), f"{grid['columns']}×{grid['rows']}"
    print(f"page: has {density} of {len(grids)} query frames ({frames})")
    return [
        ("Tracks", f"of {density}: {points} of each query frame; nothing is interpolated, the nearest of them answers"),
        ("Query frames", f"{len(grids)}: {frames}"),
        ("Positions", f"(x, y) in pixels, whole numbers are pixel centres; rounded to 1/{STEPS} pixel"),
        ("Hidden", f"where the model's occlusion score exceeds {args.occlusion_th}"),
    ]
