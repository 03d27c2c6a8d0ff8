"""Ctrl-C or SIGTERM between two steps instead of in the middle of one."""

import signal
from types import FrameType


class StopRequest:
    """While entered, the first Ctrl-C (or SIGTERM) only sets `requested`; a second one interrupts as usual.

    `patient` ones only ever set it.
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
