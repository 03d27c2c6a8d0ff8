"""Make a sequence folder with `color/` from a video, a folder of images, a stack or another sequence folder.

A copy lies in `data_root/<name>`; a range of frames and a reduced size are part of its name, as in
`<name>_100-220-2_256`. It is written under a hidden name and renamed when complete, so that an existing folder is
complete.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from preprocessing.deep_images import needs_range
from preprocessing.frame_copies import FrameCopy, scaled_size
from preprocessing.frame_range import FrameRange
from preprocessing.sequence_paths import SequencePaths
from preprocessing.source import Source
from preprocessing.source_record import Record, check_copy, differences, read_source_record
from preprocessing.sources import ImageFolder, Video, open_source
from preprocessing.value_range import ValueRange
from utils.errors import InputError, explain_failed_writes

MIN_SHORT_SIDE, MIN_LONG_SIDE = 8, 12  # pixels; OpenCV's DIS flow takes nothing smaller

Log = Callable[[str], object]


def prepare_sequence(
    source: Path,
    max_side: int | None,
    data_root: Path = Path("data"),
    *,
    frame_range: str = "",
    value_range: str = "",
    limit: int | None = None,
    log: Log = print,
) -> SequencePaths:
    """Return a sequence folder with the frames of `source`, making a copy if needed.

    Args:
        source: What `open_source` opens. A sequence folder with `color/` is used in place if it is writable and all its
            frames are wanted as they are: within `max_side`, and of 8 bits.
        max_side: Longest side that frames may have, pixels; None keeps their size.
        data_root: Folder in which copies are made.
        frame_range: The frames to use, `a:b` or `a:b:step`; "" for all.
        value_range: The values of deep images that become 0 and 255, `lo:hi`; "" to estimate them.
        limit: Most frames that are used, and need to be copied; None for all.
        log: Takes sentences about what is left out, and how frames are converted.

    Raises:
        InputError: `source` holds nothing usable or frames that are too small, or its copy's folder is occupied.
    """
    opened = open_source(Path(source))
    wanted = FrameRange.parse(frame_range) if frame_range else None
    given = ValueRange.parse(value_range) if value_range else None
    first = next(opened.read([0]), None)
    if first is None:
        raise InputError(f"{source} holds no frame, expected at least two: give another video")
    size = first.image.shape[0], first.image.shape[1]
    resized = _checked_size(opened.path, scaled_size(*size, max_side)) != size
    # Only floats are sampled, and no video holds floats: the frames of other sources are counted at no cost.
    chosen = _chosen(opened, wanted, limit) if first.image.dtype.kind == "f" else wanted
    is_deep = needs_range(opened, first.image, given, chosen.ids if chosen else None)
    copy = FrameCopy(opened, max_side if resized else None, wanted, given, is_deep, wanted is not None)
    if wanted is None and not resized and _is_usable(copy, log):
        _log_left_out(opened.num_frames, limit, log)
        return SequencePaths(opened.path)
    return SequencePaths(_find_or_make(copy, limit, Path(data_root), log))


def source_files(source: Path) -> list[Path]:
    """List the image files of a source that is a folder; empty for one file.

    Raises:
        InputError: The source does not exist, or holds no clip.
    """
    opened = open_source(Path(source))
    return opened.files if isinstance(opened, ImageFolder) else []


def _checked_size(path: Path, size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    if min(size) < MIN_SHORT_SIDE or max(size) < MIN_LONG_SIDE:
        raise InputError(
            f"frames of {path} would be {width}x{height} (width x height), expected at least {MIN_LONG_SIDE} by "
            f"{MIN_SHORT_SIDE} pixels: give larger frames or another --max_side"
        )
    return size


def _is_usable(copy: FrameCopy, log: Log) -> bool:
    """Return whether a source is a sequence folder that can be used in place of a copy with all frames."""
    paths = SequencePaths(copy.source.path)
    if not (paths.color.is_dir() and os.access(paths.root, os.W_OK)):
        return False
    if copy.is_deep and copy.value_range is None and (paths.manifest.exists() or paths.flow_stats.exists()):
        log(
            f"{paths.root} was preprocessed with values scaled by all that their type can hold, and is used so: give "
            "--value_range lo:hi for a copy with another range"
        )
        return True
    return not copy.is_deep


def _find_or_make(copy: FrameCopy, limit: int | None, data_root: Path, log: Log) -> Path:
    """Return the folder of a copy with the wanted frames, of which at most `limit` are used."""
    wanted = copy.frame_range
    ranges = [wanted.cut(limit)] if wanted else [None, *([FrameRange(0, limit)] if limit else [])]
    for each in (replace(copy, frame_range=frame_range) for frame_range in ranges):
        target = each.folder(data_root)
        if target.exists() and not differences(target, each.origin):
            record = read_source_record(SequencePaths(target))
            present = record.get("source_frames") or record["num_frames"]
            _log_left_out(len(wanted.ids) if wanted else int(present), limit, log)
            for note in record["notes"] if "notes" in record else _outdated(record, each, target):
                log(note)
            return target
    copy = replace(copy, frame_range=_chosen(copy.source, wanted, limit))
    target = copy.folder(data_root)
    _log_left_out(len(wanted.ids) if wanted else copy.source.num_frames, limit, log)
    if not target.exists():
        with explain_failed_writes(target.parent):
            copy.write(target, log)
    check_copy(target, copy.origin)
    return target


def _chosen(source: Source, wanted: FrameRange | None, limit: int | None) -> FrameRange | None:
    """Return the first `limit` of the wanted frames as a range; None for all frames of the source."""
    total = source.num_frames
    if total < 2:
        raise InputError(f"{source.path} holds {total} frame(s), expected at least two: give another video")
    if wanted and wanted.end > total:
        raise InputError(
            f"--frame_range is {wanted}, expected an end of at most {total}, as many frames as {source.path} has"
        )
    chosen = (wanted or FrameRange(0, total)).cut(limit)
    return None if wanted is None and len(chosen.ids) == total else chosen


def _log_left_out(present: int, limit: int | None, log: Log) -> None:
    if limit is not None and present > limit:
        log(
            f"the first {limit} of {present} frames are used, {present - limit} are left out: give --frame_range "
            "a:b[:step] for others, or a higher number of frames"
        )


def _outdated(record: Record, copy: FrameCopy, target: Path) -> list[str]:
    """Return what a copy of an earlier version did otherwise."""
    found = []
    if copy.is_deep:
        found.append("its values are scaled by all that their type can hold")
    if isinstance(copy.source, Video):
        if record["num_frames"] != copy.source.num_frames:
            found.append(f"it has {record['num_frames']} frames where the video has {copy.source.num_frames}")
        if copy.source.header.pixel_aspect != 1:
            found.append("its pixels are not square")
    advice = f"delete {target} to have it made anew"
    return [f"warning: {target} was made by an earlier version: {', '.join(found)}; {advice}"] if found else []
