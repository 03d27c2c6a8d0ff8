"""From what the user has (a video, a folder of images, a sequence folder) to a sequence folder with `color/`.

A copy lies in `data_root/<name>` or, where it was made smaller, `data_root/<name>_<max_side>`. It is written
under a hidden name and renamed once it is whole, so that a folder that exists is a folder that is complete.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from preprocessing.sequence_paths import SequencePaths
from utils.atomic import atomic_folder
from utils.conventions import scale_points
from utils.data_files import read_arrays, read_json
from utils.errors import InputError, explain_failed_writes
from utils.images import decode_image, image_files, list_frames, read_frame, write_image
from utils.video import VIDEO_SUFFIXES, frame_rate, read_video

# OpenCV's DIS flow takes nothing smaller.
SMALLEST_SHORT_SIDE, SMALLEST_LONG_SIDE = 8, 12


def scaled_size(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """(height, width) with the longer side at most `max_side`; never enlarged, no side below one pixel."""
    if max_side is None or max(height, width) <= max_side:
        return height, width
    scale = max_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def prepare_sequence(source: Path, max_side: int | None, data_root: Path = Path("data")) -> SequencePaths:
    """Sequence folder for `source`, made where needed.

    Args:
        source: a video file, a folder of images, or a sequence folder with `color/` (used in place where its
            frames fit `max_side` and it is writable).
        max_side: the longest side that frames may have, pixels; None keeps their size.
        data_root: folder in which copies are made.

    Raises:
        InputError: nothing usable at `source`, frames too small, or a copy of something else is in the way.
    """
    source = Path(source)
    frames = source_files(source)
    first = read_frame(frames[0]) if frames else next(iter(read_video(source)), None)
    if first is None:
        raise InputError(f"{source} holds no frame; expected a video of at least two")
    height, width = scaled_size(*first.shape[:2], max_side)
    if min(height, width) < SMALLEST_SHORT_SIDE or max(height, width) < SMALLEST_LONG_SIDE:
        raise InputError(
            f"frames of {source} would be {width}x{height} (width x height), expected at least {SMALLEST_LONG_SIDE} by "
            f"{SMALLEST_SHORT_SIDE} pixels: give larger frames or another --max_side"
        )
    resized = (height, width) != first.shape[:2]
    if (source / "color").is_dir() and not resized and os.access(source, os.W_OK):
        return SequencePaths(source)
    target = _target_folder(source, max_side if resized else None, Path(data_root))
    wanted = fingerprint(source, frames, max_side if resized else None)
    if not target.exists():
        with explain_failed_writes(target.parent):
            _materialise(source, frames, max_side, target, wanted)
    _check_copy(target, wanted)
    return SequencePaths(target)


def source_files(source: Path) -> list[Path]:
    """Image files of a folder source; empty for a video file."""
    if not source.exists():
        raise InputError(f"nothing at {source}: give a video file, a folder of frames, or a folder with color/")
    if source.is_dir():
        return list_frames(source / "color" if (source / "color").is_dir() else source)
    if source.suffix.lower() not in VIDEO_SUFFIXES:
        kinds = " ".join(sorted(VIDEO_SUFFIXES))
        raise InputError(f"{source} is neither a folder nor a known kind of video ({kinds}): convert it to mp4")
    return []


def _target_folder(source: Path, max_side: int | None, data_root: Path) -> Path:
    """Where the copy of `source` lies; never `source` itself."""
    resolved = source.resolve()
    name = (resolved.stem if resolved.is_file() else resolved.name) + (f"_{max_side}" if max_side else "")
    target = data_root / name
    return data_root / f"{name}_frames" if target.resolve() == resolved else target


def fingerprint(source: Path, frames: list[Path], max_side: int | None) -> dict[str, object]:
    """What tells whether a copy was made from the present state of the source."""
    stats = [path.stat() for path in frames or [source]]
    return {
        "source": str(source.resolve()),
        "max_side": max_side,
        "size": sum(stat.st_size for stat in stats),
        "mtime": max(stat.st_mtime for stat in stats),
    }


def _check_copy(target: Path, wanted: dict[str, object]) -> None:
    """Refuse a folder that was not made from `wanted`, or has lost frames since."""
    try:
        found = read_json(target / "source.json")
    except (OSError, ValueError):
        found = {}
    found = found if isinstance(found, dict) else {}
    differing = [key for key, value in wanted.items() if found.get(key) != value]
    if not differing and found.get("num_frames") != len(image_files(target / "color")):
        differing = ["num_frames"]
    if differing:
        was = found.get("source", "something unknown (no source.json)")
        raise InputError(
            f"{target} was made from {was} and differs in {', '.join(differing)} from {wanted['source']} "
            f"now: delete or rename the folder {target}"
        )


def _materialise(
    source: Path, frames: list[Path], max_side: int | None, target: Path, record: dict[str, object]
) -> None:
    """Write the copy, whole or not at all."""
    with atomic_folder(target) as partial:
        size = _fill(source, frames, max_side, SequencePaths(partial))
        (partial / "source.json").write_text(json.dumps({**record, **size}, indent=1))


def _fill(source: Path, frames: list[Path], max_side: int | None, partial: SequencePaths) -> dict[str, float]:
    """Write frames, masks and tracks; returns `num_frames`, `height`, `width` and, of a video, `fps`."""
    images: Iterable[np.ndarray] = (read_frame(path) for path in frames) if frames else read_video(source)
    with tqdm(images, "frames", len(frames) or None) as bar:
        old, new, count = _write_frames(bar, partial, max_side)
    if count < 2:
        raise InputError(f"{source} holds {count} frame(s); expected at least two")
    if (source / "color").is_dir():
        _copy_masks(SequencePaths(source), frames, partial, old, new)
        _copy_tracks(SequencePaths(source), partial, old, new)
    rate = {} if frames else {"fps": frame_rate(source)}
    return {"num_frames": count, "height": new[0], "width": new[1], **rate}


def _write_frames(
    images: Iterable[np.ndarray], paths: SequencePaths, max_side: int | None
) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Write `color/%05d.png`; returns (height, width) before and after, and the number of frames."""
    old = new = (0, 0)
    count = 0
    for count, image in enumerate(images, 1):
        if count == 1:
            old, new = image.shape[:2], scaled_size(*image.shape[:2], max_side)
        if image.shape[:2] != old:
            raise InputError(
                f"frame {count} is {image.shape[1]}x{image.shape[0]} but the first is {old[1]}x{old[0]} "
                "(width x height): all frames of a sequence must have one size; convert or remove it"
            )
        if new != old:
            image = cv2.resize(image, new[::-1], interpolation=cv2.INTER_AREA)
        write_image(paths.color / f"{count - 1:05d}.png", image)
    return old, new, count


def _copy_masks(
    source: SequencePaths,
    frames: list[Path],
    target: SequencePaths,
    old: tuple[int, int],
    new: tuple[int, int],
) -> None:
    """Copy the masks that bear a frame's stem, resized to the nearest pixel; others belong to no frame."""
    by_stem = {path.stem: path for path in image_files(source.mask)}
    for index, frame in enumerate(frames):
        if frame.stem not in by_stem:
            continue
        mask = decode_image(by_stem[frame.stem])
        if mask.shape[:2] != old:
            raise InputError(
                f"mask {by_stem[frame.stem]} is {mask.shape[1]}x{mask.shape[0]} but its frame is "
                f"{old[1]}x{old[0]} (width x height): give the frame's own, or remove it"
            )
        mask = cv2.resize(mask, new[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        rgb = mask if mask.ndim == 2 else mask[..., [2, 1, 0, *range(3, mask.shape[2])]]
        write_image(target.mask / f"{index:05d}.png", rgb)


def _copy_tracks(source: SequencePaths, target: SequencePaths, old: tuple[int, int], new: tuple[int, int]) -> None:
    """Copy exact tracks, where there are some, scaled as the frames were."""
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
