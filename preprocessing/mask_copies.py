"""Copies of masks beside copies of frames: of the frames' size, in the kind of file that they had.

A palette or an array stays one, so that a copy selects the same pixels as its mask (`utils.masks`).
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from preprocessing.sequence_paths import SequencePaths
from utils.atomic import write_array, write_atomic
from utils.conventions import Size
from utils.errors import InputError
from utils.images import decode_image, swap_red_and_blue, write_image
from utils.mask_files import LOSSY_SUFFIXES, load_mask, mask_files, read_mask_array, read_palette


def copy_masks(source: SequencePaths, frames: Mapping[str, Path], target: SequencePaths, old: Size, new: Size) -> None:
    """Copy masks that are named after a frame, resized without interpolation.

    Args:
        source: The sequence with the masks.
        frames: Its frames, by the name without suffix of each one's copy, which its mask gets, too.
        target: The sequence that gets the masks.
        old: Size of the frames.
        new: Size of their copies.

    Raises:
        InputError: A mask cannot be read, or its size is not that of the frames.
    """
    by_stem = {path.stem: path for path in mask_files(source.mask)}
    for stem, frame in frames.items():
        if frame.stem in by_stem:
            _copy_mask(by_stem[frame.stem], target.mask / stem, old, new)


def _copy_mask(path: Path, target: Path, old: Size, new: Size) -> None:
    """Write the copy of a mask to `target`, to which a suffix is added."""
    values, colours = _stored(path)
    if values.shape[:2] != old:
        raise InputError(
            f"mask {path} is {values.shape[1]}x{values.shape[0]} but its frame is {old[1]}x{old[0]} (width x height): "
            "give a mask of the frame's size, or remove it"
        )
    rows, columns = (((np.arange(n) + 0.5) * o / n).astype(int) for o, n in zip(old, new, strict=True))
    resized = values[np.ix_(rows, columns)]
    if colours:
        write_atomic(target.with_suffix(".png"), _encode_palette(resized, colours))
    elif resized.dtype in (np.uint8, np.uint16):
        write_image(target.with_suffix(".png"), swap_red_and_blue(resized))
    else:
        write_array(target.with_suffix(".npy"), resized)


def _stored(path: Path) -> tuple[NDArray, list[int]]:
    """Return the pixels of a mask file, [H,W] or [H,W,C], and the palette of indices, empty for other kinds."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return read_mask_array(path), []
    if suffix in LOSSY_SUFFIXES:  # a png of its noise would be no soft mask any more
        strength = load_mask(path).values
        return np.where(strength > strength.max() / 2, 255, 0).astype(np.uint8), []
    image = decode_image(path)
    if not np.issubdtype(image.dtype, np.integer):
        return load_mask(path).values, []
    return read_palette(path) or (image, [])


def _encode_palette(indices: NDArray[np.uint8], colours: list[int]) -> bytes:
    image, buffer = Image.fromarray(indices), io.BytesIO()
    image.putpalette(colours)
    image.save(buffer, "PNG")
    return buffer.getvalue()
