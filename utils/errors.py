"""Early exits of commands: unusable input prints one sentence and exits with 2, an interruption one line and 130."""

import argparse
import errno
import functools
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

DISK_FULL, FORBIDDEN = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)
PATH_OCCUPIED = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # parts of torch's messages, on a GPU and on a CPU
USE_LESS = "give a smaller --max_side, smaller networks, fewer points or less at a time (--micro_batch, --chunk_size)"
STOPPED = "\nstopped; finished work is kept, and the same command does the rest"


class InputError(Exception):
    """Unusable input of the user; the message is one sentence: what was found, what was expected, what to do."""


class OneLineErrorParser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, not preceded by the usage of all flags."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with status 2."""
        self.exit(2, f"error: {' '.join(message.split())}; see --help for what can be given\n")

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Parse the command line; a value that no file system or text file could hold is an error."""
        found = super().parse_args(args, namespace)
        for name, value in vars(found).items():
            text = str(value)
            if "\0" in text or text.encode(errors="ignore").decode() != text:
                self.error(f"--{name} is {text!r}, which is not valid UTF-8 text")
        return found


@contextmanager
def explain_failed_writes(folder: Path | str) -> Iterator[None]:
    """Turn a failed write inside the context into an `InputError` with advice.

    It explains a full disk, missing permission and an occupied path; other errors pass unchanged.

    Args:
        folder: Folder to name in the message if the system's error names no file.

    Raises:
        InputError: A write failed for one of these reasons.
    """
    try:
        yield
    except OSError as error:
        path = error.filename or folder
        if error.errno in DISK_FULL:
            advice = f"cannot write in {folder} ({error.strerror}): make room there, saved files are complete"
        elif error.errno in FORBIDDEN:
            advice = f"no permission to write {path} ({error.strerror}): grant it, or name a writable folder"
        elif error.errno in PATH_OCCUPIED:
            path = error.filename2 or path
            advice = f"cannot use {path} ({error.strerror}): move away what is in its place, or choose another name"
        else:
            raise
        raise InputError(f"{advice}; then run the same command again") from error


def exit_on_input_error(main: Callable[..., None]) -> Callable[..., None]:
    """Decorate an entry point so that it ends with one line on stderr instead of a traceback.

    An `InputError` or a lack of memory exits with status 2. Ctrl-C and SIGTERM, which batch systems send before they
    kill a job, exit with 130. If the signal arrives while another error is being handled, that error is reported: when
    a process is lost, torchrun sends SIGTERM to the others just as they are about to report the loss.
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
            reports = map(_message_and_status, _error_chain(error) if interrupted else [error])
            message, status = next((report for report in reports if report), (STOPPED, 130))
            if message == STOPPED and not interrupted:
                raise
            print(message, file=sys.stderr)
            sys.exit(status)
        finally:
            signal.signal(signal.SIGTERM, previous)

    return wrapped


def _error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and those that were being handled when it was raised."""
    while error is not None:
        yield error
        error = error.__context__


def _message_and_status(error: BaseException) -> tuple[str, int] | None:
    """Return an error's message and exit status; None for a bug of the program or an interruption."""
    if isinstance(error, InputError):
        return f"error: {error}", 2
    if isinstance(error, SystemExit) and isinstance(error.code, str):
        return error.code, 1
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's, before Python 3.13
        return f"error: {error}: give the path of its intended target", 2
    lacks_memory = isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    if isinstance(error, MemoryError) or lacks_memory:
        reason = (str(error).splitlines() or ["none left"])[0]
        return f"error: not enough memory ({reason[:200]}): {USE_LESS}", 2
    return None


class StopRequest:
    """Context in which the first Ctrl-C or SIGTERM only sets `requested`, so that no step is interrupted.

    Args:
        patient: Whether later signals are ignored; otherwise a second one interrupts as usual.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, patient: bool = False) -> None:
        self.requested, self.patient = False, patient

    def __enter__(self) -> "StopRequest":
        self._previous = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and not self.patient:
            raise KeyboardInterrupt
        self.requested = True
