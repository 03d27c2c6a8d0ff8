"""Running ffmpeg: its pictures, read from a pipe, and what it logs about each frame that it decodes."""

import math
import re
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from queue import Empty, Queue
from typing import IO

import imageio_ffmpeg
import numpy as np

from utils.errors import InputError

TIME_BASE = re.compile(rb"config in time_base: (\d+)/(\d+)")  # in lines of the filter showinfo
DAMAGE = re.compile(rb"Error submitting packet to decoder|Error while decoding stream|corrupt decoded frame")
FRAME_TIME = re.compile(rb"\] n: *\d+ pts: *(-?\d+|NOPTS) .* s:(\d+x\d+) ")


def ffmpeg_path() -> str:
    """Return the path of the program."""
    return imageio_ffmpeg.get_ffmpeg_exe()


def passthrough() -> list[str]:
    """Return the options by which frames are neither doubled nor dropped; their name depends on ffmpeg's version."""
    version = re.match(r"n?(\d+)\.(\d+)", imageio_ffmpeg.get_ffmpeg_version())
    is_old = version is not None and (int(version[1]), int(version[2])) < (5, 1)
    return ["-vsync", "0"] if is_old else ["-fps_mode", "passthrough"]


class FrameLog:
    """Frames that ffmpeg decodes, as its filter `showinfo` logs them, and the other lines that it logs.

    Args:
        stderr: The log.
        path: The video, for messages.

    Attributes:
        said: The last lines that are not about frames.
        damage: The first line about a frame that cannot be decoded; empty if there is none.
    """

    def __init__(self, stderr: IO[bytes], path: Path):
        self.path = path
        self.said: deque[str] = deque(maxlen=20)
        self.damage = ""
        self._num_frames = 0
        self._size_change: InputError | None = None
        self._times: Queue[float | InputError | None] = Queue()
        self._ended = threading.Event()
        self.listener = threading.Thread(target=self._listen, args=(stderr,), daemon=True)
        self.listener.start()

    def next(self) -> float | None:
        """Wait for the next frame, or the end, and return the frame's time; None if it has none.

        Raises:
            InputError: The frame has another size than those before it.
        """
        while not (self._ended.is_set() and self._times.empty()):
            with suppress(Empty):
                time = self._times.get(timeout=0.1)
                if isinstance(time, InputError):
                    raise time
                return time
        return None

    def count(self) -> int:
        """Wait for the end, and return the number of frames.

        Raises:
            InputError: The frames change their size.
        """
        self.listener.join()
        if self._size_change:
            raise self._size_change
        return self._num_frames

    def _listen(self, stderr: IO[bytes]) -> None:
        base, first_size = None, b""
        for line in stderr:
            if frame := FRAME_TIME.search(line):
                first_size = first_size or frame[2]
                self._check_size(frame[2], first_size)
                self._times.put(float(int(frame[1]) * base) if base is not None and frame[1] != b"NOPTS" else None)
                self._num_frames += 1
            elif found := TIME_BASE.search(line):
                base = Fraction(int(found[1]), int(found[2]))
            elif b"showinfo" not in line:
                self._keep(line)
        self._ended.set()

    def _keep(self, line: bytes) -> None:
        self.said.append(line.decode(errors="replace"))
        if DAMAGE.search(line) and not self.damage:
            self.damage = re.sub(r"\[[^]]*\] *", "", self.said[-1]).strip()

    def _check_size(self, size: bytes, first: bytes) -> None:
        if size != first and self._size_change is None:
            self._size_change = InputError(
                f"{self.path} changes its size at frame {self._num_frames}, from {first.decode()} to {size.decode()} "
                "(width x height), expected frames of one size: cut it there, or convert it to one size"
            )
            self._times.put(self._size_change)


@contextmanager
def running(command: list[str], path: Path) -> Iterator[tuple[IO[bytes], FrameLog]]:
    """Run ffmpeg, and yield its output and the log of its frames, each of which it logs before it writes the frame.

    Raises:
        InputError: It has failed.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout and process.stderr  # both are pipes
        log = FrameLog(process.stderr, path)
        try:
            yield process.stdout, log
            failed = process.wait() != 0
        finally:
            process.kill()  # for a reader that wants no more frames
            log.listener.join()
    if failed:
        raise unreadable(path, last_words(log.said))


def read_netpbm(stream: IO[bytes]) -> np.ndarray | None:
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


def last_words(lines: Iterable[str]) -> str:
    """Return ffmpeg's last line, which is the reason of a failure."""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "ffmpeg gives no reason"


def unreadable(path: Path, reason: str) -> InputError:
    """Return an error for a file that ffmpeg cannot read."""
    return InputError(f"cannot read {path} as a video ({reason}); copy it again or convert it to mp4")


def stream_errors(path: Path) -> str:
    """Return ffmpeg's error messages on copying a video without decoding it; empty if the file is complete."""
    command = ["-v", "error", "-i", str(path), "-map", "0:v:0", "-c", "copy", "-f", "null", "-"]
    copied = subprocess.run([ffmpeg_path(), *command], capture_output=True, stdin=subprocess.DEVNULL)
    return copied.stderr.decode(errors="replace").strip()
