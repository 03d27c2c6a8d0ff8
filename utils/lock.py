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
BUSY = (errno.EACCES, errno.EAGAIN)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of the file system: some clusters' disks


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """While entered, `folder` (yielded) is this process's alone; made if missing, removed if it is empty at the end.

    The file `.lock` names the holder. It is locked by record: a child that was forked does not hold it, and it holds
    between hosts. A file system without locks is worked on without.

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
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(file, 200).decode(errors="replace") or "another process"
            if error.errno in BUSY:
                os.close(file)
                raise InputError(
                    f"{path.parent} is in use by {holder}: wait until that has ended, or stop it; the same command "
                    "then goes on"
                ) from error
            if error.errno not in NO_LOCKS:
                os.close(file)
                raise
        if _is_still(path, file):
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            return file
        os.close(file)  # its holder has removed it since it was opened


def _is_still(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
