"""The interface of what a clip is read from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.ffmpeg import TimedImage


class Source(ABC):
    """Frames on disk, read on demand.

    Args:
        path: The file or folder.
    """

    def __init__(self, path: Path):
        self.path = path

    @property
    def files(self) -> list[Path]:
        """The files whose sizes and times of change tell whether the source has changed."""
        return [self.path]

    @property
    def fps(self) -> float | None:
        """Nominal frames per second, None if unknown."""
        return None

    @property
    @abstractmethod
    def num_frames(self) -> int:
        """Number of frames."""

    @abstractmethod
    def read(self, ids: Sequence[int] | None = None) -> Iterator[TimedImage]:
        """Yield frames, [H,W] or RGB [H,W,3] in the file's own depth.

        Args:
            ids: Their numbers, increasing; None for all.

        Raises:
            InputError: A frame cannot be read.
        """

    def name_of(self, frame_id: int) -> str:
        """Return a name of a frame, for messages."""
        return f"frame {frame_id} of {self.path}"

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers that other programs give to the frames."""
        return range(self.num_frames)

    @property
    def findings(self) -> list[str]:
        """Sentences about what reading the frames has shown."""
        return []

    @property
    def notes(self) -> list[str]:
        """Sentences about how the frames are read, where that is not obvious."""
        return []
