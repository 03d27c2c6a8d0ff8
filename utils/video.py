"""Reading and writing video files, with ffmpeg; frames are RGB uint8 [H,W,3]."""

import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np

from utils.atomic import atomic_path
from utils.errors import InputError
from utils.images import to_rgb

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg"}


def read_video(path: Path) -> Iterator[np.ndarray]:
    """Frames of a video file one after the other, RGB uint8 [H,W,3].

    Raises:
        InputError: missing, empty or undecodable (raised when the first frame is asked for), or cut short (raised after
            the last frame at the latest).
    """
    path = Path(path).absolute()  # ffmpeg takes what precedes a colon in a relative path for a protocol
    if not path.is_file():
        raise InputError(f"no video file at {path}")
    if not path.stat().st_size:
        raise InputError(f"cannot read {path}: the file is empty; copy it again")
    try:
        with imageio.get_reader(path, "GIF-PIL" if path.suffix.lower() == ".gif" else "FFMPEG") as reader:
            for frame in reader:
                rgb = np.asarray(frame)  # RGB already; a gif may come grey or with alpha
                yield rgb[..., :3].copy() if rgb.ndim == 3 and rgb.shape[2] >= 3 else to_rgb(rgb)
    except (OSError, ValueError, RuntimeError, IndexError, struct.error) as error:
        # What failed is the last thing that ffmpeg says, and the first that Pillow does.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[-1 if "stderr" in str(error) else 0]
        raise InputError(f"cannot read {path} as a video ({reason}); copy it again or convert it to mp4") from error
    if _video_is_cut_short(path):
        raise InputError(f"cannot read {path}: the video is cut short; copy it again, or convert what is left of it")


def frame_rate(path: Path) -> float:
    """Frames a second of a video file that can be read."""
    is_gif = Path(path).suffix.lower() == ".gif"
    with imageio.get_reader(Path(path).absolute(), "GIF-PIL" if is_gif else "FFMPEG") as reader:
        meta = reader.get_meta_data()
    return 1000 / (meta.get("duration") or 100) if is_gif else meta["fps"]  # a gif says ms, or 0: players take 100


def _video_is_cut_short(path: Path) -> bool:
    """Whether ffmpeg misses the end of an mp4, mov, mkv or webm: it gives the frames before without a word.

    The number of frames would not tell: the duration in the header may be that of the sound.
    """
    complaints = _complaints(path)
    return ": partial file" in complaints or "File ended prematurely" in complaints


def _complaints(path: Path) -> str:
    """What ffmpeg says on going through a video without decoding it; nothing if it is whole."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-map", "0:v:0"]
    copied = subprocess.run([*command, "-c", "copy", "-f", "null", "-"], capture_output=True, stdin=subprocess.DEVNULL)
    return copied.stderr.decode(errors="replace").strip()


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float = 10) -> None:
    """Write RGB uint8 frames [H,W,3] of one size as an H.264 mp4. Its sides are even: an odd one repeats its last line.

    Frames are taken one by one, so that an iterator that makes them never holds them all.

    Raises:
        InputError: the file is not whole. Of a full disk ffmpeg says so to the terminal only, and may end early.
    """
    options = {"codec": "libx264", "quality": 8, "macro_block_size": 2, "ffmpeg_log_level": "error"}
    not_whole = InputError(f"cannot write {path} whole: make room there, and the same command makes it again")
    with atomic_path(path) as temporary:
        with imageio.get_writer(temporary, fps=fps, **options) as writer:
            for frame in frames:
                odd = [(0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)]
                try:
                    writer.append_data(np.pad(frame, odd, mode="edge"))
                except OSError as error:  # nobody reads the pipe any more
                    raise not_whole from error
        if _complaints(temporary):
            raise not_whole
