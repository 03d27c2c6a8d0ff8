"""Ranges of a source's frames, written as `a:b` or `a:b:step`; frames count from 0, and b itself is left out."""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class FrameRange:
    """The frames first, first + step, … below end.

    Raises:
        ValueError: Fewer than two frames, which show no motion.
    """

    first: int
    end: int
    step: int = 1

    def __post_init__(self) -> None:
        if self.first < 0 or self.step < 1 or len(self.ids) < 2:
            raise ValueError(f"{self} holds no two frames: expected 0 <= a, a + step < b (b itself is left out)")

    @classmethod
    def parse(cls, text: str) -> "FrameRange":
        """Parse `a:b` or `a:b:step`.

        Raises:
            ValueError: With a sentence, for any other text.
        """
        try:
            numbers = [int(part) for part in text.split(":")]
            if len(numbers) not in (2, 3):
                raise ValueError("two or three numbers")
        except ValueError as error:
            raise ValueError(f"found {text!r}, expected a:b or a:b:step, frame numbers as in 100:220:2") from error
        return cls(*numbers)

    @property
    def ids(self) -> range:
        """The numbers of the frames."""
        return range(self.first, self.end, self.step)

    @property
    def label(self) -> str:
        """The range as part of a folder's name, such as `100-220-2`."""
        return str(self).replace(":", "-")

    def cut(self, limit: int | None) -> "FrameRange":
        """Return the range of the first `limit` frames, all of them if None."""
        if limit is None or len(self.ids) <= limit:
            return self
        return FrameRange(self.first, self.ids[limit - 1] + 1, self.step)

    def __str__(self) -> str:
        return f"{self.first}:{self.end}" + (f":{self.step}" if self.step != 1 else "")


def parse_frame_range(text: str) -> str:
    """Check the value of `--frame_range`, "" for all frames, and return it in its shortest form."""
    try:
        return str(FrameRange.parse(text)) if text else ""
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
