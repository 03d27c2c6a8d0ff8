"""The frames of a prepared sequence."""

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.paths import SequencePaths
from utils.video_io import list_frames, read_frames

THUMBNAIL = 8
DECODER_TOLERANCE = 8  # of 255: JPEG and video decoders differ by a level or two, other clips by tens


def load_video(paths: SequencePaths, num_imgs: int | None = None) -> tuple[list[str], np.ndarray]:
    """File names and RGB frames uint8 [T,H,W,3] of a sequence, at most the first `num_imgs`.

    Raises:
        InputError: fewer than two frames, frames of several sizes, an unreadable file.
    """
    files = list_frames(paths.color)[:num_imgs]
    return [file.name for file in files], read_frames(files)


def thumbnails(video: np.ndarray) -> Tensor:
    """Mean colours of the frames [T,H,W,3] on a grid, uint8 [T,8,8,3]: how a checkpoint knows its clip again."""
    small = [cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA) for frame in video]
    return torch.from_numpy(np.stack(small))


def same_clip(a: Tensor, b: Tensor) -> bool:
    """Whether two `thumbnails` are of one clip, read by whatever decoder."""
    return a.shape == b.shape and (a.int() - b.int()).abs().max() <= DECODER_TOLERANCE
