"""Videos and animated images (GIF, WebP, PNG): read with ffmpeg or Pillow, written with ffmpeg."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from utils.atomic import atomic_path
from utils.errors import InputError
from utils.ffmpeg import TimedImage, decode_video, probe_video
from utils.ffmpeg_process import stream_errors, unreadable
from utils.images import PNG_MAGIC

DEFAULT_MS = 100  # players show a frame that lasts 0 ms for so long
DEEP_MODES = ("I;16", "I;16B", "I", "F")


def is_animation(path: Path) -> bool:
    """Return whether a file begins like an image of a kind that can be animated."""
    with Path(path).open("rb") as file:
        start = file.read(12)
    return start.startswith((b"GIF8", PNG_MAGIC)) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def count_frames(path: Path) -> int:
    """Return the number of frames of an animated image, 1 for a still one.

    Raises:
        InputError: The file is damaged or ends early.
    """
    with _opened(path) as image:
        if image.format == "GIF" and not Path(path).read_bytes().rstrip(b"\0\r\n").endswith(b";"):
            raise OSError("the file has no end")  # Pillow would take the frames that are left for all
        return getattr(image, "n_frames", 1)


def read_animation(path: Path, ids: Sequence[int] | None = None) -> Iterator[TimedImage]:
    """Yield frames as they are shown, without alpha.

    Args:
        path: The file.
        ids: Numbers of the frames to yield, increasing from 0; None for all.

    Raises:
        InputError: The file is damaged or ends early.
    """
    wanted, milliseconds = None if ids is None else set(ids), 0.0
    with _opened(path) as image:
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            frame.load()  # which also finds how long it lasts
            if wanted is None or number in wanted:
                shown = frame if frame.mode in DEEP_MODES else frame.convert("RGB")
                yield TimedImage(np.asarray(shown), milliseconds / 1000)
            if ids is not None and number == ids[-1]:
                return
            milliseconds += frame.info.get("duration") or DEFAULT_MS


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image; damage that is found inside the block is an `InputError`."""
    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError as error:
        raise unreadable(path, "no image that Pillow can decode") from error
    except (OSError, ValueError, IndexError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise unreadable(path, reason) from error


def read_video(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video or an animated image one by one, each once, RGB uint8 [H,W,3] of square pixels.

    Raises:
        InputError: The file is missing, empty, no video, or ends early (raised after the last frame at the latest).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no video file at {path}: give the path of an existing file")
    if not is_animation(path):
        probe_video(path)
    for frame in read_animation(path) if is_animation(path) else decode_video(path):
        yield frame.image


def _open_writer(path: Path, fps: float) -> Any:
    open_writer: Any = imageio.get_writer  # its type lacks ffmpeg's options
    return open_writer(path, fps=fps, codec="libx264", quality=8, macro_block_size=2, ffmpeg_log_level="error")


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float = 10) -> None:
    """Write an H.264 mp4, completely or not at all.

    Args:
        path: The mp4 file.
        frames: RGB uint8 [H,W,3] of one size, consumed one by one. H.264 needs even sides: the last row or column of
            odd ones is repeated.
        fps: Frames per second.

    Raises:
        InputError: ffmpeg could not write all of it; it reports a full disk only on the terminal.
    """
    incomplete = InputError(f"cannot write {path} whole: make room on that disk, then run the same command again")
    with atomic_path(path) as temporary:
        with _open_writer(temporary, fps) as writer:
            for frame in frames:
                odd = [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)]
                try:
                    writer.append_data(np.pad(frame, odd, mode="edge"))
                except OSError as error:  # ffmpeg has ended and closed the pipe
                    raise incomplete from error
        if stream_errors(temporary):
            raise incomplete
