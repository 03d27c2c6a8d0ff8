"""Image files: list, decode and write them.

Images are RGB uint8 [H,W,3] in memory, whatever the file holds (grey, RGBA, 16 bit, palette). Files are read
through a byte buffer, because OpenCV cannot open non-ASCII paths on every system.
"""

import io
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.atomic import write_atomic
from utils.errors import InputError

# Suffixes of formats that OpenCV reads.
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jp2", ".png", ".bmp", ".dib", ".webp", ".avif", ".tif", ".tiff"}
IMAGE_SUFFIXES |= {".ppm", ".pgm", ".pbm", ".pnm"}
PNG_MAGIC, JPEG_MAGIC = b"\x89PNG", b"\xff\xd8"


def _natural_key(path: Path) -> list[tuple[bool, int, str]]:
    """Return a sort key that compares runs of digits as numbers, so that `2.png` comes before `10.png`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]


def image_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """List a folder's image files in natural order, without hidden files; empty if there is no such folder."""
    if not Path(folder).is_dir():
        return []
    entries = (p for p in Path(folder).iterdir() if not p.name.startswith("."))
    return sorted((p for p in entries if p.suffix.lower() in suffixes and p.is_file()), key=_natural_key)


def list_frames(folder: Path) -> list[Path]:
    """List the frames of a sequence in natural order.

    Raises:
        InputError: The folder has fewer than two images, or two whose names differ only in the suffix.
    """
    frames = image_files(folder)
    by_stem: dict[str, Path] = {}
    for frame in frames:
        other = by_stem.setdefault(frame.stem, frame)
        if other is not frame:  # masks, count maps and videos are named after the stem
            raise InputError(
                f"{folder} has both {other.name} and {frame.name}, expected one frame for each name: remove or rename "
                "one of them"
            )
    if len(frames) < 2:
        raise InputError(
            f"found {len(frames)} image(s) in {folder}, expected at least two frames: "
            "put the frames there as numbered images (00000.jpg, 00001.jpg, ...)"
        )
    return frames


def decode_image(path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """Decode an image file with OpenCV.

    Args:
        path: The image file.
        flags: OpenCV's `IMREAD_*` flags; by default pixels are returned as stored.

    Returns:
        [H,W] or [H,W,C] with C = 3 (BGR) or 4 (BGRA), in the file's own dtype.

    Raises:
        InputError: The file is missing, empty, truncated or not an image.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not data:
        raise InputError(f"cannot read {path}: the file is empty; copy it again or remove it")
    if _is_truncated(data):
        raise InputError(f"cannot read {path}: the image is cut short or damaged; copy it again or remove it")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"cannot read {path}: not an image that OpenCV can decode; convert it to png or jpg")
    return image


def _is_truncated(data: bytes) -> bool:
    """Return whether a png or jpeg ends early: OpenCV leaves the missing part grey, Pillow reports it."""
    if not data.startswith((PNG_MAGIC, JPEG_MAGIC)):
        return False
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format == "PNG":
                image.verify()  # reads all chunks, decodes none
            else:
                image.draft("L", (1, 1))  # an eighth of the size, which is faster
                image.load()
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False  # OpenCV decides whether it can be decoded
    except OSError:
        return True
    return False


def _to_uint8(image: np.ndarray) -> np.ndarray:
    """Convert an image to 8 bit: the full range of integers, or 0..1 of floats, becomes 0..255."""
    if image.dtype == np.uint8:
        return image
    if np.issubdtype(image.dtype, np.floating):
        return (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return (image.astype(np.float32) * (255.0 / np.iinfo(image.dtype).max) + 0.5).clip(0, 255).astype(np.uint8)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Convert a decoded BGR(A) or grey image of any depth to RGB uint8 [H,W,3], without its alpha channel."""
    image = _to_uint8(image)
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.shape[2] == 2:  # grey with alpha
        return np.repeat(image[..., :1], 3, axis=2)
    return np.ascontiguousarray(image[..., 2::-1])


def drop_alpha(image: np.ndarray) -> np.ndarray:
    """Return the colours [H,W,3] or the grey values [H,W] of an image [H,W] or [H,W,C] without its alpha channel."""
    if image.ndim == 3 and image.shape[2] in (1, 2):
        return image[..., 0]
    return image if image.ndim == 2 else image[..., :3]


def decode_frame(path: Path) -> np.ndarray:
    """Decode one frame in its file's own depth, [H,W] or RGB [H,W,3], rotated upright as `read_frame` does.

    Raises:
        InputError: The file is missing, truncated or not an image.
    """
    return swap_red_and_blue(decode_image(path, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH))


def rgb_uint8(image: np.ndarray) -> np.ndarray:
    """Convert a frame [H,W] or RGB [H,W,3] to RGB uint8 [H,W,3]: all that an integer can hold, or 0..1, is 0..255."""
    image = _to_uint8(image)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else np.ascontiguousarray(image)


def read_frame(path: Path) -> np.ndarray:
    """Read one frame, rotated upright according to its EXIF orientation.

    Returns:
        RGB uint8 [H,W,3].

    Raises:
        InputError: The file is missing, truncated or not an image, or holds floats outside 0..1.
    """
    image = decode_frame(path)
    check_unit_floats(image, str(path))
    return rgb_uint8(image)


def check_unit_floats(image: np.ndarray, name: str) -> None:
    """Raise InputError if an image holds floats outside 0..1."""
    if np.issubdtype(image.dtype, np.floating) and not (image.min() >= 0 and image.max() <= 1):  # NaN fails too
        raise InputError(
            f"{name} holds floats from {image.min():g} to {image.max():g}, expected 0 to 1: convert it to 8 or 16 bit, "
            "or give the range of values that are shown"
        )


def iter_frames(paths: list[Path]) -> Iterator[np.ndarray]:
    """Yield the frames one by one, RGB uint8 [H,W,3].

    Raises:
        InputError: A frame cannot be read, or differs in size from the first.
    """
    size = None
    for path in paths:
        frame = read_frame(path)
        size = size or frame.shape
        if frame.shape != size:
            raise InputError(
                f"{path} is {frame.shape[1]}x{frame.shape[0]} but {paths[0].name} is {size[1]}x{size[0]} (width x "
                "height): all frames must have one size; convert or remove it"
            )
        yield frame


def read_frames(paths: list[Path]) -> np.ndarray:
    """Read all frames into one array, RGB uint8 [T,H,W,3].

    Raises:
        InputError: A frame cannot be read, or differs in size from the first.
    """
    return np.stack(list(iter_frames(paths)))


def swap_red_and_blue(image: np.ndarray) -> np.ndarray:
    """Convert BGR(A) to RGB(A) or back; an image [H,W] of one channel stays as it is."""
    if image.ndim == 2:
        return image
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # half the time of reading a frame is saved
    return np.ascontiguousarray(image[..., [2, 1, 0, *range(3, image.shape[2])]])


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image file, completely or not at all.

    Args:
        path: The file; its suffix chooses the format.
        image: RGB uint8 [H,W,3], RGBA [H,W,4], or one channel [H,W] of 8 or 16 bit.

    Raises:
        InputError: OpenCV cannot write this format.
    """
    done, data = cv2.imencode(Path(path).suffix, swap_red_and_blue(image))
    if not done:
        raise InputError(f"OpenCV cannot write {path}: choose another suffix (png, jpg)")
    write_atomic(path, data.tobytes())
