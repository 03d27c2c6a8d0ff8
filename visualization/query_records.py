"""Query points gathered from records, whose columns are `t` or `frame`, `x`, `y`, and others that make a name."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AXES = ("t", "x", "y")
MAX_LISTED = 5  # points in a message


@dataclass(frozen=True)
class QueryPoints:
    """N query points in pixels, integer = pixel centre.

    Attributes:
        points: float32 [N,3] (t, x, y).
        names: A name for each; empty if the points have none.
        places: Where each stands in its source, such as `line 3`; empty for `point 1`, `point 2`, ….
    """

    points: NDArray[np.float32]
    names: tuple[str, ...] = ()
    places: tuple[str, ...] = ()

    def list_some(self, chosen: NDArray[np.bool_]) -> str:
        """Return places and values of the first chosen points [N], and how many more are chosen."""
        rows = np.flatnonzero(chosen).tolist()
        shown = [f"{self._place(i)} ({','.join(f'{value:g}' for value in self.points[i])})" for i in rows[:MAX_LISTED]]
        return ", ".join(shown) + (f" and {len(rows) - MAX_LISTED} more" if len(rows) > MAX_LISTED else "")

    def _place(self, index: int) -> str:
        return self.places[index] if self.places else f"point {index + 1}"


@dataclass(frozen=True)
class QueryRecord:
    """A query point (t, x, y) with its name, empty if it has none, and its place in the source."""

    txy: tuple[float, float, float]
    name: str
    place: str

    @classmethod
    def of_columns(cls, columns: Mapping[str, Any], place: str) -> "QueryRecord":
        """Build it from its columns; where there are both `frame` and `t`, `t` is part of the name.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: A column is missing or holds no number.
        """
        keys = ("frame" if "frame" in columns else "t", "x", "y")
        t, x, y = (float(columns[key]) for key in keys)
        others = (str(value) for key, value in columns.items() if key not in keys and value is not None)
        return cls((t, x, y), " ".join(filter(None, others)), place)


def has_axes(columns: Collection[str]) -> bool:
    """Return whether columns give frame and position."""
    return {"x", "y"} <= set(columns) and bool({"t", "frame"} & set(columns))


def gather(records: Sequence[QueryRecord]) -> QueryPoints:
    """Return the points of records; they have names if one of them has."""
    points = np.array([record.txy for record in records], np.float32).reshape(-1, len(AXES))
    names = tuple(record.name for record in records)
    return QueryPoints(points, names if any(names) else (), tuple(record.place for record in records))
