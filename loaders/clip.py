"""The frames of a prepared sequence."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocessing.frames import prepare_sequence
from preprocessing.sequence_paths import SequencePaths
from utils.distributed import SINGLE_PROCESS, Context
from utils.errors import InputError
from utils.images import image_files, list_frames, read_frames, read_mask


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


@dataclass(frozen=True)
class Clip:
    """A prepared sequence: its folder, frame file names, frames uint8 [T,H,W,3], foreground bool [H,W] or None."""

    paths: SequencePaths
    names: list[str]
    video: np.ndarray
    foreground: np.ndarray | None  # of the query frame


def open_clip(args: Namespace, context: Context = SINGLE_PROCESS) -> Clip:
    """The frames that the flags name, unpacked and resized if need be (by the first of several processes).

    Raises:
        InputError: unusable frames, no such query frame, an unusable mask.
    """
    if context.size > 1:
        context.on_rank0(lambda: prepare_sequence(Path(args.data_dir), args.max_side))
    paths = prepare_sequence(Path(args.data_dir), args.max_side)
    names, video = load_video(paths, args.num_imgs)
    if not 0 <= args.query_frame_id < len(names):
        raise InputError(
            f"--query_frame_id is {args.query_frame_id}, expected one of the clip's frames, 0 to {len(names) - 1}"
        )
    foreground = _foreground(args, paths, names[args.query_frame_id], *video.shape[1:3])
    if context.rank == 0:
        if (present := len(list_frames(paths.color))) > len(names):
            print(f"the first {len(names)} of {present} frames are used (--num_imgs)")
        if foreground is not None and foreground.all():
            print("warning: the foreground mask covers the whole frame: no background tells the camera's motion")
    return Clip(paths, names, video, foreground)


def _foreground(args: Namespace, paths: SequencePaths, name: str, height: int, width: int) -> np.ndarray | None:
    """Foreground of frame `name`: the file that the flags name, else the sequence's own mask, else None."""
    own = [path for path in image_files(paths.mask) if path.stem == Path(name).stem]
    files = [Path(args.foreground_mask_path)] if args.foreground_mask_path else own
    return read_mask(files[0], height, width) if files else None
