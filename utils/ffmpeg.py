"""Videos as ffmpeg reads them: what a file holds, and its frames in order, each once, with their times."""

import math
import re
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from queue import Empty, Queue
from typing import IO, NamedTuple

import imageio_ffmpeg
import numpy as np
from tqdm import tqdm

from utils.errors import InputError

# Pixel formats of measurements, whose values need not fill 16 bits; other deep formats are made to be looked at.
DEEP_GREY, DEEP_RGB = re.compile(r"gray(9|1\d)"), re.compile(r"(rgb|bgr)48|rgba64|bgra64|gbra?p(9|1\d)(?!\d)")
# One picture for each stored frame; square pixels, of which no row or column is lost.
SQUARE = r"scale=w='if(gt(sar\,1)\,round(iw*sar)\,iw)':h='if(lt(sar\,1)\,round(ih/sar)\,ih)',setsar=1"
TIME_BASE = re.compile(rb"config in time_base: (\d+)/(\d+)")  # in lines of the filter showinfo
FRAME_TIME = re.compile(rb"\] n: *\d+ pts: *(-?\d+|NOPTS) ")


class TimedImage(NamedTuple):
    """A frame [H,W] or [H,W,3] (RGB) of any depth, and its time in seconds, None where the file has none."""

    image: np.ndarray
    time: float | None


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself.

    Attributes:
        num_frames: Number of coded frames, as far as they were counted.
        fps: Nominal frames per second, None if unknown.
        pixel_format: ffmpeg's name of it.
        pixel_aspect: Width of a pixel divided by its height; 1 if not said.
    """

    num_frames: int
    fps: float | None
    pixel_format: str
    pixel_aspect: Fraction

    @property
    def is_deep(self) -> bool:
        """Whether the frames are measurements of more than 8 bits."""
        return bool(DEEP_GREY.match(self.pixel_format) or DEEP_RGB.match(self.pixel_format))


def probe_video(path: Path, most: int | None = None) -> VideoInfo:
    """Read a video file without decoding it.

    Args:
        path: The file.
        most: Number of frames after which to stop; None to count all of them.

    Raises:
        InputError: ffmpeg cannot read it, it holds no video, or it ends early.
    """
    # An absolute path: ffmpeg would take the part of a relative one before a colon for a protocol.
    command = [_ffmpeg(), "-hide_banner", "-i", str(Path(path).absolute()), "-map", "0:V:0", "-c", "copy"]
    command += [] if most is None else ["-frames:v", str(most)]
    run = subprocess.run([*command, "-f", "null", "-"], capture_output=True, stdin=subprocess.DEVNULL)
    text = run.stderr.decode(errors="replace")
    if "Input #0" in text and not re.search(r"Stream #0.*: Video: (?!.*attached pic)", text):
        raise _unreadable(path, "ffmpeg finds no video in it")
    stream = re.search(r"Output #0.*?Stream #0:0.*?: (Video: [^\n]*)", text, re.DOTALL)
    if run.returncode or not stream:
        raise _unreadable(path, _reason(text.splitlines()))
    if ": partial file" in text or "File ended prematurely" in text:
        # The number of frames would not show it: the duration in the header may be that of the sound.
        raise InputError(f"cannot read {path}: the video is cut short; copy it again, or convert what is left of it")
    fps, aspect = re.search(r", ([\d.]+k?) fps", stream[1]), re.search(r"SAR ([1-9]\d*):([1-9]\d*)", stream[1])
    pixel_format = re.search(r"Video: [^,]+, (\w+)", stream[1])
    return VideoInfo(
        num_frames=int((re.findall(r"frame= *(\d+)", text) or ["0"])[-1]),
        fps=float(fps[1].replace("k", "e3")) if fps else None,
        pixel_format=pixel_format[1] if pixel_format else "",
        pixel_aspect=Fraction(int(aspect[1]), int(aspect[2])) if aspect else Fraction(1),
    )


def decode_video(path: Path, ids: Sequence[int] | None = None, pixel_format: str = "rgb24") -> Iterator[TimedImage]:
    """Yield the frames of a video file in order, each stored frame once; decode no further than needed.

    Args:
        path: The file.
        ids: Numbers of the frames to yield, increasing from 0; None for all. Those that the file lacks are left out.
        pixel_format: rgb24, rgb48be or gray16be, which determines the depth of the frames.

    Raises:
        InputError: ffmpeg cannot read the file, or ends early.
    """
    first, step = (ids[0], math.gcd(*(i - ids[0] for i in ids)) or 1) if ids is not None else (0, 1)
    end = math.inf if ids is None else ids[-1] + 1
    wanted = None if ids is None else set(ids)
    select = f"select='between(n\\,{first}\\,{end - 1})*not(mod(n-{first}\\,{step}))'," if ids is not None else ""
    most = [] if ids is None else ["-frames:v", str(len(range(first, ids[-1] + 1, step)))]
    codec = ["-c:v", "pgm" if "gray" in pixel_format else "ppm", "-pix_fmt", pixel_format]
    options = ["-map", "0:V:0", "-vf", f"showinfo=checksum=0,{select}{SQUARE}", *_passthrough(), *most, *codec]
    command = [_ffmpeg(), "-hide_banner", "-nostats", "-nostdin", "-i", str(Path(path).absolute()), *options]
    with _running([*command, "-f", "image2pipe", "-"], path) as (stdout, times):
        for _ in tqdm(range(first), f"decoding up to frame {first}", disable=not first, leave=False):
            times.next()
        number = first
        while (image := _read_netpbm(stdout)) is not None:
            time = times.next()
            if wanted is None or number in wanted:
                yield TimedImage(image, time)
            for _ in range(step - 1 if number + step < end else 0):
                times.next()
            number += step


def stream_errors(path: Path) -> str:
    """Return ffmpeg's error messages on copying a video without decoding it; empty if the file is complete."""
    command = ["-v", "error", "-i", str(path), "-map", "0:v:0", "-c", "copy", "-f", "null", "-"]
    copied = subprocess.run([_ffmpeg(), *command], capture_output=True, stdin=subprocess.DEVNULL)
    return copied.stderr.decode(errors="replace").strip()


