"""Point tracks of any tracker, read from an npz file.

The names of a file's arrays identify its layout. All layouts are converted to pixels (x, y) at the working resolution,
integer = pixel centre.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from utils.conventions import px_from_corner
from utils.coords import is_inside_image
from utils.errors import InputError

# Trackers mark some points outside the image as visible. A larger share of them shows that the tracks were made at a
# larger resolution: at 1.25 times the size, a third of uniformly distributed points lies outside.
MAX_SHARE_OUTSIDE = 0.25


@dataclass(frozen=True)
class InputTracks:
    """Tracks of N points through T frames."""

    px: np.ndarray  # float32 [T,N,2] pixels; arbitrary where not visible
    visible: np.ndarray  # bool [T,N]
    layout: str  # of the file, in words


@dataclass(frozen=True)
class Layout:
    """Layout of a file of tracks: the names and the meaning of its two arrays."""

    title: str
    tracks: str  # name of the array of positions
    flags: str  # name of the array of visibility
    points_first: bool = False  # [N,T,2] and [N,T] instead of [T,N,2] and [T,N]
    corner: bool = False  # the first pixel's centre is at 0.5
    flags_occluded: bool = False  # a flag means occluded instead of visible

    def __str__(self) -> str:
        shape = "[N,T,2]" if self.points_first else "[T,N,2]"
        return f"{self.title} layout (`{self.tracks}` {shape}, `{self.flags}`)"


LAYOUTS = (
    Layout("plain", "tracks", "visibility"),
    Layout("CoTracker's", "pred_tracks", "pred_visibility"),
    Layout("TAPIR's", "tracks", "visibles", points_first=True, corner=True),
    Layout("TAPIR's", "tracks", "occluded", points_first=True, corner=True, flags_occluded=True),
    Layout("gt_tracks.npz's", "points", "occluded", points_first=True, flags_occluded=True),
)


def read_tracks(path: Path, num_frames: int, height: int, width: int, to_score: bool = False) -> InputTracks:
    """Read the tracks of a file; a point outside the image counts as not visible.

    Args:
        path: A .npz file in one of `LAYOUTS`.
        num_frames: Frames of the clip, T.
        height: Height of its frames in pixels.
        width: Width of its frames in pixels.
        to_score: Read tracks to score: all positions must be finite, and all points may be occluded.

    Raises:
        InputError: An unreadable file, an unknown layout, wrong shapes, another number of frames, visible positions
            that are not finite or not pixels of the working resolution; for training, no point visible in two frames.
    """
    layout, px, flags = _read_arrays(path)
    px, flags = _as_frames_first(path, layout, px, flags, num_frames)
    if not ((flags >= 0) & (flags <= 1)).all():
        raise InputError(f"{path}: `{layout.flags}` has values outside of 0..1; save true/false or probabilities")
    px = px.astype(np.float32)
    if layout.corner:
        px = px_from_corner(px)
    visible = (flags > 0.5) ^ layout.flags_occluded
    visible = visible & _inside(path, px, visible, height, width)
    if to_score and not np.isfinite(px).all():
        frame, point = np.argwhere(~np.isfinite(px).all(-1))[0]
        raise InputError(
            f"{path}: point {point} is not finite in frame {frame}; scoring needs positions of occluded points, too"
        )
    if not to_score and not (visible.sum(0) >= 2).any():
        raise InputError(f"{path}: no point is visible in two frames, so there is nothing to learn; give other tracks")
    return InputTracks(px, visible, str(layout))


def _read_arrays(path: Path) -> tuple[Layout, np.ndarray, np.ndarray]:
    """Read the arrays of the first layout that fits: the layout, its positions and its flags, of any shapes."""
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
    return layout, values[0], values[1]


def _as_frames_first(
    path: Path, layout: Layout, px: np.ndarray, flags: np.ndarray, num_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions [T,N,2] and flags [T,N], or refuse shapes that do not fit them."""
    shapes = f"{path}, read in {layout}, has shapes {px.shape} and {flags.shape}"
    if flags.ndim == px.ndim and flags.shape[-1:] == (1,):
        flags = flags[..., 0]
    if px.ndim == 4 and px.shape[:1] == flags.shape[:1] == (1,):  # a batch of one video
        px, flags = px[0], flags[0]
    if px.ndim != 3 or px.shape[-1] != 2 or flags.shape != px.shape[:2]:
        raise InputError(f"{shapes}: expected one flag for each position (x, y) of one video")
    if layout.points_first:
        px, flags = px.swapaxes(0, 1), flags.swapaxes(0, 1)
    if len(px) != num_frames:
        raise InputError(f"{shapes}, {len(px)} frames, but the clip has {num_frames}: give tracks through these frames")
    return px, flags


def _inside(path: Path, px: np.ndarray, visible: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return which positions [T,N,2] lie inside the image, bool [T,N]; refuse visible ones that are not its pixels."""
    seen = px[visible]
    if not np.isfinite(seen).all():
        frame, point = np.argwhere(visible & ~np.isfinite(px).all(-1))[0]
        raise InputError(
            f"{path}: point {point} is visible in frame {frame} but not finite there: give pixels, or mark it occluded"
        )
    inside = is_inside_image(torch.from_numpy(px), height, width).numpy()
    if seen.size and (seen.max() <= 1 or (~inside[visible]).mean() > MAX_SHARE_OUTSIDE):
        (x0, y0), (x1, y1) = seen.min(0), seen.max(0)
        raise InputError(
            f"{path}: visible positions are x {x0:.1f} to {x1:.1f}, y {y0:.1f} to {y1:.1f}, but the frames are "
            f"{width}x{height}: scale the tracks to pixels of the working resolution (--max_side)"
        )
    return inside
