"""What a user gives as a clip: a folder of images, a video, an animated image, a stack of pages, or an array.

What a file holds is found by reading it, never by its suffix. Frames are numbered from 0.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from preprocessing.source import Source
from preprocessing.stacks import open_stack
from utils.errors import InputError
from utils.ffmpeg import DEEP_GREY, Decoded, TimedImage, VideoInfo, decode_video, probe_video
from utils.images import decode_frame, list_frames
from utils.video import count_frames, is_animation, read_animation


class ImageFolder(Source):
    """The image files of a folder, or of `color/` in a sequence folder."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._files = list_frames(path / "color" if (path / "color").is_dir() else path)

    @property
    def files(self) -> list[Path]:
        """The image files in natural order."""
        return self._files

    @property
    def num_frames(self) -> int:
        """Number of image files."""
        return len(self._files)

    def read(self, ids: Sequence[int] | None = None) -> Iterator[TimedImage]:
        """Yield frames, upright."""
        for i in range(self.num_frames) if ids is None else ids:
            yield TimedImage(decode_frame(self._files[i]), None)

    def name_of(self, frame_id: int) -> str:
        """Return the file's path."""
        return str(self._files[frame_id])

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers in the files' names."""
        return numbers_in_names([file.name for file in self._files])


class Video(Source):
    """A file that ffmpeg reads."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._decoded = Decoded(None, "")

    @cached_property
    def header(self) -> VideoInfo:
        """What the file says of itself at its start."""
        return probe_video(self.path, 1)

    @cached_property
    def num_coded(self) -> int:
        """Number of coded frames, not all of which may be decodable; the file is read to its end."""
        return probe_video(self.path).num_frames

    @property
    def num_frames(self) -> int:
        """Number of decoded frames if the video was decoded to its end, else of coded frames."""
        return self.num_coded if self._decoded.num_frames is None else self._decoded.num_frames

    @property
    def fps(self) -> float | None:
        """Nominal frames per second."""
        return self.header.fps

    def read(self, ids: Sequence[int] | None = None) -> Iterator[TimedImage]:
        """Yield frames of square pixels; RGB of 8 bits, except for measurements of more bits."""
        grey = DEEP_GREY.match(self.header.pixel_format)
        pixel_format = ("gray16be" if grey else "rgb48be") if self.header.is_deep else "rgb24"
        shown = yield from decode_video(self.path, ids, pixel_format, self.header.unused_bits)
        known = self._decoded.num_frames if shown.num_frames is None else shown.num_frames
        self._decoded = Decoded(known, shown.damage)

    @property
    def findings(self) -> list[str]:
        """A sentence about frames that are not shown, or could not be decoded."""
        decoded, damage = self._decoded
        if not damage:
            is_short = decoded is not None and decoded < self.num_coded
            return [f"{self.path.name} shows {decoded} of its {self.num_coded} coded frames"] if is_short else []
        count = "not all" if decoded is None else f"{decoded} of {self.num_coded} coded"
        found = f"{count} frames of {self.path.name} could be decoded"
        return [f"warning: {found} ({damage}); motion jumps where frames are missing: copy the video again"]

    @property
    def notes(self) -> list[str]:
        """A sentence about pixels that are not square."""
        aspect = self.header.pixel_aspect
        if aspect == 1:
            return []
        found = f"{aspect.numerator}:{aspect.denominator}"
        return [f"pixels of {self.path.name} are not square ({found}): its frames are resized to square pixels"]


class Animation(Source):
    """An animated GIF, WebP or PNG."""

    @cached_property
    def num_frames(self) -> int:
        """Number of frames."""
        return count_frames(self.path)

    def read(self, ids: Sequence[int] | None = None) -> Iterator[TimedImage]:
        """Yield frames as they are shown."""
        return read_animation(self.path, ids)


def open_source(path: Path) -> Source:
    """Open what a user gives as a clip; a video is not read yet.

    Raises:
        InputError: It does not exist, is empty, or a folder or stack that holds no clip.
    """
    if not path.exists():
        raise InputError(f"nothing at {path}: give a video file, a folder of frames, or a folder with color/")
    if path.is_dir():
        return ImageFolder(path)
    if not path.stat().st_size:
        raise InputError(f"cannot read {path}: the file is empty; copy it again")
    return Animation(path) if is_animation(path) else open_stack(path) or Video(path)


def numbers_in_names(names: Sequence[str]) -> Sequence[int]:
    """Return the numbers that end the stems of file names, if they increase; otherwise numbers from the first one on.

    `plate.1001.png` has the number 1001; a name without a number counts as 0.
    """
    found = [re.search(r"\d+$", Path(name).stem) for name in names]
    numbers = [int(digits[0]) if digits else 0 for digits in found]
    increasing = bool(np.all(np.diff(numbers) > 0))
    return numbers if increasing else range(numbers[0], numbers[0] + len(numbers))
