"""A user's mistake is one sentence and exit status 2, never a traceback."""

import argparse
import errno
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn


class InputError(Exception):
    """Something the user gave is unusable; the message says what was found, what was expected, what to do."""


class OneSentence(argparse.ArgumentParser):
    """A parser whose complaints are one sentence as well, without the list of all flags in front."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with status 2."""
        self.exit(2, f"error: {' '.join(message.split())}; give what --help says\n")


@contextmanager
def explains_full_disk(folder: Path) -> Iterator[None]:
    """While entered, a disk without room (or a spent quota) is an `InputError` that names `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"cannot write in {folder} ({error.strerror}): make room there; nothing that is done is lost, and the "
            "same command goes on"
        ) from error


def exits_on_input_error(main: Callable[..., None]) -> Callable[..., None]:
    """Decorator for an entry point: an `InputError` is one line on stderr and exit status 2, Ctrl-C one and 130."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> None:
        try:
            main(*args, **kwargs)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("\nstopped; what is done is kept, and the same command goes on from there", file=sys.stderr)
            sys.exit(130)

    return wrapped
