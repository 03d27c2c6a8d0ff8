"""Ground truth of a clip: exact tracks (`gt_tracks.npz`), TAP-Vid's annotated points, BADJA's keypoints.

Positions are pixels (x, y) of the clip's frames, integer = pixel centre, whatever resolution the annotations have;
`utils.conventions` converts. Sizes are (height, width).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.options import Benchmark, EvaluationOptions
from loaders.clip_masks import ClipMasks, MaskOptions, find_masks
from preprocessing.sequence_paths import SequencePaths
from preprocessing.source_record import frame_origin
from preprocessing.tapvid_pickle import read_tapvid
from utils.conventions import BADJA_SIZE, Size, nan_where_occluded, px_from_badja, px_from_unit, scale_points
from utils.data_files import read_arrays, read_json
from utils.errors import InputError
from utils.images import image_files, list_frames, read_frame
from utils.masks import describe_rules

MAX_ASPECT_DEVIATION = 0.01  # of two aspect ratios, as caused by rounding the sides of a resized frame


@dataclass(frozen=True)
class TrackTruth:
    """N points in all T frames."""

    points: np.ndarray  # [N,T,2]; NaN where occluded and not known
    occluded: np.ndarray  # bool [N,T]
    size: Size  # of the frames
    exact: bool  # whether positions are known where they are occluded, too

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""
        return self.points.shape[1]

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark whose metrics apply."""
        return "tracks" if self.exact else "tapvid"


@dataclass(frozen=True)
class KeypointTruth:
    """K keypoints in the F annotated frames of a clip."""

    points: np.ndarray  # [K,F,2]; any values where not visible
    visible: np.ndarray  # bool [K,F]
    frames: np.ndarray  # int [F], annotated frame ids, ascending
    areas: np.ndarray  # [F], foreground pixels of these frames
    num_frames: int  # of the clip
    size: Size  # of the frames
    benchmark: Benchmark = "badja"


Truth = TrackTruth | KeypointTruth


def find_truth(
    options: EvaluationOptions,
    data_dir: Path,
    paths: SequencePaths,
    names: Sequence[str],
    size: Size,
    video: str,
    mask_options: MaskOptions,
) -> Truth:
    """Read the truth of a video.

    Args:
        options: Kind and file of the truth; without a file, it is looked up in `data_dir` or beside the frames.
        data_dir: The video as given by the user; `paths` may be a resized copy.
        paths: The sequence folder of the clip's frames.
        names: File names of these frames.
        size: Their height and width.
        video: Name of the video in a TAP-Vid pickle.
        mask_options: Which masks give the areas of BADJA's thresholds.

    Raises:
        InputError: Missing or unusable.
    """
    gt, benchmark, ids = options.gt, options.benchmark, frame_origin(paths, names).ids
    if benchmark == "badja":
        original = data_dir / "color"
        labelled = [frame.name for frame in list_frames(original)] if original.is_dir() else list(names)
        masks = find_masks(paths, mask_options)
        if len(labelled) > len(names):
            labelled = [labelled[i] for i in ids]
        return badja_keypoints(Path(gt or data_dir / "badja.json"), names, masks, size, labelled)
    path = Path(gt) if gt else paths.gt_tracks
    truth = tapvid_tracks(path, video, size) if benchmark == "tapvid" else exact_tracks(path, size)
    if truth.num_frames == len(names):  # of the clip's frames alone
        return truth
    if truth.num_frames <= ids[-1]:
        raise _too_few_frames(path, truth, ids[-1] + 1)
    return replace(truth, points=truth.points[:, list(ids)], occluded=truth.occluded[:, list(ids)])


def frame_size(paths: SequencePaths) -> Size | None:
    """Return the size of a sequence's first frame, None if it has no frames."""
    frames = image_files(paths.color)
    if not frames:
        return None
    height, width, _ = read_frame(frames[0]).shape
    return height, width


