"""The frames of a prepared sequence."""

import numpy as np

from utils.paths import SequencePaths
from utils.video_io import list_frames, read_frames


def load_video(paths: SequencePaths, num_imgs: int | None = None) -> tuple[list[str], np.ndarray]:
    """File names and RGB frames uint8 [T,H,W,3] of a sequence, at most the first `num_imgs`.

    Raises:
        InputError: fewer than two frames, frames of several sizes, an unreadable file.
    """
    files = list_frames(paths.color)[:num_imgs]
    return [file.name for file in files], read_frames(files)
