"""The pictures behind a sequence: the frames as they were before they were reduced, where they are still there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy import uint8
from numpy.typing import NDArray

from preprocessing.frames import fingerprint, source_files
from preprocessing.sequence_paths import SequencePaths
from utils.data_files import read_json
from utils.errors import InputError
from utils.images import read_frame
from utils.video import read_video


@dataclass(frozen=True)
class FrameReader:
    """Frames to draw on, read when they are needed: a long clip at full size need not fit into memory."""

    size: tuple[int, int]  # height, width
    read: Callable[[Sequence[int]], Iterator[NDArray[uint8]]]  # frame numbers, rising → RGB [H,W,3] of each


def read_source_record(paths: SequencePaths) -> dict:
    """What `prepare_sequence` noted of the source of a copy (source.json); empty for a folder that is no copy."""
    try:
        return read_json(paths.root / "source.json")
    except (OSError, ValueError):
        return {}


def original_frames(paths: SequencePaths, video: NDArray[uint8]) -> FrameReader:
    """The source's own frames where `video` [T,H,W,3] was reduced from them and they are unchanged, else `video`."""
    record = read_source_record(paths)
    source = Path(record.get("source", ""))
    own = FrameReader(video.shape[1:3], lambda ids: (video[i] for i in ids))
    if not record.get("max_side") or not source.exists():
        return own
    try:
        files = source_files(source)
        if any(record[key] != value for key, value in fingerprint(source, files, record["max_side"]).items()):
            return own
        first = read_frame(files[0]) if files else next(read_video(source))
    except (InputError, OSError):
        return own
    return FrameReader(first.shape[:2], lambda ids: _read(source, files, ids))


def _read(source: Path, files: list[Path], ids: Sequence[int]) -> Iterator[NDArray[uint8]]:
    """Frames `ids`, rising, of a folder's image files or else of the video `source`."""
    if files:
        yield from (read_frame(files[i]) for i in ids)
        return
    wanted, last = set(ids), max(ids)
    for i, frame in enumerate(read_video(source)):
        if i in wanted:
            yield frame
        if i == last:
            return
