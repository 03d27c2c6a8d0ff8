"""Files and folders that are either whole or absent, whenever the process dies."""

import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from utils.errors import InputError
from utils.lock import locked


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix); rename it to `path` once the block succeeds.

    The temporary name is hidden and holds the process id, so that parallel writers never share one; a block that
    raises leaves `path` as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder in a hidden one beside `target`; it becomes `target` once the block succeeds.

    A block that raises leaves nothing; what a killed process left is removed first.

    Raises:
        InputError: another process makes this folder, or has just made it.
    """
    target = Path(target)
    with locked(target.with_name(f".{target.name}.partial")) as holder:
        if target.is_dir() and any(target.iterdir()):
            raise InputError(f"{target} was made by another process meanwhile: the same command goes on with it")
        staged = holder / target.name
        for left in holder.iterdir():
            shutil.rmtree(left, ignore_errors=True)  # not the lock, which is no folder
        staged.mkdir()
        try:
            yield staged
            os.replace(staged, target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; raises OSError where the disk is full (numpy's own writing need not)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_atomic(path, buffer.getvalue())


def remove_partial(root: Path) -> None:
    """Delete the temporary files that killed writers left in a folder and below.

    Those of a process that runs on this machine stay; writers on other machines must not be at work there.
    """
    for path in Path(root).rglob(".*.partial.*"):
        name = re.fullmatch(r"\..+\.(\d+)\.partial\.\w+", path.name)
        if name and path.is_file() and not _runs(int(name[1])):
            path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(pid, 0)  # asks, sends nothing
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
