"""Reading and writing image files: frames and masks.

Images are RGB uint8 [H,W,3] in memory, whatever the file holds (grey, RGBA, 16 bit, palette). Files are read
through a byte buffer, because OpenCV cannot open non-ASCII paths on every system.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from utils.atomic import write_atomic
from utils.errors import InputError

# What OpenCV reads.
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jp2", ".png", ".bmp", ".dib", ".webp", ".avif", ".tif", ".tiff"}
IMAGE_SUFFIXES |= {".ppm", ".pgm", ".pbm", ".pnm"}


def natural_key(path: Path) -> list[tuple[bool, int, str]]:
    """Sort key that compares runs of digits as numbers, so that `2.png` comes before `10.png`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]


def image_files(folder: Path) -> list[Path]:
    """Image files of a folder in natural order, hidden files left out; empty without such a folder."""
    if not Path(folder).is_dir():
        return []
    entries = (p for p in Path(folder).iterdir() if not p.name.startswith("."))
    return sorted((p for p in entries if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()), key=natural_key)


def list_frames(folder: Path) -> list[Path]:
    """Frames of a sequence, in natural order.

    Raises:
        InputError: fewer than two images, or two of one name in different formats.
    """
    frames = image_files(folder)
    by_stem: dict[str, Path] = {}
    for frame in frames:
        other = by_stem.setdefault(frame.stem, frame)
        if other is not frame:  # masks, count maps and videos are named after the stem
            raise InputError(
                f"{folder} has both {other.name} and {frame.name}, expected one frame of a name: remove or rename one"
            )
    if len(frames) < 2:
        raise InputError(
            f"found {len(frames)} image(s) in {folder}, expected at least two frames: "
            "put the frames there as numbered images (00000.jpg, 00001.jpg, ...)"
        )
    return frames


def decode_image(path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """File → array as OpenCV decodes it (unchanged, or as `flags` say): [H,W] or [H,W,C], C in (3, 4), BGR(A).

    Raises:
        InputError: missing, empty, truncated or undecodable file, named in the message.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if data.size == 0:
        raise InputError(f"cannot read {path}: the file is empty; copy it again or remove it")
    if _is_cut_short(data.tobytes()):
        raise InputError(f"cannot read {path}: the image is cut short; copy it again or remove it")
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"cannot read {path}: not an image that OpenCV can decode; convert it to png or jpg")
    return image


def _is_cut_short(raw: bytes) -> bool:
    """Whether a png or jpeg lacks its end marker: OpenCV decodes such files silently, part of it grey."""
    if raw.startswith(b"\x89PNG"):
        return b"IEND" not in raw
    if not raw.startswith(b"\xff\xd8"):
        return False
    # A thumbnail inside the header and what cameras append have end markers of their own, so the image's own is looked
    # for, the first one after the header's segments. In its data 255 is always followed by 0 or another marker.
    start = 2
    while raw[start : start + 1] == b"\xff" and raw[start + 1 : start + 2] != b"\xda":
        fill = raw[start + 1 : start + 2] == b"\xff"
        start += 1 if fill else 2 + int.from_bytes(raw[start + 2 : start + 4], "big")
    return b"\xff\xd9" not in raw[start:]


def _to_uint8(image: np.ndarray) -> np.ndarray:
    """8-bit version of an image; 16-bit values keep their high byte's scale (65535 → 255)."""
    if image.dtype == np.uint8:
        return image
    if np.issubdtype(image.dtype, np.floating):
        return (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return (image.astype(np.float32) * (255.0 / np.iinfo(image.dtype).max) + 0.5).clip(0, 255).astype(np.uint8)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Decoded BGR(A) or grey image of any depth → RGB uint8 [H,W,3]; alpha is dropped."""
    image = _to_uint8(image)
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.shape[2] == 2:  # grey with alpha
        return np.repeat(image[..., :1], 3, axis=2)
    return np.ascontiguousarray(image[..., 2::-1])


def read_frame(path: Path) -> np.ndarray:
    """One frame as RGB uint8 [H,W,3], upright as its EXIF orientation says.

    Raises:
        InputError: missing, truncated or undecodable file, or floats outside 0…1, named in the message.
    """
    image = decode_image(path, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if np.issubdtype(image.dtype, np.floating) and not (image.min() >= 0 and image.max() <= 1):  # NaN fails too
        raise InputError(
            f"{path} holds floats from {image.min():g} to {image.max():g}, expected 0 to 1: convert it to 8 or 16 bit"
        )
    return to_rgb(image)


def iter_frames(paths: list[Path]) -> Iterator[np.ndarray]:
    """Frames as RGB uint8 [H,W,3], one after the other.

    Raises:
        InputError: an unreadable frame, or frames of different sizes (the first odd one is named).
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
    """Frames as RGB uint8 [T,H,W,3]. Raises InputError as `iter_frames` does."""
    return np.stack(list(iter_frames(paths)))


def _foreground(image: np.ndarray) -> np.ndarray:
    """Decoded mask image → bool [H,W]."""
    if image.ndim == 3 and image.shape[2] == 4:
        alpha = image[..., 3]
        # An alpha channel that is one value everywhere says nothing: the mask is then in the colours.
        values = alpha if alpha.min() != alpha.max() else image[..., :3].max(-1)
    else:
        values = image if image.ndim == 2 else image.max(-1)
    # Labels 0/1 are a common way to store a mask, and would all lie below half of the range.
    full = np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else 1.0
    return values > 0 if values.max() <= 1 else values > full / 2


def read_mask(path: Path, height: int, width: int) -> np.ndarray:
    """Foreground mask, bool [H,W]: alpha where it varies, else the brightest channel, above half its range.

    A mask that holds only 0 and 1 counts its ones. An RGBA mask with uniform alpha is read from its colours. One of
    another size but the frames' proportions (frames may have been reduced) is scaled to theirs.

    Raises:
        InputError: missing, of other proportions than the frames, or selecting nothing.
    """
    if not Path(path).is_file():
        raise InputError(f"no mask at {path}: give an image file, RGBA, grey or RGB")
    mask = _foreground(decode_image(path))
    rows, columns = mask.shape
    # Reducing rounds one side by up to half a pixel: that much the proportions may differ.
    if 2 * abs(rows * width - columns * height) > max(rows, columns):
        raise InputError(
            f"mask {path} is {columns}x{rows} but its frame is {width}x{height} (width x height): give the frame's own"
        )
    mask = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    if not mask.any():
        raise InputError(f"mask {path} selects nothing: expected bright (or opaque) pixels on the foreground")
    return mask


def write_image(path: Path, rgb: np.ndarray) -> None:
    """Write RGB uint8 [H,W,3], or one channel [H,W] of 8 or 16 bit; the suffix chooses the format."""
    image = rgb if rgb.ndim == 2 else np.ascontiguousarray(rgb[..., ::-1])
    done, data = cv2.imencode(Path(path).suffix, image)
    if not done:
        raise InputError(f"OpenCV cannot write {path}: choose another suffix (png, jpg)")
    write_atomic(path, data.tobytes())
