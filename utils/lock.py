"""Locks on folders that only one process at a time may use."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from utils.errors import InputError

LOCK_NAME = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # from file systems without locks, as some clusters have
WAIT_S = 0.2  # a process that is just leaving has removed the lock file within this time


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Lock `folder` for this process while the context is entered; the lock of a killed process ends with it.

    The folder is made if it is missing and removed if it is empty at the end. Its file `.lock` names the holder.
    Forked children do not hold the lock, so those that outlive a killed parent do not block the next run. On a file
    system without locks, the folder is used unlocked.

    Args:
        folder: The folder, which is yielded.

    Raises:
        InputError: Another process holds the folder.
    """
    folder = Path(folder)
    created = [path for path in folder.parents if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock_file = folder / LOCK_NAME
    lock = FileLock(lock_file, thread_local=False, fallback_to_soft=False)
    _acquire(lock, lock_file)
    try:
        lock_file.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield folder
    finally:
        # Before the release, so that a process that waits on this file notices that it is no longer the lock.
        lock_file.unlink(missing_ok=True)
        lock.release()
        for path in (folder, *created):
            if any(path.iterdir()):
                break
            path.rmdir()


def _acquire(lock: FileLock, lock_file: Path) -> None:
    try:
        lock.acquire(timeout=WAIT_S)
    except Timeout as error:
        holder = "another process"
        with suppress(OSError):  # the holder may leave at this moment
            holder = lock_file.read_text(errors="replace") or holder
        raise InputError(
            f"{lock_file.parent} is in use by {holder}: wait until it ends, or stop it; then run the same command again"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
