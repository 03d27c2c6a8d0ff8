"""Make a sequence folder with `color/` from a video, a folder of images or another sequence folder.

A copy lies in `data_root/<name>`, or in `data_root/<name>_<max_side>` if it was reduced in size. It is written under a
hidden name and renamed when complete, so that an existing folder is complete.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from preprocessing.mask_copies import copy_masks
from preprocessing.sequence_paths import SequencePaths
from utils.atomic import atomic_folder
from utils.conventions import scale_points
from utils.data_files import read_arrays, read_json
from utils.errors import InputError, explain_failed_writes
from utils.images import image_files, list_frames, read_frame, write_image
from utils.video import VIDEO_SUFFIXES, frame_rate, read_video

MIN_SHORT_SIDE, MIN_LONG_SIDE = 8, 12  # pixels; OpenCV's DIS flow takes nothing smaller

Size = tuple[int, int]  # (height, width)
Record = dict[str, Any]  # content of source.json


def scaled_size(height: int, width: int, max_side: int | None) -> Size:
    """Return (height, width) reduced so that the longer side is at most `max_side`; no side goes below one pixel."""
    if max_side is None or max(height, width) <= max_side:
        return height, width
    scale = max_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def prepare_sequence(source: Path, max_side: int | None, data_root: Path = Path("data")) -> SequencePaths:
    """Return a sequence folder with the frames of `source`, making a copy if needed.

    Args:
        source: A video file, a folder of images, or a sequence folder with `color/`, which is used in place if its
            frames fit `max_side` and it is writable.
        max_side: Longest side that frames may have, pixels; None keeps their size.
        data_root: Folder in which copies are made.

    Raises:
        InputError: `source` holds nothing usable or frames that are too small, or its copy's folder is occupied.
    """
    source = Path(source)
    frames = source_files(source)
    first = read_frame(frames[0]) if frames else next(iter(read_video(source)), None)
    if first is None:
        raise InputError(f"{source} holds no frame, expected at least two: give another video")
    old_height, old_width = first.shape[:2]
    height, width = scaled_size(old_height, old_width, max_side)
    if min(height, width) < MIN_SHORT_SIDE or max(height, width) < MIN_LONG_SIDE:
        raise InputError(
            f"frames of {source} would be {width}x{height} (width x height), expected at least {MIN_LONG_SIDE} by "
            f"{MIN_SHORT_SIDE} pixels: give larger frames or another --max_side"
        )
    resized = (height, width) != (old_height, old_width)
    if (source / "color").is_dir() and not resized and os.access(source, os.W_OK):
        return SequencePaths(source)
    target = _target_folder(source, max_side if resized else None, Path(data_root))
    origin = fingerprint(source, frames, max_side if resized else None)
    if not target.exists():
        with explain_failed_writes(target.parent):
            _write_copy(source, frames, max_side, target, origin)
    _check_copy(target, origin)
    return SequencePaths(target)


def source_files(source: Path) -> list[Path]:
    """List the image files of a source that is a folder; empty for a video file.

    Raises:
        InputError: The source does not exist, is no kind of video that can be read, or holds too few images.
    """
    if not source.exists():
        raise InputError(f"nothing at {source}: give a video file, a folder of frames, or a folder with color/")
    if source.is_dir():
        return list_frames(source / "color" if (source / "color").is_dir() else source)
    if source.suffix.lower() not in VIDEO_SUFFIXES:
        kinds = " ".join(sorted(VIDEO_SUFFIXES))
        raise InputError(f"{source} is neither a folder nor a known kind of video ({kinds}): convert it to mp4")
    return []


def _target_folder(source: Path, max_side: int | None, data_root: Path) -> Path:
    """Return the folder for the copy of `source`, which is never `source` itself."""
    resolved = source.resolve()
    name = (resolved.stem if resolved.is_file() else resolved.name) + (f"_{max_side}" if max_side else "")
    target = data_root / name
    return data_root / f"{name}_frames" if target.resolve() == resolved else target


def fingerprint(source: Path, frames: list[Path], max_side: int | None) -> Record:
    """Return a record of the present state of a source, to compare with the record of a copy.

    Args:
        source: The video file or folder.
        frames: Its image files; empty for a video.
        max_side: The size limit of the copy, pixels; None if it keeps the frames' size.

    Returns:
        Plain data, as stored in the copy's `source.json`.
    """
    stats = [path.stat() for path in frames or [source]]
    return {
        "source": str(source.resolve()),
        "max_side": max_side,
        "size": sum(stat.st_size for stat in stats),
        "mtime": max(stat.st_mtime for stat in stats),
    }


def _check_copy(target: Path, origin: Record) -> None:
    """Raise an InputError if a folder was not made from this source, or frames have been removed since."""
    found = read_source_record(SequencePaths(target))
    differing = [key for key, value in origin.items() if found.get(key) != value]
    if not differing and found.get("num_frames") != len(image_files(target / "color")):
        differing = ["num_frames"]
    if differing:
        made_from = found.get("source", "something unknown (no source.json)")
        raise InputError(
            f"{target} was made from {made_from} and differs in {', '.join(differing)} from {origin['source']} "
            f"now: delete or rename the folder {target}"
        )


def read_source_record(paths: SequencePaths) -> Record:
    """Read the record of a copy's source (`source.json`); empty for a folder that is no copy."""
    try:
        record = read_json(paths.root / "source.json")
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_copy(source: Path, frames: list[Path], max_side: int | None, target: Path, origin: Record) -> None:
    """Write the copy with its `source.json`, completely or not at all."""
    with atomic_folder(target) as staged:
        paths = SequencePaths(staged)
        images: Iterable[np.ndarray] = (read_frame(path) for path in frames) if frames else read_video(source)
        with tqdm(images, "frames", len(frames) or None) as bar:
            old, new, count = _write_frames(bar, paths, max_side)
        if count < 2:
            raise InputError(f"{source} holds {count} frame(s), expected at least two: give another video")
        if (source / "color").is_dir():
            copy_masks(SequencePaths(source), frames, paths, old, new)
            _copy_tracks(SequencePaths(source), paths, old, new)
        rate = {} if frames else {"fps": frame_rate(source)}
        record = {**origin, "num_frames": count, "height": new[0], "width": new[1], **rate}
        (staged / "source.json").write_text(json.dumps(record, indent=1))