def exact_tracks(path: Path, size: Size, num_frames: int | None = None) -> TrackTruth:
    """Read `points` [N,T,2] and `occluded` [N,T] of an npz file.

    Args:
        path: The file; its positions are pixels of the frames in `color/` beside it, otherwise of the clip's frames.
        size: Size of the clip's frames.
        num_frames: Number of the clip's frames, to which the tracks are cut; None keeps all.

    Raises:
        InputError: The file is missing or unreadable, or has other arrays or fewer frames.
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
    return _first_frames(path, TrackTruth(points, occluded, size, exact), num_frames)


def tapvid_tracks(path: Path, video: str, size: Size, num_frames: int | None = None) -> TrackTruth:
    """Read a video's annotated points from a TAP-Vid pickle, its zip, or the npz file of `get_tapvid.py`.

    Raises:
        InputError: The file is unreadable, holds more than arrays, lacks the video, or has fewer frames.
    """
    if path.suffix == ".npz":
        truth = exact_tracks(path, size, num_frames)
        return TrackTruth(nan_where_occluded(truth.occluded, truth.points), truth.occluded, size, exact=False)
    videos = _tapvid_videos(path)
    if video not in videos:
        raise InputError(f"{path} has no video {video}, it holds {', '.join(videos)}: give the file of this video")
    try:
        occluded = np.asarray(videos[video]["occluded"], bool)
        points = px_from_unit(videos[video]["points"], size).astype(np.float32)
        if points.shape != (*occluded.shape, 2):
            raise ValueError(f"points {points.shape}, occluded {occluded.shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{video} of {path} is not TAP-Vid's ({error}): expected points [N,T,2]") from error
    return _first_frames(
        path, TrackTruth(nan_where_occluded(occluded, points), occluded, size, exact=False), num_frames
    )


@lru_cache(maxsize=1)  # one file holds all videos of a benchmark
def _tapvid_videos(path: Path) -> dict[str, dict]:
    if not path.is_file():
        raise InputError(f"--gt {path} is missing: give a TAP-Vid pickle, its zip, or a gt_tracks.npz")
    return read_tapvid(path)


def badja_keypoints(
    path: Path, names: Sequence[str], masks: ClipMasks, size: Size, labelled_names: Sequence[str] = ()
) -> KeypointTruth:
    """Read BADJA's labels (`joint_annotations/<video>.json`) of the clip's frames, matched by file stems.

    Args:
        path: The labels. Where their `visibility` is false, positions are guesses or from other frames.
        names: File names of the clip's frames, in order.
        masks: Their foreground masks.
        size: Size of the frames.
        labelled_names: The names that the labels use, where the clip's frames are numbered copies.

    Raises:
        InputError: Unreadable, labels beyond DAVIS's full resolution, other frames or proportions, a missing mask.
    """
    stems, positions, visible = _read_badja_labels(path)
    if abs(size[1] / size[0] * BADJA_SIZE[0] / BADJA_SIZE[1] - 1) > MAX_ASPECT_DEVIATION:
        raise InputError(f"frames are {size[1]}x{size[0]}, but labels are of 1920x1080: give DAVIS's frames uncropped")
    frame_of = {Path(name).stem: index for index, name in enumerate(labelled_names or names)}
    annotated = sorted((frame_of[stem], row) for row, stem in enumerate(stems) if stem in frame_of)
    if len(annotated) < 2:
        raise InputError(
            f"{path} labels frames {stems}, and {len(annotated)} of them are in the clip: give DAVIS's frames"
        )
    frames, rows = np.array(annotated).T
    if missing := [names[i] for i in frames if names[i] not in masks.files]:
        raise InputError(
            f"{masks.folder} has no mask of {missing[0]}: BADJA's threshold needs its area; give DAVIS's masks"
        )
    found = [masks.read(names[i], size) for i in frames]
    print(f"areas of {len(found)} masks: {describe_rules(found)}")
    areas = np.array([mask.foreground.sum() for mask in found])
    points = px_from_badja(positions[rows], size).swapaxes(0, 1)
    return KeypointTruth(points, visible[rows].T, frames, areas, len(names), size)


def _read_badja_labels(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return stems of the labelled frames, positions (row, column) [F,K,2] at BADJA_SIZE, and visibility [F,K]."""
    try:
        labels: Any = read_json(path)
        stems = [Path(label["image_path"]).stem for label in labels]
        positions = np.array([label["joints"] for label in labels], np.float64).reshape(len(labels), -1, 2)
        visible = np.array([label["visibility"] for label in labels]).astype(bool)
        if visible.shape != positions.shape[:2]:
            raise ValueError(f"joints {positions.shape}, visibility {visible.shape}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"cannot read {path} as BADJA's labels ({error}): expected its joint_annotations") from error
    shown = positions[visible]
    if not ((shown >= 0) & (shown < BADJA_SIZE)).all():
        raise InputError(
            f"{path}: labels from {shown.min(0)} to {shown.max(0)}, expected (row, column) within {BADJA_SIZE}"
        )
    return stems, positions, visible


def _first_frames(path: Path, truth: TrackTruth, num_frames: int | None) -> TrackTruth:
    if num_frames is not None and truth.num_frames < num_frames:
        raise _too_few_frames(path, truth, num_frames)
    return TrackTruth(truth.points[:, :num_frames], truth.occluded[:, :num_frames], truth.size, truth.exact)


def _too_few_frames(path: Path, truth: TrackTruth, num_frames: int) -> InputError:
    return InputError(f"{path} has {truth.num_frames} frames, the clip {num_frames}: give the clip's own tracks")
