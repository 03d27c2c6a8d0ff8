"""A trained model with the clip and query points to draw, and the results that several styles share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.clip import Clip
from networks.omnimotion import OmniMotion
from networks.tracks import TrackingOptions
from preprocessing.source_frames import FrameReader, original_frames
from preprocessing.source_record import FrameOrigin, frame_origin
from utils.conventions import scale_points
from utils.coords import with_time
from utils.errors import InputError
from visualization.camera import camera_by_homographies, camera_by_median
from visualization.contact_sheet import save_with_sheet
from visualization.dense import Rendered, affordable_side, render_frames
from visualization.query_points import grid_points
from visualization.tracking import track_points

BACKGROUND_POINTS = 400  # tracked only to estimate the camera's motion
DEFAULT_FPS = 10.0  # if the source has no frame rate


@dataclass(frozen=True)
class ViewOptions:
    """Options of drawing: which frames, how, and into which folder.

    Attributes:
        out_dir: Folder of the pictures or exports.
        query_frame_id: Frame whose pixels the style `flow` tracks, and whose background gives the camera's motion.
        vis_occlusion: Draw occluded points as crosses instead of leaving them out.
        frames: (a, b) for the frames a to b − 1, None for all.
        fps: Frames per second of the videos, None for that of the source.
        radius: Radius of the marks, in pixels of the pictures, None for one that fits their size.
        trail_length: Frames until a trail has faded.
        tracking: How points are tracked, and when they are occluded.
    """

    out_dir: Path
    query_frame_id: int = 0
    vis_occlusion: bool = False
    frames: tuple[int, int] | None = None
    fps: float | None = None
    radius: float | None = None
    trail_length: int = 10
    tracking: TrackingOptions = field(default_factory=TrackingOptions)


def check_frames(frames: tuple[int, int] | None, num_frames: int) -> None:
    """Refuse `--frames` that end after the clip.

    Raises:
        InputError: The last frame is not in the clip.
    """
    if frames and frames[1] > num_frames:
        raise InputError(f"--frames ends at {frames[1]}, expected at most {num_frames}, as many as the clip has")


@dataclass(frozen=True)
class View:
    """A model, its clip and query points to draw; results that several styles share are computed once, on demand.

    Attributes:
        model: The networks of the clip.
        clip: The frames that are tracked, and their foreground.
        queries: Query points [N,3] (t, x, y), in pixels of these frames.
        options: Options of drawing.
        names: The names of the query points; empty if they have none.
    """

    model: OmniMotion
    clip: Clip
    queries: NDArray[np.float32]
    options: ViewOptions
    names: tuple[str, ...] = ()

    @property
    def frame_ids(self) -> range:
        """The F frames that are drawn."""
        return range(*self.options.frames) if self.options.frames else range(len(self.clip.video))

    @cached_property
    def originals(self) -> FrameReader:
        """The frames to draw on: those of the source, which may be larger than the tracked frames."""
        return original_frames(self.clip.paths, self.clip.video)

    @property
    def working_size(self) -> tuple[int, int]:
        """(H, W) of the tracked frames."""
        _, height, width, _ = self.clip.video.shape
        return height, width

    def to_original_px(self, px: NDArray) -> NDArray:
        """Convert pixels of the tracked frames to pixels of `originals`."""
        return scale_points(px, self.working_size, self.originals.size)

    @cached_property
    def tracks(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The query points in pixels of `originals` [F,N,2], and whether they are occluded or outside [F,N]."""
        return self._track(self.queries)

    @property
    def drawn_tracks(self) -> NDArray[np.float32]:
        """The tracks [F,N,2], NaN where occluded unless occluded points are drawn."""
        px, occluded = self.tracks
        return px if self.options.vis_occlusion else np.where(occluded[..., None], np.nan, px)

    @cached_property
    def camera(self) -> NDArray[np.float64]:
        """Homographies [F,3,3] of `originals` into the first one, from points of the query frame's background."""
        foreground = self.clip.foreground
        background = None if foreground is None or foreground.all() else ~foreground
        grid = torch.from_numpy(grid_points(*self.working_size, BACKGROUND_POINTS, background))
        px, occluded = self._track(with_time(self.options.query_frame_id, grid).numpy())
        return camera_by_homographies(px, occluded) if background is None else camera_by_median(px)

    def _track(self, queries: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the positions and the occlusion of queries [N,3] in the drawn frames, as `tracks`."""
        tracks = track_points(self.model, queries, self.frame_ids, self.options.tracking)
        occluded = tracks.occluded(self.options.tracking.occlusion_th, *self.working_size)
        return self.to_original_px(tracks.px.cpu().numpy()), occluded.cpu().numpy()

    @cached_property
    def rendered(self) -> Rendered:
        """Colour, depth and canonical coordinates of every frame, on a CPU at fewer points than pixels."""
        side = affordable_side(self.model)
        if side is not None and side < max(self.working_size):
            print(f"on this CPU, colour, depth and canonical coordinates are at most {side} pixels wide or high")
        return render_frames(self.model, self.frame_ids, side, self.options.tracking.chunk_size)

    @cached_property
    def origin(self) -> FrameOrigin:
        """Numbers, times and rate of the clip's frames in their source."""
        return frame_origin(self.clip.paths, self.clip.names)

    @property
    def known_fps(self) -> float | None:
        """Frames per second as in the options, else the mean of the source, else None."""
        return self.options.fps or self.origin.fps

    @property
    def fps(self) -> float:
        """Frames per second of the videos that are drawn."""
        return self.known_fps or DEFAULT_FPS

    def describe_rate(self) -> str:
        """Return a sentence about the rate at which videos play."""
        fps, times = f"videos play at {self.fps:.4g} frames per second", self.origin.times
        if self.options.fps or not self.origin.fps:
            return f"{fps} ({'--fps' if self.options.fps else 'the source has no rate: --fps gives one'})"
        if times is None or not self.origin.is_uneven:
            return f"{fps}, as the source does"
        gaps = np.diff(times)
        return f"{fps}, the mean of the source, whose frames are {gaps.min():.3g} to {gaps.max():.3g} s apart"

    def save(self, name: str, frames: Iterable[NDArray[np.uint8]]) -> list[Path]:
        """Write the frames of a video and its contact sheet, and return their paths."""
        return save_with_sheet(self.options.out_dir, name, frames, self.frame_ids, self.fps)

    def file_prefix(self, query_frames: Sequence[int]) -> str:
        """Return the prefix of file names for queries in these frames: the frame's name, or `points` for several."""
        return Path(self.clip.names[query_frames[0]]).stem if len(query_frames) == 1 else "points"
