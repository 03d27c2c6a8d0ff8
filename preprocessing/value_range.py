"""Ranges of values that become 0 to 255, written as `lo:hi`."""

import argparse
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ValueRange:
    """Values that become 0 and 255; values outside are clipped.

    Raises:
        ValueError: The range is empty or not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self} holds no value: expected lo:hi with lo < hi")

    @classmethod
    def parse(cls, text: str) -> "ValueRange":
        """Parse `lo:hi`.

        Raises:
            ValueError: With a sentence, for any other text.
        """
        try:
            low, high = (float(part) for part in text.split(":"))
        except ValueError as error:
            raise ValueError(f"found {text!r}, expected lo:hi, two numbers as in 100:4095") from error
        return cls(low, high)

    def __str__(self) -> str:
        return f"{self.low:.10g}:{self.high:.10g}"

    def to_uint8(self, image: NDArray) -> NDArray[np.uint8]:
        """Scale an image of any depth to 0 … 255."""
        scaled = (image.astype(np.float64) - self.low) * (255 / (self.high - self.low))
        return (scaled.clip(0, 255) + 0.5).astype(np.uint8)


def parse_value_range(text: str) -> str:
    """Check the value of `--value_range`, "" for none, and return it in its shortest form."""
    try:
        return str(ValueRange.parse(text)) if text else ""
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
