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


def colors_at(frame: np.ndarray, px: np.ndarray) -> np.ndarray:
    """Bilinear colours [N,3] float32 in [0,1] of a frame uint8 [H,W,3] at pixels [N,2]; outside, those of its border.

    What `sample_bilinear` gives, but touches four pixels a point where that converts the whole frame.
    """
    last = np.array(frame.shape[1::-1]) - 1
    px = np.clip(px, 0, last)
    low = px.astype(np.int64)  # the floor, for nothing is below 0
    (x0, y0), (x1, y1) = low.T, np.minimum(low + 1, last).T
    right, down = np.moveaxis(px - low, -1, 0)[..., None]
    upper = frame[y0, x0] * (1 - right) + frame[y0, x1] * right
    lower = frame[y1, x0] * (1 - right) + frame[y1, x1] * right
    return ((upper * (1 - down) + lower * down) / 255).astype(np.float32)


def thumbnails(video: np.ndarray) -> Tensor:
    """Mean colours of the frames [T,H,W,3] on a grid, uint8 [T,8,8,3]: how a checkpoint knows its clip again."""
    small = [cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA) for frame in video]
    return torch.from_numpy(np.stack(small))


def same_clip(a: Tensor, b: Tensor) -> bool:
    """Whether two `thumbnails` are of one clip, read by whatever decoder."""
    return a.shape == b.shape and (a.int() - b.int()).abs().max() <= DECODER_TOLERANCE
