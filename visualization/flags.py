"""Flags of pictures: which points, which frames, how they are drawn and where they go."""

import argparse
from collections.abc import Callable

from visualization.style_names import STYLE_NAMES


def frame_range(text: str) -> tuple[int, int]:
    """`a:b` → (a, b), the frames a to b − 1."""
    try:
        first, end = (int(part) for part in text.split(":"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a:b, two frame numbers, as in 10:40") from error
    if not 0 <= first < end:
        raise argparse.ArgumentTypeError(f"{text!r} holds no frame: expected 0 <= a < b (b itself is left out)")
    return first, end


def rectangle(text: str) -> tuple[int, int, int, int]:
    """`x0,y0,x1,y1` → the pixels x0 to x1 − 1 and y0 to y1 − 1."""
    try:
        x0, y0, x1, y1 = (int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, expected x0,y0,x1,y1 in whole pixels") from error
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise argparse.ArgumentTypeError(f"{text!r} holds no pixel: expected 0 <= x0 < x1 and 0 <= y0 < y1")
    return x0, y0, x1, y1


def above_zero(kind: Callable[[str], float]) -> Callable[[str], float]:
    """The flag type of a number of that kind above 0."""

    def parse(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text}, expected more than 0")
        return value

    return parse


def add_picture_flags(parser: argparse.ArgumentParser) -> None:
    """Declare them, in a group of their own."""
    group = parser.add_argument_group("pictures")
    add = group.add_argument
    add("--style", nargs="+", choices=[*STYLE_NAMES, "all"], default=["all"], help="what viz.py draws")
    add("--points", default="", help="query points: a file of lines t,x,y, an npz with queries [N,3], or 't,x,y;t,x,y'")
    density = group.add_mutually_exclusive_group().add_argument
    density("--grid_interval", type=above_zero(int), help="pixels between the query points (default: about 250 points)")
    density("--random", type=above_zero(int), help="this many query points at random places instead of a grid")
    add("--region", type=rectangle, help="x0,y0,x1,y1: query points only in this rectangle")
    add("--frames", type=frame_range, help="a:b: draw the frames a to b-1 only")
    add("--fps", type=above_zero(float), help="pictures a second (default: the source's, else 10)")
    add("--radius", type=above_zero(float), help="radius of the marks, pixels of the pictures (default: by their size)")
    add("--trail_length", type=above_zero(int), default=10, help="frames until a trail has faded")
    add("--out", default="", help="folder of the pictures (default: vis/ in the run's folder)")
