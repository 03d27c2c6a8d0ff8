"""Zip files that others made."""

import errno
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from utils.errors import InputError


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip at `path`; faults found later, while its members are read, are reported alike.

    Raises:
        InputError: not a zip, damaged, encrypted, or a member's name leads out of a folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                inside = PureWindowsPath(name)  # knows both separators, and drives
                if inside.anchor or ".." in inside.parts:
                    raise InputError(f"{path} holds {name!r}, a name that leads out of its folder: nothing is unpacked")
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:  # RuntimeError: encrypted
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a full disk, say; EINVAL: a seek before 0
            raise
        raise InputError(f"cannot read {path} as a zip ({error}): delete it and download it again") from error
