"""Original frames of a sequence: of full size if it is a reduced copy and its source still exists."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy import uint8
from numpy.typing import NDArray

from preprocessing.frames import fingerprint, read_source_record, source_files
from preprocessing.sequence_paths import SequencePaths
from utils.errors import InputError
from utils.images import read_frame
from utils.video import read_video


@dataclass(frozen=True)
class FrameReader:
    """Frames that are read on demand: a long clip at full size need not fit into memory.

    Args:
        size: (height, width).
        read: Yields RGB [H,W,3] for each of the given frame numbers, which must increase.
    """

    size: tuple[int, int]
    read: Callable[[Sequence[int]], Iterator[NDArray[uint8]]]


def original_frames(paths: SequencePaths, video: NDArray[uint8]) -> FrameReader:
    """Return a reader of the source's frames if `video` was reduced from them, else of `video`.

    Args:
        paths: The sequence.
        video: Its frames, RGB [T,H,W,3]; read instead of a source that is missing or has changed.
    """
    record = read_source_record(paths)
    source = Path(record.get("source", ""))
    reduced = FrameReader(video.shape[1:3], lambda ids: (video[i] for i in ids))
    if not record.get("max_side") or not source.exists():
        return reduced
    try:
        files = source_files(source)
        if any(record[key] != value for key, value in fingerprint(source, files, record["max_side"]).items()):
            return reduced
        first = read_frame(files[0]) if files else next(read_video(source))
    except (InputError, OSError):
        return reduced
    return FrameReader(first.shape[:2], lambda ids: _read(source, files, ids))


def _read(source: Path, files: list[Path], ids: Sequence[int]) -> Iterator[NDArray[uint8]]:
    """Yield frames `ids`, increasing, of a folder's image files, or of the video `source` if there are none."""
    if files:
        yield from (read_frame(files[i]) for i in ids)
        return
    wanted, last = set(ids), max(ids)
    for i, frame in enumerate(read_video(source)):
        if i in wanted:
            yield frame
        if i == last:
            return
