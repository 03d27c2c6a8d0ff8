"""Tracks of the interactive page: a grid of points in some query frames, precomputed for all frames.

The spacing of the grid and the number of query frames depend on the space in the page and, on a CPU, on time.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from networks.occupancy import Occupancy, grid_size
from networks.omnimotion import OmniMotion
from networks.tracks import TrackingOptions
from visualization.dense import work_per_ray
from visualization.page_file import STEPS_PER_PIXEL, PageFile, block_size, pack_tracks, quantize_positions

MAX_QUERY_FRAMES = 6
COARSE_SPACING = 4  # pixels; the grid is coarser only if there is a single query frame
# Base64 in the page for one point in one frame, estimated beforehand: 0.64 for the demo, 0.96 for DAVIS's dog.
BYTES_PER_POSITION = 1.0
CPU_TRACK_WORK = 1e13  # multiplications allowed on a CPU: some five minutes of one core
POINTS_PER_RAY = 4  # from which on marching the rays of an occupancy costs less than it saves
POINTS_AT_A_TIME = 1000  # limits memory, and keeps the progress bar moving


@dataclass(frozen=True)
class Grid:
    """Points on every `spacing`-th pixel of a frame, starting at (left, top)."""

    frame: int
    spacing: int
    left: int
    top: int
    columns: int
    rows: int

    @classmethod
    def centered(cls, frame: int, spacing: int, height: int, width: int) -> "Grid":
        """Return the grid of that spacing that lies in the middle of the image."""
        (left, columns), (top, rows) = (((size - 1) % spacing // 2, -(-size // spacing)) for size in (width, height))
        return cls(frame, spacing, left, top, columns, rows)

    def queries(self) -> torch.Tensor:
        """Return the points [N,3] (t, x, y), row by row."""
        xs = self.left + self.spacing * torch.arange(self.columns)
        ys = self.top + self.spacing * torch.arange(self.rows)
        x, y = (axis.flatten() for axis in torch.meshgrid(xs, ys, indexing="xy"))
        return torch.stack([torch.full_like(x, self.frame), x, y], -1).float()

    def thinned(self) -> "Grid":
        """Return every second column and row of the grid."""
        return Grid(self.frame, 2 * self.spacing, self.left, self.top, -(-self.columns // 2), -(-self.rows // 2))


def write_tracks(
    page: PageFile, model: OmniMotion, first_frame: int, tracking: TrackingOptions, room: float, work: float
) -> list[dict]:
    """Append the tracks from as many query frames as fit.

    Args:
        page: The page, to which a block is appended for each query frame.
        model: Model that predicts the tracks.
        first_frame: The query frame that is always included.
        tracking: How points are tracked, and when they are occluded.
        room: Bytes of the page that the tracks may take.
        work: Multiplications allowed for them on a CPU.

    Returns:
        The grids as plain data, in the order of the frames, each with its `flow_scale`.
    """
    spacing, count = plan_grids(model, room, work)
    _print_plan(model, spacing, count, room, work)
    height, width = model.config.height, model.config.width
    points = Grid.centered(0, spacing, height, width)
    written: list[dict] = []
    largest = 0
    num_points = count * points.columns * points.rows
    is_worth = num_points >= POINTS_PER_RAY * math.prod(grid_size(height, width))
    occupancy = Occupancy.of_model(model, model.rays_at_once(tracking.chunk_size)) if is_worth else None
    with tqdm(total=num_points, desc="page: tracks", unit="px", leave=False) as bar:
        for frame in spread_frames(first_frame, model.config.num_frames, count):
            if largest > room:
                break
            grid = Grid.centered(frame, spacing, height, width)
            positions, unseen = _track_grid(model, grid, tracking, occupancy, bar)
            packed = pack_tracks(positions, unseen)
            while not written and block_size(len(packed)) > room and min(grid.columns, grid.rows) > 1:
                grid, spacing = grid.thinned(), 2 * spacing
                positions, unseen = positions[..., ::2, ::2], unseen[..., ::2, ::2]
                packed = pack_tracks(positions, unseen)
            size = block_size(len(packed))
            if written and size > room:
                break
            page.write_block(f"tracks-{frame}", packed)
            largest, room = max(largest, size), room - size
            written.append({**asdict(grid), "flow_scale": _flow_scale(grid, positions, unseen)})
    grids = sorted(written, key=lambda grid: grid["frame"])
    print(f"page: has {_describe_spacing(spacing)} of {len(grids)} query frames ({_frame_list(grids)})")
    return grids


def plan_grids(model: OmniMotion, room: float, work: float) -> tuple[int, int]:
    """Choose the spacing of the grids in pixels, and the number of query frames.

    Prefers as many query frames as fit with a spacing of at most `COARSE_SPACING`, then the finest spacing for them.

    Args:
        model: Determines the clip's size and, on a CPU, the time per track.
        room: Bytes of the page that the tracks may take.
        work: Multiplications allowed for them on a CPU.

    Returns:
        The spacing and the number of query frames.
    """
    config = model.config
    budget = max(1.0, min(room / BYTES_PER_POSITION, _affordable_positions(model, work)))
    for count in range(min(MAX_QUERY_FRAMES, config.num_frames), 0, -1):
        positions = config.num_frames * config.height * config.width * count
        spacing = max(1, math.ceil(math.sqrt(positions / budget)))
        if spacing <= COARSE_SPACING:
            break
    return spacing, count


def _affordable_positions(model: OmniMotion, work: float) -> float:
    """Return the number of positions (points times frames) that `work` multiplications allow, on a CPU."""
    # The source ray is rendered once; in every frame a point is mapped, and the half ray in front of it is rendered.
    return work / (work_per_ray(model) / 2) if model.device.type == "cpu" else math.inf


def _print_plan(model: OmniMotion, spacing: int, count: int, room: float, work: float) -> None:
    limit = (
        "time on this CPU" if _affordable_positions(model, work) < room / BYTES_PER_POSITION else "the size of the page"
    )
    is_reduced = spacing > 1 or count < min(MAX_QUERY_FRAMES, model.config.num_frames)
    reason = f": more than {limit} allows is left out" if is_reduced else ""
    print(f"page: tracking {_describe_spacing(spacing)} of {count} frames{reason}")


def _describe_spacing(spacing: int) -> str:
    return "every pixel" if spacing == 1 else f"one pixel in {spacing} (across and down)"


def spread_frames(first: int, num_frames: int, count: int) -> list[int]:
    """Return `count` frames spread over the clip from `first` on: each is the one farthest from those before it."""
    chosen = [first]
    while len(chosen) < count:
        chosen.append(max(range(num_frames), key=lambda frame: min(abs(frame - other) for other in chosen)))
    return chosen


def _track_grid(
    model: OmniMotion, grid: Grid, tracking: TrackingOptions, occupancy: Occupancy | None, bar: tqdm
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return positions [T,2,rows,columns] in 1/STEPS_PER_PIXEL px; unseen (occluded or outside) [T,rows,columns]."""
    height, width, queries = model.config.height, model.config.width, grid.queries()
    positions = np.empty((model.config.num_frames, 2, len(queries)), np.int16)
    unseen = np.empty((model.config.num_frames, len(queries)), bool)
    size = min(tracking.chunk_size, POINTS_AT_A_TIME)
    for ids in (slice(first, first + size) for first in range(0, len(queries), size)):
        tracks = model.track(queries[ids], None, tracking.use_max_loc, tracking.chunk_size, occupancy)
        positions[..., ids] = quantize_positions(tracks.px.cpu().numpy()).transpose(0, 2, 1)
        unseen[:, ids] = tracks.occluded(tracking.occlusion_th, height, width).cpu().numpy()
        bar.update(tracks.px.shape[1])
    shape = grid.rows, grid.columns
    return positions.reshape(*positions.shape[:2], *shape), unseen.reshape(-1, *shape)


