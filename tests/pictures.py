"""Grey pictures to draw on, and what was drawn on them."""

import numpy as np
from numpy.typing import NDArray

RED = np.array([[255, 0, 0]], np.uint8)
GREY = 128
SIZE = (480, 640)  # large enough to be drawn as it is


def blank(num_frames: int, height: int = SIZE[0], width: int = SIZE[1]) -> NDArray[np.uint8]:
    return np.full((num_frames, height, width, 3), GREY, np.uint8)


def touched(image: NDArray, tolerance: int = 0) -> NDArray[np.bool_]:
    """Bool [H,W]: pixels that something was drawn on."""
    return (np.abs(image.astype(int) - GREY) > tolerance).any(-1)


def redness(image: NDArray) -> NDArray[np.int_]:
    """Red above green, [H,W]."""
    return (image[..., 0].astype(int) - image[..., 1]).clip(0)
