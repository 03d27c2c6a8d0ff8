"""Checkpoint files: state dicts and plain data only, written whole or not at all, loaded with `weights_only=True`."""

import io
import itertools
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from utils.atomic import write_atomic
from utils.errors import InputError
from utils.torch_files import load_plain

THUMBNAIL_SIDE = 8
DECODER_TOLERANCE = 8  # of 255: decoders differ by a level or two, other clips by tens


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """Return `run_dir/model_XXXXXX.pth` of a step."""
    return run_dir / f"model_{step:06d}.pth"


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state`, whole or not at all; equal states become equal bytes."""
    buffer = io.BytesIO()  # torch.save to a path stores the file's name, and loses the reason of a failed write
    torch.save(_copied(state), buffer)
    write_atomic(path, buffer.getvalue())


def _copied(value: object) -> object:
    """Return the same content in new containers, with one object for equal strings.

    Pickle writes a repeated object as a reference, so the bytes depend on which objects are shared. Copying makes this
    the same for a state in memory and one read from a file.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {_copied(key): _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    return value


def read_checkpoint(path: Path) -> dict:
    """Return the content of a checkpoint file, tensors on the CPU.

    Raises:
        InputError: The file is not a checkpoint, or holds more than tensors and plain data.
    """
    checkpoint = load_plain(path, "a checkpoint")
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} holds a {type(checkpoint).__name__}, expected a checkpoint's dict: give another file")
    if not isinstance(checkpoint.get("flags", {}), dict):
        raise InputError(f"{path} is a damaged checkpoint (its flags are no dict): give another file or delete it")
    return checkpoint


def find_checkpoint(run_dir: Path, ckpt_path: str | None) -> Path | None:
    """Return the file `ckpt_path` if given, else the checkpoint of the largest step in `run_dir`, else None.

    Raises:
        InputError: `ckpt_path` is given and does not exist.
    """
    if ckpt_path:
        if not Path(ckpt_path).is_file():
            raise InputError(f"--ckpt_path {ckpt_path}: no such file; give an existing checkpoint or drop the flag")
        return Path(ckpt_path)
    return max(_numbered(run_dir), key=_step_of, default=None)


def newest_checkpoint(run_dir: Path) -> Path:
    """Return the checkpoint of the largest step in a run's folder.

    Raises:
        InputError: There is no such folder, or no checkpoint in it.
    """
    if not run_dir.is_dir():
        raise InputError(f"there is no folder {run_dir}: give the folder of a run, out/<expname>_<name>")
    path = find_checkpoint(run_dir, None)
    if path is None:
        raise InputError(f"{run_dir} holds no checkpoint (model_XXXXXX.pth): train first, or give another run's folder")
    return path


def _numbered(run_dir: Path) -> list[Path]:
    return [path for path in run_dir.glob("model_*.pth") if re.fullmatch(r"model_\d+", path.stem)]


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("model_"))


def set_aside(run_dir: Path, start: Path | None = None) -> Path | None:
    """Move the files in `run_dir` that a run from the checkpoint `start` must not mix with to `run_dir/earlier_<n>`.

    If `start` lies in `run_dir`, these are the later checkpoints, otherwise all checkpoints and the error maps.

    Returns:
        The new folder, or None if there was nothing to move.
    """
    if start is not None and start.resolve().parent == run_dir.resolve():
        files = [path for path in _numbered(run_dir) if _step_of(path) > _step_of(start)]
    else:
        files = [*_numbered(run_dir), *run_dir.glob("error_maps")]
    if not files:
        return None
    number = next(n for n in itertools.count(1) if not (run_dir / f"earlier_{n}").exists())
    folder = run_dir / f"earlier_{number}"
    folder.mkdir()
    for file in files:
        file.rename(folder / file.name)
    return folder


def thumbnails(video: np.ndarray) -> Tensor:
    """Reduce the frames [T,H,W,3] to uint8 [T,8,8,3], by which a checkpoint identifies its clip."""
    size = THUMBNAIL_SIDE, THUMBNAIL_SIDE
    return torch.from_numpy(np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in video]))


def same_clip(a: Tensor, b: Tensor) -> bool:
    """Return whether two `thumbnails` show the same clip, even if different decoders read it."""
    return a.shape == b.shape and bool((a.int() - b.int()).abs().max() <= DECODER_TOLERANCE)
