"""A user's mistake is one sentence and exit status 2, never a traceback."""

import functools
import sys
from collections.abc import Callable


class InputError(Exception):
    """Something the user gave is unusable; the message says what was found, what was expected, what to do."""


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
