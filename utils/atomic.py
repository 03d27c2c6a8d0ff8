"""Files that are either whole or absent, whenever the process dies."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


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


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; raises OSError where the disk is full (numpy's own writing need not)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_whole(path, buffer.getvalue())


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
