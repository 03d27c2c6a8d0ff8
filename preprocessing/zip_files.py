"""Zip files from untrusted sources, opened with checks."""

import errno
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from utils.errors import InputError


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file; damage found while members are read inside the context raises the same error.

    Raises:
        InputError: The file is not a zip, is damaged or encrypted, or a member's name leads out of its folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                inside = PureWindowsPath(name)  # with both separators, and drive letters
                if inside.anchor or ".." in inside.parts:
                    raise InputError(
                        f"{path} holds {name!r}, a name that leads out of its folder: nothing is unpacked; get the "
                        "file from its publisher"
                    )
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:  # RuntimeError: encrypted
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # such as a full disk; EINVAL is a seek before 0
            raise
        raise InputError(f"cannot read {path} as a zip ({error}): delete it and download it again") from error
