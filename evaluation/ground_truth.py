"""What is known about a clip, in pixels (x, y) of the frames in hand, integer = pixel centre.

Exact tracks (`gt_tracks.npz`), TAP-Vid's annotated points, BADJA's keypoints. `utils.conventions` converts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from preprocessing.sequence_paths import SequencePaths
from preprocessing.tapvid_pickle import read_tapvid
from utils.conventions import BADJA_SIZE, RASTER, Size, nan_where_occluded, px_from_badja, px_from_unit, scale_points
from utils.data_files import read_arrays, read_json
from utils.errors import InputError
from utils.images import image_files, read_frame, read_mask

TAPVID_SIZE = (RASTER, RASTER)  # of stored tracks that are compared with a TAP-Vid pickle
MOST_STRETCH = 0.01  # difference of proportions that rounding a resized frame's sides explains


@dataclass(frozen=True)
class TrackTruth:
    """N points in all T frames; `exact`: whether positions are known where they are hidden, too."""

    points: np.ndarray  # [N,T,2]; NaN where hidden and not known
    occluded: np.ndarray  # bool [N,T]
    size: Size  # height, width of the frames
    exact: bool


@dataclass(frozen=True)
class KeypointTruth:
    """K keypoints in the F annotated frames of a clip."""

    points: np.ndarray  # [K,F,2]; anything where not visible
    visible: np.ndarray  # bool [K,F]
    frames: np.ndarray  # int [F], frame numbers in the clip, ascending
    areas: np.ndarray  # [F], pixels of the foreground
    num_frames: int  # of the clip
    size: Size  # height, width of the frames


Truth = TrackTruth | KeypointTruth


def frame_size(paths: SequencePaths) -> Size | None:
    """(height, width) of a sequence's first frame, None where it has no frames."""
    frames = image_files(paths.color)
    return read_frame(frames[0]).shape[:2] if frames else None


def exact_tracks(path: Path, size: Size, num_frames: int | None = None) -> TrackTruth:
    """`points` [N,T,2] and `occluded` [N,T] of an npz file, cut to the first frames and scaled to frames of `size`.

    Its pixels are those of `color/` beside it, or else of the frames in hand.

    Raises:
        InputError: missing, unreadable, of other arrays, or of fewer frames.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: scores need exact tracks (points [N,T,2], occluded [N,T])")
    try:
        points, occluded = read_arrays(path, "points", "occluded")
        occluded = occluded.astype(bool)
        if points.shape != (*occluded.shape, 2) or occluded.ndim != 2:
            raise ValueError(f"points {points.dtype} {points.shape}, occluded {occluded.shape}")
        if not np.isfinite(points[~occluded]).all():
            raise ValueError("a visible point is not finite")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no exact tracks ({error}): expected points [N,T,2], occluded [N,T]") from error
    points = scale_points(points.astype(np.float32), frame_size(SequencePaths(path.parent)) or size, size)
    exact = bool(np.isfinite(points).all())
    return _cut(path, TrackTruth(points, occluded, size, exact), num_frames)


def tapvid_tracks(path: Path, video: str, size: Size, num_frames: int | None = None) -> TrackTruth:
    """A video's annotated points: of a TAP-Vid pickle (or its zip), or what `get_tapvid.py` wrote (npz).

    Raises:
        InputError: unreadable, asking for more than arrays, no such video, or of fewer frames.
    """
    if path.suffix == ".npz":
        truth = exact_tracks(path, size, num_frames)
        return TrackTruth(nan_where_occluded(truth.occluded, truth.points), truth.occluded, size, exact=False)
    videos = tapvid_videos(path)
    if video not in videos:
        raise InputError(f"{path} has no video {video}, it holds {', '.join(videos)}: give the file of this video")
    try:
        occluded = np.asarray(videos[video]["occluded"], bool)
        points = px_from_unit(videos[video]["points"], size).astype(np.float32)
        if points.shape != (*occluded.shape, 2):
            raise ValueError(f"points {points.shape}, occluded {occluded.shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{video} of {path} is not TAP-Vid's ({error}): expected points [N,T,2]") from error
    return _cut(path, TrackTruth(nan_where_occluded(occluded, points), occluded, size, exact=False), num_frames)


@lru_cache(maxsize=1)  # one file holds all videos of a benchmark
def tapvid_videos(path: Path) -> dict[str, dict]:
    """`preprocessing.tapvid_pickle.read_tapvid`, read once."""
    if not path.is_file():
        raise InputError(f"--gt {path} is missing: give a TAP-Vid pickle, its zip, or a gt_tracks.npz")
    return read_tapvid(path)


def badja_keypoints(
    path: Path, frame_names: Sequence[str], mask: Path, size: Size, labelled_names: Sequence[str] = ()
) -> KeypointTruth:
    """BADJA's labels (`joint_annotations/<video>.json`) of the frames in hand, which are known by their stems.

    The file's `visibility` decides: where it is false, a position is a guess, or left over from another frame.

    Args:
        frame_names: file names of the frames, in order. mask: folder of their foreground masks. size: of the frames.
        labelled_names: those that the labels name, where the frames in hand are numbered copies.

    Raises:
        InputError: unreadable, labels beyond DAVIS's full resolution, other frames or proportions, a missing mask.
    """
    try:
        labels = read_json(path)
        stems = [Path(label["image_path"]).stem for label in labels]
        positions = np.array([label["joints"] for label in labels], np.float64).reshape(len(labels), -1, 2)
        visible = np.array([label["visibility"] for label in labels]).astype(bool)
        if visible.shape != positions.shape[:2]:
            raise ValueError(f"joints {positions.shape}, visibility {visible.shape}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"cannot read {path} as BADJA's labels ({error}): expected its joint_annotations") from error
    seen = positions[visible]
    if not ((seen >= 0) & (seen < BADJA_SIZE)).all():
        raise InputError(
            f"{path}: labels from {seen.min(0)} to {seen.max(0)}, expected (row, column) within {BADJA_SIZE}"
        )
    if abs(size[1] / size[0] * BADJA_SIZE[0] / BADJA_SIZE[1] - 1) > MOST_STRETCH:
        raise InputError(f"frames are {size[1]}x{size[0]}, but labels are of 1920x1080: give DAVIS's frames uncropped")
    number = {Path(name).stem: index for index, name in enumerate(labelled_names or frame_names)}
    known = sorted((number[stem], row) for row, stem in enumerate(stems) if stem in number)
    if len(known) < 2:
        raise InputError(f"{path} labels frames {stems}, and {len(known)} of them are in the clip: give DAVIS's frames")
    frames, rows = np.array(known).T
    masks = {file.stem: file for file in image_files(mask)}
    if missing := [frame_names[i] for i in frames if Path(frame_names[i]).stem not in masks]:
        raise InputError(f"{mask} has no mask of {missing[0]}: BADJA's threshold needs its area; give DAVIS's masks")
    areas = np.array([read_mask(masks[Path(frame_names[i]).stem], *size).sum() for i in frames])
    points = px_from_badja(positions[rows], size).swapaxes(0, 1)
    return KeypointTruth(points, visible[rows].T, frames, areas, len(frame_names), size)


def _cut(path: Path, truth: TrackTruth, num_frames: int | None) -> TrackTruth:
    """The first frames only."""
    if num_frames is not None and truth.points.shape[1] < num_frames:
        raise InputError(
            f"{path} has {truth.points.shape[1]} frames, the clip {num_frames}: give the clip's own tracks"
        )
    return TrackTruth(truth.points[:, :num_frames], truth.occluded[:, :num_frames], truth.size, truth.exact)
