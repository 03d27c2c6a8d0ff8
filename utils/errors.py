"""A user's mistake is one sentence and exit status 2, never a traceback."""

import argparse
import errno
import functools
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

FULL, FORBIDDEN = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)
IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
NO_MEMORY = ("out of memory", "can't allocate memory")  # in what torch says of a GPU and of a CPU
STOPPED = "\nstopped; what is finished is kept, and the same command does the rest"
LESS = "give a smaller --max_side, smaller networks, fewer points or less at a time (--micro_batch, --chunk_size)"


class InputError(Exception):
    """Something the user gave is unusable; the message says what was found, what was expected, what to do."""


class OneLineErrorParser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence as well, without the list of all flags in front."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with status 2."""
        self.exit(2, f"error: {' '.join(message.split())}; give what --help says\n")

    def parse_args(self, *args, **kwargs) -> argparse.Namespace:
        """The flags; those that no file system or text file takes are refused."""
        found = super().parse_args(*args, **kwargs)
        for name, value in vars(found).items():
            text = str(value)
            if "\0" in text or text.encode(errors="ignore").decode() != text:
                self.error(f"--{name} is {text!r}, which is no text in UTF-8")
        return found


@contextmanager
def explain_failed_writes(folder: Path | str) -> Iterator[None]:
    """While entered, a disk without room, no right to write, or a file in a folder's place is an `InputError`.

    `folder` is what it names where the system names no file.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        if error.errno in FULL:
            advice = f"cannot write in {folder} ({error.strerror}): make room there; what is saved is whole"
        elif error.errno in FORBIDDEN:
            advice = f"no right to write {place} ({error.strerror}): give it, or name a folder that can be written to"
        elif error.errno in IN_THE_WAY:
            place = error.filename2 or place
            advice = f"cannot use {place} ({error.strerror}): move away what is in its place, or choose another name"
        else:
            raise
        raise InputError(f"{advice}, and the same command goes on") from error


def exit_on_input_error(main: Callable[..., None]) -> Callable[..., None]:
    """Decorator for an entry point: an `InputError`, or a want of memory, is one line on stderr and exit status 2.

    Ctrl-C and SIGTERM, which a batch system sends before it kills, are one line and 130; on the way out of something
    else, that is told: torchrun ends the others of a lost process while they are about to say so.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> None:
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with explain_failed_writes("the folder of the results"):
                main(*args, **kwargs)
        except (InputError, MemoryError, RuntimeError, KeyboardInterrupt) as error:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            interrupted = isinstance(error, KeyboardInterrupt)
            sentences = map(_sentence, _with_causes(error) if interrupted else [error])
            sentence, status = next((found for found in sentences if found), ("", 0))
            if not sentence and not interrupted:
                raise
            print(sentence or STOPPED, file=sys.stderr)
            sys.exit(status or 130)
        finally:
            signal.signal(signal.SIGTERM, previous)

    return wrapped


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that were on their way when it was raised."""
    while error is not None:
        yield error
        error = error.__context__


def _sentence(error: BaseException) -> tuple[str, int] | None:
    """What is said of an error, and the exit status; None of one that is a fault of ours, or no error."""
    if isinstance(error, InputError):
        return f"error: {error}", 2
    if isinstance(error, SystemExit) and isinstance(error.code, str):
        return error.code, 1
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's, before Python 3.13
        return f"error: {error}: give the path of what it should lead to", 2
    lacks_memory = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    if isinstance(error, MemoryError) or lacks_memory:
        reason = (str(error).splitlines() or ["none left"])[0]
        return f"error: memory does not suffice ({reason[:200]}): {LESS}", 2
    return None