def _flow_scale(grid: Grid, positions: NDArray[np.int16], unseen: NDArray[np.bool_]) -> float:
    """Return the motion, in pixels, that the flow overlay draws in full colour: the 99th percentile."""
    motion = positions.astype(np.float32) - positions[grid.frame]
    lengths = np.hypot(motion[:, 0], motion[:, 1])[~unseen] / STEPS_PER_PIXEL
    return max(0.1, round(float(np.percentile(lengths, 99)), 1))


def track_facts(grids: Sequence[dict], occlusion_th: float) -> list[tuple[str, str]]:
    """Return the facts about the tracks that the page lists, as (term, text)."""
    grid = grids[0]
    density, points = _describe_spacing(grid["spacing"]), f"{grid['columns']}×{grid['rows']}"
    return [
        ("Tracks", f"of {density}: {points} of each query frame; nothing is interpolated, the nearest one is shown"),
        ("Query frames", f"{len(grids)}: {_frame_list(grids)}"),
        ("Positions", f"(x, y) in pixels, whole numbers are pixel centres; rounded to 1/{STEPS_PER_PIXEL} pixel"),
        ("Occluded", f"where the model's occlusion score exceeds {occlusion_th}"),
    ]


def _frame_list(grids: Sequence[dict]) -> str:
    return ", ".join(str(grid["frame"]) for grid in grids)
