"""Video files, read and written with ffmpeg; frames are RGB uint8 [H,W,3]."""

import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np

from utils.atomic import atomic_path
from utils.errors import InputError
from utils.images import to_rgb

# Suffixes of formats that ffmpeg and Pillow (gif) read.
VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg"}


def read_video(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video file one by one, RGB uint8 [H,W,3].

    Raises:
        InputError: The file is missing, empty or no video (raised at the first frame), or ends early (raised after the
            last frame at the latest).
    """
    path = Path(path).absolute()  # ffmpeg would read the part of a relative path before a colon as a protocol
    if not path.is_file():
        raise InputError(f"no video file at {path}: give the path of an existing file")
    if not path.stat().st_size:
        raise InputError(f"cannot read {path}: the file is empty; copy it again")
    try:
        with _open_reader(path) as reader:
            for frame in reader:
                rgb = np.asarray(frame)  # already RGB; a gif may be grey or have an alpha channel
                yield rgb[..., :3].copy() if rgb.ndim == 3 and rgb.shape[2] >= 3 else to_rgb(rgb)
    except (OSError, ValueError, RuntimeError, IndexError, struct.error) as error:
        # The reason is the last line of ffmpeg's output, and the first line of Pillow's error.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[-1 if "stderr" in str(error) else 0]
        raise InputError(f"cannot read {path} as a video ({reason}); copy it again or convert it to mp4") from error
    if _is_truncated(path):
        raise InputError(f"cannot read {path}: the video is cut short; copy it again, or convert what is left of it")


def frame_rate(path: Path) -> float:
    """Return the frames per second of a readable video file."""
    with _open_reader(Path(path).absolute()) as reader:
        meta = reader.get_meta_data()
    if "fps" in meta:
        return meta["fps"]
    return 1000 / (meta.get("duration") or 100)  # a gif's frame lasts `duration` ms; players show 0 as 100


def _open_reader(path: Path) -> Any:  # imageio's type of a reader lacks its methods
    return imageio.get_reader(path, "GIF-PIL" if path.suffix.lower() == ".gif" else "FFMPEG")


def _open_writer(path: Path, fps: float) -> Any:
    open_writer: Any = imageio.get_writer  # its type lacks ffmpeg's options
    return open_writer(path, fps=fps, codec="libx264", quality=8, macro_block_size=2, ffmpeg_log_level="error")


def _is_truncated(path: Path) -> bool:
    """Return whether an mp4, mov, mkv or webm ends early: its remaining frames are decoded without an error.

    The number of frames would not show it: the duration in the header may be that of the sound.
    """
    errors = _ffmpeg_errors(path)
    return ": partial file" in errors or "File ended prematurely" in errors


def _ffmpeg_errors(path: Path) -> str:
    """Return ffmpeg's error messages on copying a video without decoding it; empty if the file is complete."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-map", "0:v:0"]
    copied = subprocess.run([*command, "-c", "copy", "-f", "null", "-"], capture_output=True, stdin=subprocess.DEVNULL)
    return copied.stderr.decode(errors="replace").strip()


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
        if _ffmpeg_errors(temporary):
            raise incomplete
