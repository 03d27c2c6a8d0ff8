"""Atomic writes: files and folders are either complete or absent, even if the process is killed."""

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
    """Yield a temporary path beside `path`, with the same suffix, and rename it to `path` if the block succeeds.

    The temporary name is hidden and holds the process id, so that parallel writers never share one. A block that
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
    """Yield an empty folder inside a hidden one beside `target`, and rename it to `target` if the block succeeds.

    A block that raises leaves nothing; leftovers of a killed process are removed first.

    Raises:
        InputError: Another process is making this folder, or has just made it.
    """
    target = Path(target)
    with locked(target.with_name(f".{target.name}.partial")) as holder:
        if target.is_dir() and any(target.iterdir()):
            raise InputError(f"{target} was made by another process meanwhile: run the same command again to use it")
        staged = holder / target.name
        for leftover in holder.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)  # keeps the lock, which is not a folder
        staged.mkdir()
        try:
            yield staged
            os.replace(staged, target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file, completely or not at all.

    Raises:
        OSError: The file could not be written, for example because the disk is full.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file, completely or not at all.

    Raises:
        OSError: The file could not be written, for example because the disk is full.
    """
    buffer = io.BytesIO()
    np.save(buffer, array)  # not to the file, because numpy may not notice a full disk
    write_atomic(path, buffer.getvalue())


def remove_partial(root: Path) -> None:
    """Delete the temporary files that killed writers left in a folder or its subfolders.

    Files of a process that still runs on this machine are kept; writers on other machines must not be active there.
    """
    for path in Path(root).rglob(".*.partial.*"):
        name = re.fullmatch(r"\..+\.(\d+)\.partial\.\w+", path.name)
        if name and path.is_file() and not _is_running(int(name[1])):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 is not sent, only checked
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
