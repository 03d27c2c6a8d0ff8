"""Error maps: the model's flow error at every pixel of every frame, kept in the run's folder.

A set of maps belongs to the step at which it was made and is used until the next set, so that a resumed run draws the
same batches as an uninterrupted one.
"""

from pathlib import Path

import cv2
import numpy as np

from utils.atomic import write_array
from utils.data_files import read_array
from utils.errors import InputError

BLUR = (5, 5)  # pixels, released constant


def error_map_path(run_dir: Path, step: int) -> Path:
    """Return the file of the maps made at `step`."""
    return run_dir / "error_maps" / f"{step:06d}.npy"


def save_error_maps(path: Path, error_maps: np.ndarray) -> None:
    """Write flow errors [T,H,W] in pixels as float16, whole or not at all."""
    write_array(path, np.minimum(error_maps, np.finfo(np.float16).max).astype(np.float16))


def load_error_maps(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Return blurred flow errors [T,H,W] in pixels, never 0, so that every pixel can be drawn.

    Args:
        path: File of the maps.
        shape: (T, H, W) of the clip.

    Raises:
        InputError: The file is damaged or belongs to another clip.
    """
    try:
        maps = read_array(path).astype(np.float32)
        if maps.shape != shape or not (np.isfinite(maps) & (maps >= 0)).all():
            raise ValueError(f"found {maps.shape}, expected {shape} numbers from 0")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}): delete it, and it will be remade") from error
    return np.stack([cv2.blur(error, BLUR) for error in maps]) + 1e-3
