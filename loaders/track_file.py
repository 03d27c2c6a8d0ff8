"""Point tracks of any tracker, read from an npz file.

Layouts are told by the names of their arrays. In a `corner` layout the centre of the first pixel is at 0.5 (raster
coordinates). All are converted to ours: pixels (x, y) at the working resolution, integer = pixel centre.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from utils.conventions import px_from_corner
from utils.coords import is_inside_image
from utils.errors import InputError

# Trackers leave some points that are past the border marked as visible; a larger share of the visible ones means that
# the tracks were made at a larger resolution (at 1.25 times the size a third of evenly spread points lies outside).
MOST_OUTSIDE = 0.25


@dataclass(frozen=True)
class InputTracks:
    """Tracks to train on: `px` float32 [T,N,2] pixels, of any value where not `visible` [T,N]; `layout` in words."""

    px: np.ndarray
    visible: np.ndarray
    layout: str


@dataclass(frozen=True)
class Layout:
    """Names and meaning of the two arrays of a file."""

    title: str
    tracks: str
    flags: str
    points_first: bool = False  # [N,T,2] and [N,T], not [T,N,2] and [T,N]
    corner: bool = False
    flags_hide: bool = False  # the flags say where points are hidden, not where they are visible

    def __str__(self) -> str:
        shape = "[N,T,2]" if self.points_first else "[T,N,2]"
        return f"{self.title} layout (`{self.tracks}` {shape}, `{self.flags}`)"


LAYOUTS = (
    Layout("plain", "tracks", "visibility"),
    Layout("CoTracker's", "pred_tracks", "pred_visibility"),
    Layout("TAPIR's", "tracks", "visibles", points_first=True, corner=True),
    Layout("TAPIR's", "tracks", "occluded", points_first=True, corner=True, flags_hide=True),
    Layout("gt_tracks.npz's", "points", "occluded", points_first=True, flags_hide=True),
)


def read_tracks(path: Path, num_frames: int, height: int, width: int, to_score: bool = False) -> InputTracks:
    """Tracks of the file for a clip of this length and size. Where a point is outside of the image it is not visible.

    Raises:
        InputError: unreadable file, unknown layout, wrong shapes, another number of frames, visible positions (those
            `to_score`: any) that are not finite, or not pixels of the working resolution; to train on, nothing visible
            in two frames.
    """
    layout, px, flags = _read_arrays(path)
    shapes = f"{path}, read in {layout}, has shapes {px.shape} and {flags.shape}"
    if flags.ndim == px.ndim and flags.shape[-1:] == (1,):
        flags = flags[..., 0]
    if px.ndim == 4 and px.shape[:1] == flags.shape[:1] == (1,):  # a batch of one video
        px, flags = px[0], flags[0]
    if px.ndim != 3 or px.shape[-1] != 2 or flags.shape != px.shape[:2]:
        raise InputError(f"{shapes}: expected one flag for each position (x, y) of one video; save them so")
    if layout.points_first:
        px, flags = px.swapaxes(0, 1), flags.swapaxes(0, 1)
    if len(px) != num_frames:
        raise InputError(f"{shapes}, {len(px)} frames, but the clip has {num_frames}: track the frames that are used")
    if not ((flags >= 0) & (flags <= 1)).all():
        raise InputError(f"{path}: `{layout.flags}` has values outside of 0..1; save true/false or probabilities")
    px = px.astype(np.float32)
    if layout.corner:
        px = px_from_corner(px)
    visible = (flags > 0.5) ^ layout.flags_hide
    visible = visible & _inside(path, px, visible, height, width)
    if to_score and not np.isfinite(px).all():
        frame, point = np.argwhere(~np.isfinite(px).all(-1))[0]
        raise InputError(
            f"{path}: point {point} is not finite in frame {frame}; scores ask for a position where it is hidden, too"
        )
    if not to_score and not (visible.sum(0) >= 2).any():
        raise InputError(f"{path}: no point is visible in two frames, there is nothing to learn; give other tracks")
    return InputTracks(px, visible, str(layout))


def _read_arrays(path: Path) -> tuple[Layout, np.ndarray, np.ndarray]:
    """The first layout whose arrays are there, its tracks and its flags, of any shapes."""
    if not zipfile.is_zipfile(path):
        raise InputError(f"--tracks {path} is {'no npz file' if path.exists() else 'missing'}: give one (np.savez)")
    try:
        with np.load(path, allow_pickle=False) as file:
            names = file.files
            layout = next((each for each in LAYOUTS if each.tracks in names and each.flags in names), None)
            values = [np.asarray(file[name]) for name in (layout.tracks, layout.flags)] if layout else []
    except Exception as error:  # a damaged file raises nearly anything
        raise InputError(f"--tracks {path} cannot be read ({error}): save plain arrays with np.savez") from None
    if layout is None:
        expected = "; ".join(map(str, LAYOUTS))
        raise InputError(f"{path} holds the arrays {sorted(names)}, expected one of: {expected}; rename them")
    if any(array.dtype.kind not in "biuf" for array in values):
        raise InputError(f"{path}: {layout} holds {values[0].dtype} and {values[1].dtype}, expected numbers")
    return layout, *values


def _inside(path: Path, px: np.ndarray, visible: np.ndarray, height: int, width: int) -> np.ndarray:
    """Which positions [T,N,2] lie inside the image, [T,N]; refuses visible ones that cannot be its pixels."""
    seen = px[visible]
    if not np.isfinite(seen).all():
        frame, point = np.argwhere(visible & ~np.isfinite(px).all(-1))[0]
        raise InputError(
            f"{path}: point {point} is visible in frame {frame} but not finite there: give pixels, or mark it as hidden"
        )
    inside = is_inside_image(torch.from_numpy(px), height, width).numpy()
    if seen.size and (seen.max() <= 1 or (~inside[visible]).mean() > MOST_OUTSIDE):
        (x0, y0), (x1, y1) = seen.min(0), seen.max(0)
        raise InputError(
            f"{path}: visible positions are x {x0:.1f} to {x1:.1f}, y {y0:.1f} to {y1:.1f}, but the frames are "
            f"{width}x{height}: scale the tracks to pixels of the working resolution (--max_side)"
        )
    return inside
