"""One process at a time in a folder; the lock of a process that is killed goes with it."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import InputError

NAME = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of the file system: some clusters' disks


_held: set[int] = set()


def _close_in_child() -> None:
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """While entered, `folder` (yielded) is this process's alone; made if missing, removed if it is empty at the end.

    The file `.lock` names the holder. Children do not hold it: those that prepare batches outlive a parent that is
    killed for seconds. A file system without locks is worked on without.

    Raises:
        InputError: another process holds it.
    """
    folder = Path(folder)
    made = [path for path in folder.parents if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    file = _acquire(folder / NAME)
    try:
        yield folder
    finally:
        (folder / NAME).unlink(missing_ok=True)  # first: whoever opened it before finds that it is no longer the lock
        _held.remove(file)
        os.close(file)
        for path in (folder, *made):
            if any(path.iterdir()):
                break
            path.rmdir()


def _acquire(path: Path) -> int:
    """The open, locked file."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                holder = os.read(file, 200).decode(errors="replace") or "another process"
                os.close(file)
                raise InputError(
                    f"{path.parent} is in use by {holder}: wait until that has ended, or stop it; the same command "
                    "then goes on"
                ) from error
            if error.errno not in NO_LOCKS:
                os.close(file)
                raise
        if _is_still(path, file):
            _held.add(file)
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            return file
        os.close(file)  # its holder has removed it since it was opened


def _is_still(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
