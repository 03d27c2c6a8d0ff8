"""Original frames of a sequence: of full size if it is a reduced copy and its source still exists."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy import uint8
from numpy.typing import NDArray

from preprocessing.deep_images import to_rgb_uint8
from preprocessing.frame_copies import scaled_size
from preprocessing.frame_range import FrameRange
from preprocessing.sequence_paths import SequencePaths
from preprocessing.source import Source
from preprocessing.source_record import Record, fingerprint, read_source_record
from preprocessing.sources import open_source
from preprocessing.value_range import ValueRange
from utils.errors import InputError


@dataclass(frozen=True)
class FrameReader:
    """Frames that are read on demand: a long clip at full size need not fit into memory.

    Args:
        size: (height, width).
        read: Yields RGB [H,W,3] for each of the given frame numbers, which must increase.
        is_fallback: Whether they are reduced frames, because their source is missing or has changed.
    """

    size: tuple[int, int]
    read: Callable[[Sequence[int]], Iterator[NDArray[uint8]]]
    is_fallback: bool = False


def original_frames(paths: SequencePaths, video: NDArray[uint8]) -> FrameReader:
    """Return a reader of the source's frames if `video` was reduced from them, else of `video`.

    Args:
        paths: The sequence.
        video: Its frames, RGB [T,H,W,3]; read instead of a source that is missing or has changed.
    """
    record = read_source_record(paths)
    reduced = FrameReader(video.shape[1:3], lambda ids: (video[i] for i in ids), bool(record.get("max_side")))
    if not record.get("max_side") or not Path(record.get("source", "")).exists():
        return reduced
    try:
        source = open_source(Path(record["source"]))
        if not _is_unchanged(source, record):
            return reduced
        first = next(source.read([0])).image
    except (InputError, OSError, StopIteration):
        return reduced
    height, width = first.shape[:2]
    if scaled_size(height, width, record["max_side"]) != video.shape[1:3]:
        return reduced  # made by an earlier version, which did not make pixels square
    return FrameReader((height, width), lambda ids: _read(source, record, first, ids))


def _is_unchanged(source: Source, record: Record) -> bool:
    """Return whether a source is as it was when the copy was made, which holds the frames that it would hold now."""
    chosen = FrameRange.parse(record["frame_range"]) if record.get("frame_range") else None
    given = ValueRange.parse(record["value_range"]) if record.get("value_range") else None
    now = fingerprint(source, record["max_side"], chosen, given)
    # Earlier versions doubled and dropped frames of a video with a variable rate.
    is_current = "source_frames" in record or record["num_frames"] == source.num_frames
    return is_current and all(record.get(key) == value for key, value in now.items())


def _read(source: Source, record: Record, first: NDArray, ids: Sequence[int]) -> Iterator[NDArray[uint8]]:
    """Yield frames `ids` of the copy, increasing, as they are in its source."""
    scaling = ValueRange.parse(record["scaled_from"]) if record.get("scaled_from") else None
    chosen = FrameRange.parse(record["frame_range"]).ids if record.get("frame_range") else range(record["num_frames"])
    wanted = [chosen[i] for i in ids]
    for i, frame in zip(wanted, source.read(wanted), strict=True):
        yield to_rgb_uint8(frame.image, first, scaling, source.name_of(i))