def _write_frames(images: Iterable[np.ndarray], paths: SequencePaths, max_side: int | None) -> tuple[Size, Size, int]:
    """Write `color/%05d.png`; return the size before and after, and the number of frames."""
    old: Size = (0, 0)
    new: Size = (0, 0)
    count = 0
    for count, image in enumerate(images, 1):
        if count == 1:
            old = image.shape[:2]
            new = scaled_size(*old, max_side)
        if image.shape[:2] != old:
            raise InputError(
                f"frame {count} is {image.shape[1]}x{image.shape[0]} but the first is {old[1]}x{old[0]} "
                "(width x height): all frames of a sequence must have one size; convert or remove it"
            )
        if new != old:
            image = cv2.resize(image, new[::-1], interpolation=cv2.INTER_AREA)
        write_image(paths.color / f"{count - 1:05d}.png", image)
    return old, new, count


def _copy_tracks(source: SequencePaths, target: SequencePaths, old: Size, new: Size) -> None:
    """Copy the exact tracks, if there are any, scaled like the frames."""
    if not source.gt_tracks.is_file():
        return
    try:
        points, occluded = read_arrays(source.gt_tracks, "points", "occluded")
        points = scale_points(points, old, new)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source.gt_tracks} holds no exact tracks ({error}): expected points [N,T,2], occluded [N,T]; or remove it"
        ) from error
    np.savez(target.gt_tracks, points=points, occluded=occluded)