def _ffmpeg() -> str:
    return imageio_ffmpeg.get_ffmpeg_exe()


def _passthrough() -> list[str]:
    """Return the options by which frames are neither doubled nor dropped; their name depends on ffmpeg's version."""
    version = re.match(r"n?(\d+)\.(\d+)", imageio_ffmpeg.get_ffmpeg_version())
    is_old = version is not None and (int(version[1]), int(version[2])) < (5, 1)
    return ["-vsync", "0"] if is_old else ["-fps_mode", "passthrough"]


class _FrameTimes:
    """Times of the frames that ffmpeg decodes, as its filter `showinfo` logs them, and the other lines that it logs."""

    def __init__(self, stderr: IO[bytes]):
        self.said: deque[str] = deque(maxlen=20)
        self._times: Queue[float | None] = Queue()
        self._ended = threading.Event()
        self.listener = threading.Thread(target=self._listen, args=(stderr,), daemon=True)
        self.listener.start()

    def next(self) -> float | None:
        """Wait for the next frame, or the end, and return the frame's time; None if it has none."""
        while not (self._ended.is_set() and self._times.empty()):
            with suppress(Empty):
                return self._times.get(timeout=0.1)
        return None

    def _listen(self, stderr: IO[bytes]) -> None:
        base = None
        for line in stderr:
            if frame := FRAME_TIME.search(line):
                self._times.put(float(int(frame[1]) * base) if base is not None and frame[1] != b"NOPTS" else None)
            elif found := TIME_BASE.search(line):
                base = Fraction(int(found[1]), int(found[2]))
            elif b"showinfo" not in line:
                self.said.append(line.decode(errors="replace"))
        self._ended.set()


@contextmanager
def _running(command: list[str], path: Path) -> Iterator[tuple[IO[bytes], _FrameTimes]]:
    """Run ffmpeg, and yield its output and the times of its frames, each of which it logs before it writes the frame.

    Raises:
        InputError: It has failed.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout and process.stderr  # both are pipes
        times = _FrameTimes(process.stderr)
        try:
            yield process.stdout, times
            failed = process.wait() != 0
        finally:
            process.kill()  # for a reader that wants no more frames
            times.listener.join()
    if failed:
        raise _unreadable(path, _reason(times.said))


def _read_netpbm(stream: IO[bytes]) -> np.ndarray | None:
    """Read the next PPM or PGM image of a stream as ffmpeg writes them; None at the end."""
    kind, size, most = (stream.readline() for _ in range(3))
    if not most:
        return None
    width, height = map(int, size.split())
    shape = (height, width, 3) if kind.strip() == b"P6" else (height, width)
    dtype = np.dtype(np.uint8 if int(most) < 256 else ">u2")
    data = stream.read(math.prod(shape) * dtype.itemsize)
    if len(data) < math.prod(shape) * dtype.itemsize:
        return None
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("=")).reshape(shape)


def _reason(lines: Iterable[str]) -> str:
    """Return ffmpeg's last word, which is the reason of a failure."""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "ffmpeg gives no reason"


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"cannot read {path} as a video ({reason}); copy it again or convert it to mp4")
