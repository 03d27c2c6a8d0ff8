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


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """`model_XXXXXX.pth` of a step."""
    return run_dir / f"model_{step:06d}.pth"


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state`, whole or not at all; equal states become equal bytes."""
    buffer = io.BytesIO()  # torch would write the name of a file into it, and hide why writing failed
    torch.save(_plain(state), buffer)
    write_atomic(path, buffer.getvalue())


def _plain(value: object) -> object:
    """The same content, in new containers and with one object for equal texts.

    An object that pickle meets again becomes a reference; which ones it does must not depend on their having been read.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value


def find_checkpoint(run_dir: Path, ckpt_path: str | None) -> Path | None:
    """The file `ckpt_path` if given, else the checkpoint of the largest step in `run_dir`, else None.

    Raises:
        InputError: `ckpt_path` is given and does not exist.
    """
    if ckpt_path:
        if not Path(ckpt_path).is_file():
            raise InputError(f"--ckpt_path {ckpt_path}: no such file; give an existing checkpoint or drop the flag")
        return Path(ckpt_path)
    return max(_numbered(run_dir), key=_step_of, default=None)


def newest_checkpoint(run_dir: Path) -> Path:
    """The checkpoint of the largest step in a run's folder.

    Raises:
        InputError: no such folder, or no checkpoint in it.
    """
    if not run_dir.is_dir():
        raise InputError(f"there is no folder {run_dir}: give that of a run, out/<expname>_<name>")
    path = find_checkpoint(run_dir, None)
    if path is None:
        raise InputError(f"{run_dir} holds no checkpoint (model_XXXXXX.pth): train first, or give another run's folder")
    return path


def _numbered(run_dir: Path) -> list[Path]:
    return [path for path in run_dir.glob("model_*.pth") if re.fullmatch(r"model_\d+", path.stem)]


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("model_"))


def read_checkpoint(path: Path) -> dict:
    """The content of a checkpoint file, tensors on the CPU.

    Raises:
        InputError: the file is not a checkpoint, or holds more than tensors and plain data.
    """
    checkpoint = load_plain(path, "a checkpoint")
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} holds a {type(checkpoint).__name__}, expected the dict of a checkpoint: give another")
    if not isinstance(checkpoint.get("flags", {}), dict):
        raise InputError(f"{path} is a damaged checkpoint (its flags are no dict): give another or delete it")
    return checkpoint


def set_aside(run_dir: Path, start: Path | None = None) -> Path | None:
    """Move what did not lead to the checkpoint `start` to the first free `run_dir/earlier_<n>`; None if there is none.

    That is later checkpoints where `start` lies in `run_dir` itself, else all of them and the error maps.
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


THUMBNAIL = 8
DECODER_TOLERANCE = 8  # of 255: JPEG and video decoders differ by a level or two, other clips by tens


def thumbnails(video: np.ndarray) -> Tensor:
    """Mean colours of the frames [T,H,W,3] on a grid, uint8 [T,8,8,3]: how a checkpoint knows its clip again."""
    small = [cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA) for frame in video]
    return torch.from_numpy(np.stack(small))


def same_clip(a: Tensor, b: Tensor) -> bool:
    """Whether two `thumbnails` are of one clip, read by whatever decoder."""
    return a.shape == b.shape and (a.int() - b.int()).abs().max() <= DECODER_TOLERANCE
