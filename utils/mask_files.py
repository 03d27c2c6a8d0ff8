"""Files of masks: images and `.npy` arrays, and whether they hold labels or the strength of the foreground."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from utils.data_files import read_array
from utils.errors import InputError
from utils.images import IMAGE_SUFFIXES, decode_image, image_files

MASK_SUFFIXES = IMAGE_SUFFIXES | {".npy"}
LOSSY_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jp2"}  # their noise would be taken for labels
MAX_SMALL_LABEL = 31  # a soft mask of so few levels is unlikely


@dataclass(frozen=True)
class StoredMask:
    """The content of a mask file, [H,W].

    Attributes:
        values: One number for each pixel, 0 or more.
        kind: `labels` for certain; `numbers`, which are labels or levels; `strength`, high on the foreground; or codes
            of flat `colours`, 0 for black.
    """

    values: NDArray
    kind: Literal["labels", "numbers", "strength", "colours"]


def mask_files(folder: Path) -> list[Path]:
    """List a folder's mask files, images and `.npy`, in natural order; empty if there is no such folder."""
    return image_files(folder, MASK_SUFFIXES)


def load_mask(path: Path) -> StoredMask:
    """Load a mask file as it is stored, not resized.

    Raises:
        InputError: It is unreadable, no mask [H,W], or holds negative or infinite values or NaN.
    """
    if Path(path).suffix.lower() == ".npy":
        return _from_values(path, read_mask_array(path))
    image = decode_image(path)
    if (palette := read_palette(path)) is not None:
        return StoredMask(palette[0], "labels")
    colours = image.reshape(*image.shape[:2], -1)
    if colours.shape[2] in (2, 4):
        colours, alpha = colours[..., :-1], colours[..., -1]
        if alpha.min() != alpha.max():  # a uniform alpha channel selects nothing, so the mask is in the colours
            return StoredMask(alpha, "strength")
    brightest = colours.max(-1)
    if Path(path).suffix.lower() in LOSSY_SUFFIXES:
        return StoredMask(brightest, "strength")
    if (colours == colours[..., :1]).all() or not np.issubdtype(image.dtype, np.integer):
        return _from_values(path, brightest)
    codes = colours.astype(np.int64) @ (1 << 16 * np.arange(3))  # 16 bits for each channel
    return StoredMask(codes, "colours") if is_label_map(codes) else StoredMask(brightest, "strength")


def read_mask_array(path: Path) -> NDArray:
    """Read a `.npy` mask [H,W]; axes of length 1 in front or behind are dropped.

    Raises:
        InputError: It is unreadable, or holds another number of axes.
    """
    try:
        array = read_array(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the mask {path} ({error}): give an array [H,W] of numbers or bools") from error
    shape = list(array.shape)
    while array.ndim > 2 and 1 in (array.shape[0], array.shape[-1]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2 or array.size == 0:
        raise InputError(
            f"mask {path} holds an array {shape}, expected [H,W]: save one file for each frame, with its objects as "
            "labels 1, 2, 3"
        )
    return array


def read_palette(path: Path) -> tuple[NDArray[np.uint8], list[int]] | None:
    """Read the indices [H,W] and the RGB palette of a palette image; None for other images and for a palette of greys.

    Raises:
        InputError: The file is damaged.
    """
    try:
        with Image.open(path) as image:
            colours = image.getpalette("RGB") if image.mode == "P" else None
            if not colours or colours[::3] == colours[1::3] == colours[2::3]:
                return None
            return np.asarray(image), colours
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return None  # a format that OpenCV alone reads
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"cannot read {path}: the image is cut short or damaged; copy it again") from error


def is_label_map(numbers: NDArray) -> bool:
    """Return whether whole numbers [H,W] are labels, not the levels of a soft mask.

    They are if there is one level beside 0, if none exceeds 31, or if most levels fill areas. Soft masks have their
    levels, apart from 0 and the commonest other one, in narrow bands along edges: there, fewer than three of a pixel's
    four neighbours are equal to it. Where an edge is so wide that levels fill areas, neighbours that differ do so by 1.
    """
    levels, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    if levels[-1] <= MAX_SMALL_LABEL:
        return True
    height, width = numbers.shape
    padded = np.pad(numbers, 1, mode="edge")
    neighbours = [padded[y : y + height, x : x + width] for y, x in ((0, 1), (2, 1), (1, 0), (1, 2))]
    is_flat = np.sum([neighbour == numbers for neighbour in neighbours], axis=0) >= 3
    fills_area = np.bincount(inverse.ravel(), is_flat.ravel()) > counts / 2
    is_between = levels != 0
    is_between[np.argmax(counts * is_between)] = False
    if not is_between.any():
        return True
    steps = np.concatenate([np.abs(np.diff(numbers, axis=axis)).ravel() for axis in (0, 1)])
    is_ramp = (steps == 1).sum() > 0.9 * (steps != 0).sum()
    return bool(fills_area[is_between].mean() > 0.5) and not is_ramp


def _from_values(path: Path, values: NDArray) -> StoredMask:
    """Return what one channel [H,W] holds: bools are labels, whole numbers may be, fractions are not."""
    if values.dtype == bool:
        return StoredMask(values.astype(np.uint8), "labels")
    if not (values.min() >= 0 and np.isfinite(values.max())):  # NaN fails too
        raise InputError(
            f"mask {path} holds values from {values.min():g} to {values.max():g}, expected 0 or more: save labels, or "
            "whether each pixel is foreground (values > 0 of logits)"
        )
    is_whole = values.max() < 2**31 and (values % 1 == 0).all()
    return StoredMask(values.astype(np.int64), "numbers") if is_whole else StoredMask(values, "strength")
