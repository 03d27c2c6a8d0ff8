"""Images of more than 8 bits, and floats beyond 0 to 1: all frames of a clip are scaled by one range to 8 bits."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from preprocessing.source import Source
from preprocessing.value_range import ValueRange
from utils.errors import InputError
from utils.images import check_unit_floats, rgb_uint8

PERCENTILES = (0.1, 99.9)  # of the sampled frames' values: some hot or dead pixels do not stretch the range
SAMPLED_FRAMES = 16
SAMPLED_PIXELS = 100_000  # of each frame, so that 16 frames of 4K need little memory


def needs_range(source: Source, first: NDArray, given: ValueRange | None, ids: Sequence[int] | None) -> bool:
    """Return whether the frames of a source have to be scaled by a range of values.

    Args:
        source: The source.
        first: A frame of it.
        given: The range that the user has given.
        ids: The frames that are used; None for all.

    Raises:
        InputError: A range is given for images of 8 bits, or a sampled image holds NaN.
    """
    if first.dtype == np.uint8:
        if given:
            raise InputError(
                f"--value_range is {given}, but frames of {source.path} have 8 bits and stay as they are: drop it"
            )
        return False
    if given or not np.issubdtype(first.dtype, np.floating):
        return True
    sampled = _sample(source, range(source.num_frames) if ids is None else ids)
    return not all(values.min() >= 0 and values.max() <= 1 for values in sampled)


def estimate_range(source: Source, ids: Sequence[int]) -> ValueRange:
    """Return the range between `PERCENTILES` of the values of sampled frames, or all of it if that is empty.

    Raises:
        InputError: All values are equal, or one is NaN.
    """
    values = np.concatenate([frame.astype(np.float64) for frame in _sample(source, ids)])
    low, high = np.percentile(values, PERCENTILES)
    if low == high:
        low, high = values.min(), values.max()
    if low == high:
        raise InputError(
            f"all sampled values of {source.path} are {low:g}, expected frames that show something: give other frames, "
            "or their range (--value_range lo:hi)"
        )
    return ValueRange(float(low), float(high))


def to_rgb_uint8(image: NDArray, first: NDArray, scaling: ValueRange | None, name: str) -> NDArray[np.uint8]:
    """Convert a frame to RGB uint8 [H,W,3].

    Args:
        image: The frame, [H,W] or RGB [H,W,3].
        first: The clip's first frame.
        scaling: The range of values that becomes 0 to 255; None for images of 8 bits and floats in 0 to 1.
        name: Name of the frame, for messages.

    Raises:
        InputError: It has another depth than the first frame, or holds NaN.
    """
    if image.dtype.kind != "f" and image.dtype != first.dtype:
        raise InputError(
            f"{name} holds {image.dtype} and the first frame {first.dtype}, expected one kind of values: convert all "
            "frames to one depth"
        )
    if scaling is None:
        try:
            check_unit_floats(image, name)
        except InputError as error:
            raise InputError(f"{error} (--value_range lo:hi)") from error
        return rgb_uint8(image)
    _check_finite(image, name)
    return rgb_uint8(scaling.to_uint8(image))


def _sample(source: Source, ids: Sequence[int]) -> list[NDArray]:
    """Return values [N,C] of pixels of some frames, evenly spread over `ids`."""
    chosen = sorted({ids[round(k)] for k in np.linspace(0, len(ids) - 1, SAMPLED_FRAMES).tolist()})
    sampled = []
    for i, frame in zip(chosen, source.read(chosen), strict=False):
        _check_finite(frame.image, source.name_of(i))
        height, width = frame.image.shape[:2]
        sampled.append(frame.image.reshape(height * width, -1)[:: _pixel_step(height, width)])
    return sampled


def _pixel_step(height: int, width: int) -> int:
    """Return the step between sampled pixels, which has no factor in common with the width: all columns are met."""
    step = max(1, height * width // SAMPLED_PIXELS)
    while math.gcd(step, width) > 1:
        step += 1
    return step


def _check_finite(image: NDArray, name: str) -> None:
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise InputError(
            f"{name} holds NaN or infinite values, expected finite numbers: replace them (numpy.nan_to_num), or leave "
            "this frame out"
        )
