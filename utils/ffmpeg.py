"""Videos as ffmpeg reads them: what a file holds, and its frames in order, each once, with their times."""

import math
import re
import subprocess
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from utils.errors import InputError
from utils.ffmpeg_process import ffmpeg_path, last_words, passthrough, read_netpbm, running, unreadable

# Pixel formats of measurements, whose values need not fill 16 bits; other deep formats are made to be looked at.
DEEP_GREY, DEEP_RGB = re.compile(r"gray(9|1\d)|ya16"), re.compile(r"(rgb|bgr)48|rgba64|bgra64|gbra?p(9|1\d)(?!\d)")
# One picture for each stored frame; square pixels, of which no row or column is lost.
SQUARE = r"scale=w='if(gt(sar\,1)\,round(iw*sar)\,iw)':h='if(lt(sar\,1)\,round(ih/sar)\,ih)',setsar=1"


class TimedImage(NamedTuple):
    """A frame [H,W] or [H,W,3] (RGB) of any depth, and its time in seconds, None where the file has none."""

    image: np.ndarray
    time: float | None


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself.

    Attributes:
        num_frames: Number of coded frames to be shown, as far as they were counted.
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

    @property
    def unused_bits(self) -> int:
        """Number of bits by which values have to be shifted once ffmpeg has stretched them to 16 bits."""
        bits = re.match(r"(?:gray|gbra?p)(9|1\d)", self.pixel_format)
        return 16 - int(bits[1]) if bits else 0


class Decoded(NamedTuple):
    """What the decoding of a video has shown.

    Attributes:
        num_frames: Number of frames of the file; None if it was not decoded to its end.
        damage: ffmpeg's words about a frame that it cannot decode; empty if there is none.
    """

    num_frames: int | None
    damage: str


def probe_video(path: Path, most: int | None = None) -> VideoInfo:
    """Read a video file without decoding it.

    Args:
        path: The file.
        most: Number of frames after which to stop; None to count all of them.

    Raises:
        InputError: ffmpeg cannot read it, it holds no video, or it ends early.
    """
    # An absolute path: ffmpeg would take the part of a relative one before a colon for a protocol.
    command = [ffmpeg_path(), "-hide_banner", "-i", str(Path(path).absolute()), "-map", "0:V:0", "-c", "copy"]
    command += [] if most is None else ["-frames:v", str(most)]
    run = subprocess.run([*command, "-f", "framecrc", "-"], capture_output=True, stdin=subprocess.DEVNULL)
    text = run.stderr.decode(errors="replace")
    if "Input #0" in text and not re.search(r"Stream #0.*: Video: (?!.*attached pic)", text):
        raise unreadable(path, "ffmpeg finds no video in it")
    if re.search(r"Input #0, tty,|Stream #0.*: Video: (ansi|bintext|xbin|idf)\b", text):
        raise unreadable(path, "it holds text, which ffmpeg would draw as pictures")
    stream = re.search(r"Output #0.*?Stream #0:0.*?: (Video: [^\n]*)", text, re.DOTALL)
    if run.returncode or not stream:
        raise unreadable(path, last_words(text.splitlines()))
    if ": partial file" in text or "File ended prematurely" in text:
        # The number of frames would not show it: the duration in the header may be that of the sound.
        raise InputError(f"cannot read {path}: the video is cut short; copy it again, or convert what is left of it")
    fps, aspect = re.search(r", ([\d.]+k?) fps", stream[1]), re.search(r"SAR ([1-9]\d*):([1-9]\d*)", stream[1])
    pixel_format = re.search(r"Video: [^,]+, (\w+)", stream[1])
    return VideoInfo(
        num_frames=_count_shown(run.stdout),
        fps=float(fps[1].replace("k", "e3")) if fps else None,
        pixel_format=pixel_format[1] if pixel_format else "",
        pixel_aspect=Fraction(int(aspect[1]), int(aspect[2])) if aspect else Fraction(1),
    )


def _count_shown(listing: bytes) -> int:
    """Count the packets in a listing by ffmpeg, without those that an edit list hides (flag 4)."""
    packets = [line for line in listing.splitlines() if not line.startswith(b"#")]
    flags = [re.search(rb", F=0x([\dA-F]+)", line) for line in packets]
    return sum(found is None or not int(found[1], 16) & 4 for found in flags)


def decode_video(
    path: Path, ids: Sequence[int] | None = None, pixel_format: str = "rgb24", unused_bits: int = 0
) -> Generator[TimedImage, None, Decoded]:
    """Yield the frames of a video file in order, each stored frame once; decode no further than needed.

    Args:
        path: The file.
        ids: Numbers of the frames to yield, increasing from 0; None for all. Those that the file lacks are left out.
        pixel_format: rgb24, rgb48be or gray16be, which determines the depth of the frames.
        unused_bits: Number of bits by which values are shifted to the right, to be those of the file.

    Returns:
        What the decoding has shown, to a reader of all these frames (`yield from`).

    Raises:
        InputError: ffmpeg cannot read the file, or ends early, or the frames change their size.
    """
    first, step = (ids[0], math.gcd(*(i - ids[0] for i in ids)) or 1) if ids is not None else (0, 1)
    end = math.inf if ids is None else ids[-1] + 1
    wanted = None if ids is None else set(ids)
    select = f"select='between(n\\,{first}\\,{end - 1})*not(mod(n-{first}\\,{step}))'," if ids is not None else ""
    most = [] if ids is None else ["-frames:v", str(len(range(first, ids[-1] + 1, step)))]
    codec = ["-c:v", "pgm" if "gray" in pixel_format else "ppm", "-pix_fmt", pixel_format]
    options = ["-map", "0:V:0", "-vf", f"showinfo=checksum=0,{select}{SQUARE}", *passthrough(), *most, *codec]
    # One filter graph for all frames: in a second one, after a change of size or format, numbers would start anew.
    command = [ffmpeg_path(), "-hide_banner", "-nostats", "-nostdin", "-reinit_filter", "0"]
    command += ["-i", str(Path(path).absolute()), *options, "-f", "image2pipe", "-"]
    with running(command, path) as (stdout, log):
        for _ in tqdm(range(first), f"decoding up to frame {first}", disable=not first, leave=False):
            log.next()
        number = first
        while (image := read_netpbm(stdout)) is not None:
            time = log.next()
            if wanted is None or number in wanted:
                yield TimedImage(image >> unused_bits if unused_bits else image, time)
            for _ in range(step - 1 if number + step < end else 0):
                log.next()
            number += step
        return Decoded(log.count() if number < end else None, log.damage)
