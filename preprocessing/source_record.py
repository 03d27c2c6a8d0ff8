"""The record `source.json` of a copy: which frames of which source it holds, when they were taken, how converted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing.frame_range import FrameRange
from preprocessing.sequence_paths import SequencePaths
from preprocessing.source import Source
from preprocessing.sources import numbers_in_names
from preprocessing.value_range import ValueRange
from utils.data_files import read_json
from utils.errors import InputError
from utils.images import image_files

Record = dict[str, Any]  # content of source.json


@dataclass(frozen=True)
class FrameOrigin:
    """Where the T frames of a clip come from.

    Attributes:
        ids: Their numbers in the source, from 0.
        numbers: Their numbers in the names of the source's files, the same as `ids` for a video.
        times: Seconds from the start of the source, None if unknown.
        fps: Mean frames per second, None if unknown.
    """

    ids: Sequence[int]
    numbers: Sequence[int]
    times: Sequence[float] | None = None
    fps: float | None = None

    @property
    def is_uneven(self) -> bool:
        """Whether the time between frames varies by more than files round it."""
        gaps = [b - a for a, b in zip(self.times or (), (self.times or ())[1:], strict=False)]
        return bool(gaps) and max(gaps) > 1.2 * min(gaps)


def frame_origin(paths: SequencePaths, names: Sequence[str]) -> FrameOrigin:
    """Return the origin of the frames of a sequence, which may be no copy, or one of an earlier version.

    Args:
        paths: The sequence.
        names: File names of its first frames.
    """
    record, count = read_source_record(paths), len(names)
    kept = {key: record[key][:count] for key in ("numbers", "times") if isinstance(record.get(key), list)}
    kept = {key: values for key, values in kept.items() if len(values) == count}
    chosen = FrameRange.parse(record["frame_range"]).ids[:count] if record.get("frame_range") else range(count)
    return FrameOrigin(chosen, kept.get("numbers", numbers_in_names(names)), kept.get("times"), record.get("fps"))


def mean_rate(times: Sequence[float | None]) -> float | None:
    """Return frames per second from the times of frames, None if they are unknown or all the same."""
    known = [time for time in times if time is not None]
    if len(known) < max(2, len(times)) or known[-1] <= known[0]:
        return None
    return (len(known) - 1) / (known[-1] - known[0])


def fingerprint(
    source: Source, max_side: int | None, frame_range: FrameRange | None, value_range: ValueRange | None
) -> Record:
    """Return a record of the present state of a source, to compare with the record of a copy.

    Args:
        source: The video, folder or stack.
        max_side: The size limit of the copy, pixels; None if it keeps the frames' size.
        frame_range: The frames that the copy holds; None for all.
        value_range: The range of values that the user has given; None for none.

    Returns:
        Plain data, as stored in the copy's `source.json`; None for what earlier versions do not record.
    """
    stats = [path.stat() for path in source.files]
    return {
        "source": str(source.path.resolve()),
        "max_side": max_side,
        "size": sum(stat.st_size for stat in stats),
        "mtime": max(stat.st_mtime for stat in stats),
        "frame_range": str(frame_range) if frame_range else None,
        "value_range": str(value_range) if value_range else None,
    }


def read_source_record(paths: SequencePaths) -> Record:
    """Read the record of a copy's source (`source.json`); empty for a folder that is no copy, and for a damaged one."""
    try:
        record: Any = read_json(paths.root / "source.json")
        for key, kind in (("frame_range", FrameRange), ("value_range", ValueRange), ("scaled_from", ValueRange)):
            if record.get(key):
                kind.parse(record[key])
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return record


def differences(target: Path, origin: Record) -> list[str]:
    """Return in which values the record of a copy differs from the present state of its source."""
    found = read_source_record(SequencePaths(target))
    differing = [key for key, value in origin.items() if found.get(key) != value]
    if not differing and found.get("num_frames") != len(image_files(target / "color")):
        return ["num_frames"]
    return differing


def check_copy(target: Path, origin: Record) -> None:
    """Raise an InputError if a folder was not made from this source, or frames have been removed since."""
    if differing := differences(target, origin):
        made_from = read_source_record(SequencePaths(target)).get("source", "something unknown (no source.json)")
        raise InputError(
            f"{target} was made from {made_from} and differs in {', '.join(differing)} from {origin['source']} "
            f"now: delete or rename the folder {target}"
        )
