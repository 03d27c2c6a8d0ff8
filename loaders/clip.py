"""The frames of a prepared sequence."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocessing.frames import prepare_sequence
from preprocessing.sequence_paths import SequencePaths
from utils.distributed import SINGLE_PROCESS, Context
from utils.errors import InputError
from utils.images import image_files, list_frames, read_frames, read_mask


@dataclass(frozen=True)
class Clip:
    """The frames of a prepared sequence that a run uses."""

    paths: SequencePaths
    names: list[str]  # file names of the frames
    video: np.ndarray  # uint8 [T,H,W,3] RGB
    foreground: np.ndarray | None  # bool [H,W] of the query frame; None without a mask


def open_clip(
    data_dir: Path,
    *,
    max_side: int | None = None,
    num_imgs: int = 250,
    query_frame_id: int = 0,
    mask_path: str = "",
    context: Context = SINGLE_PROCESS,
) -> Clip:
    """Prepare a sequence folder where needed (on rank 0), and read its frames.

    Args:
        data_dir: A video file, a folder of images, or a sequence folder.
        max_side: The longest side that frames may have, in pixels; None keeps their size.
        num_imgs: Use at most the first `num_imgs` frames.
        query_frame_id: The frame whose foreground is read.
        mask_path: File with the foreground mask; "" takes the sequence's own mask, if it has one.
        context: This process among those that share the job.

    Raises:
        InputError: Unusable frames, no such query frame, or an unusable mask.
    """
    if context.size > 1:
        context.on_rank0(lambda: prepare_sequence(data_dir, max_side))
    paths = prepare_sequence(data_dir, max_side)
    names, video = load_video(paths, num_imgs)
    if not 0 <= query_frame_id < len(names):
        raise InputError(
            f"--query_frame_id is {query_frame_id}, expected one of the clip's frames, 0 to {len(names) - 1}"
        )
    foreground = read_foreground(paths, names[query_frame_id], video.shape[1:3], mask_path)
    if context.rank == 0:
        if (present := len(list_frames(paths.color))) > len(names):
            print(f"the first {len(names)} of {present} frames are used (--num_imgs)")
        if foreground is not None and foreground.all():
            print("warning: the foreground mask covers the whole frame, so camera motion cannot be estimated")
    return Clip(paths, names, video, foreground)


def load_video(paths: SequencePaths, num_imgs: int | None = None) -> tuple[list[str], np.ndarray]:
    """Read file names and RGB frames uint8 [T,H,W,3] of a sequence, at most the first `num_imgs`.

    Raises:
        InputError: Fewer than two frames, frames of several sizes, or an unreadable file.
    """
    files = list_frames(paths.color)[:num_imgs]
    return [file.name for file in files], read_frames(files)


def read_foreground(paths: SequencePaths, name: str, size: tuple[int, int], mask_path: str = "") -> np.ndarray | None:
    """Read the foreground mask of a frame, bool [H,W].

    Args:
        paths: The sequence folder.
        name: File name of the frame.
        size: Height and width of the frame.
        mask_path: File with the mask; "" takes the sequence's own mask of this frame.

    Returns:
        The mask, or None if the sequence has none.

    Raises:
        InputError: An unusable mask.
    """
    of_frame = [path for path in image_files(paths.mask) if path.stem == Path(name).stem]
    files = [Path(mask_path)] if mask_path else of_frame
    return read_mask(files[0], *size) if files else None


def colors_at(frame: np.ndarray, px: np.ndarray) -> np.ndarray:
    """Look up colours bilinearly; outside the frame, its border is repeated.

    Equals `utils.coords.sample_bilinear`, but reads four pixels per point instead of converting the whole frame.

    Args:
        frame: Image uint8 [H,W,3].
        px: Pixels [N,2].

    Returns:
        Colours [N,3] float32 in [0,1].
    """
    last = np.array(frame.shape[1::-1]) - 1
    px = np.clip(px, 0, last)
    low = px.astype(np.int64)  # the floor, since no coordinate is negative
    (x0, y0), (x1, y1) = low.T, np.minimum(low + 1, last).T
    right, down = np.moveaxis(px - low, -1, 0)[..., None]
    upper = frame[y0, x0] * (1 - right) + frame[y0, x1] * right
    lower = frame[y1, x0] * (1 - right) + frame[y1, x1] * right
    return ((upper * (1 - down) + lower * down) / 255).astype(np.float32)
