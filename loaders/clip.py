"""The frames of a prepared sequence."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from loaders.clip_masks import ClipMasks, MaskOptions, check_masks, find_masks
from preprocessing.frame_range import FrameRange
from preprocessing.frames import prepare_sequence
from preprocessing.sequence_paths import SequencePaths
from preprocessing.sources import open_source
from utils.distributed import SINGLE_PROCESS, Context
from utils.errors import InputError
from utils.images import list_frames, read_frames
from utils.masks import Mask

MAX_DOUBTFUL_LEVELS = 16  # the edge of a soft mask has more, unless it is very sharp


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
    frame_range: str = "",
    value_range: str = "",
    query_frame_id: int | None = 0,
    mask_path: str = "",
    mask_options: MaskOptions | None = None,
    context: Context = SINGLE_PROCESS,
) -> Clip:
    """Prepare a sequence folder where needed (on rank 0), and read its frames.

    Args:
        data_dir: A video file, a folder of images, or a sequence folder.
        max_side: The longest side that frames may have, in pixels; None keeps their size.
        num_imgs: Use at most the first `num_imgs` frames.
        frame_range: The frames of the source to use, `a:b` or `a:b:step`; "" for all.
        value_range: The values of deep images that become 0 and 255, `lo:hi`; "" to estimate them.
        query_frame_id: The frame whose foreground is read; None reads none.
        mask_path: File with the foreground mask; "" takes the frame's own, if it has one.
        mask_options: Where the clip's masks are (None: in the sequence), and which label is foreground.
        context: This process among those that share the job.

    Raises:
        InputError: Unusable frames, no such query frame, or an unusable mask.
    """
    mask_options = mask_options or MaskOptions()
    check_masks(mask_options, mask_path)  # and the query frame: copying frames may take minutes
    if query_frame_id:
        _check_query_frame(query_frame_id, min(num_imgs, _count_frames(data_dir, frame_range)))
    prepare = partial(
        prepare_sequence, data_dir, max_side, frame_range=frame_range, value_range=value_range, limit=num_imgs
    )
    if context.size > 1:
        context.on_rank0(prepare)
    paths = prepare(log=print if context.size == 1 else lambda sentence: None)
    names, video = load_video(paths, num_imgs)
    if query_frame_id is not None:
        _check_query_frame(query_frame_id, len(names))
    masks, size = find_masks(paths, mask_options), video.shape[1:3]
    mask = None if query_frame_id is None else masks.read_foreground(names[query_frame_id], size, mask_path)
    if context.rank == 0:
        _print_foreground(mask, masks)
    return Clip(paths, names, video, None if mask is None else mask.foreground)


def _count_frames(data_dir: Path, frame_range: str) -> int:
    """Return the number of frames that are wanted of a source."""
    return len(FrameRange.parse(frame_range).ids) if frame_range else open_source(data_dir).num_frames


def _check_query_frame(frame_id: int, num_frames: int) -> None:
    if not 0 <= frame_id < num_frames:
        raise InputError(f"--query_frame_id is {frame_id}, expected one of the clip's frames, 0 to {num_frames - 1}")


def _print_foreground(mask: Mask | None, masks: ClipMasks) -> None:
    """Print which masks are used, and the rule that selected the foreground."""
    if masks.matching:
        print(masks.matching)
    if mask is not None:
        print(f"foreground mask: {mask}")
        if 1 < len(mask.levels) <= MAX_DOUBTFUL_LEVELS:
            print(
                f"warning: {mask.path} holds the levels {', '.join(map(str, mask.levels))} alone: if they are labels, "
                "choose one by --mask_label, or save them as 1, 2, 3"
            )
        if mask.foreground.all():
            print("warning: the foreground mask covers the whole frame, so camera motion cannot be estimated")


def load_video(paths: SequencePaths, num_imgs: int | None = None) -> tuple[list[str], np.ndarray]:
    """Read file names and RGB frames uint8 [T,H,W,3] of a sequence, at most the first `num_imgs`.

    Raises:
        InputError: Fewer than two frames, frames of several sizes, or an unreadable file.
    """
    files = list_frames(paths.color)[:num_imgs]
    return [file.name for file in files], read_frames(files)


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
