"""Query points (t, x, y) from the text of `--points`, or from a file of lines, CSV, JSON, npy or npz."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from utils.data_files import read_array, read_arrays
from utils.errors import InputError
from visualization.query_lines import parse_lines
from visualization.query_records import AXES, QueryPoints, QueryRecord, gather


def read_queries(source: str) -> QueryPoints:
    """Read query points from the text of `--points` or a file that it names.

    The text is `t,x,y;t,x,y;…` or a JSON list. Files are lines (`query_lines.parse_lines`); JSON, a list of [t, x, y]
    or of objects with `t` or `frame`, `x`, `y`, whose other values make the points' names; npy, an array [N,3]; npz,
    with `queries` [N,3].

    Raises:
        InputError: No such file, other content, no point, or frame numbers t that are not whole.
    """
    path = Path(source)
    if re.match(r"\s*\[\s*[\[{\]]", source):
        queries = _parse_json(source, "--points")
    elif ";" in source or (source.count(",") == 2 and not path.exists()):
        queries = parse_lines(source.split(";"), "--points", "point")
    elif path.suffix.lower() in (".npy", ".npz"):
        queries = _read_array(path)
    else:
        queries = _read_text(path)
    if len(queries.points) == 0:
        raise InputError(f"--points {source} holds no point: expected lines t,x,y")
    is_odd = ~np.isfinite(queries.points).all(1) | (queries.points[:, 0] % 1 != 0)
    if is_odd.any():
        raise InputError(
            f"--points: {is_odd.sum()} of {len(is_odd)} points cannot be used, {queries.list_some(is_odd)}: expected a "
            "whole frame number t and finite x, y"
        )
    return queries


def _read_text(path: Path) -> QueryPoints:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read --points {path}: expected a text, CSV, JSON, npy or npz file, or 't,x,y;t,x,y'"
        ) from error
    if path.suffix.lower() == ".json":
        return _parse_json(text, str(path))
    return parse_lines(text.splitlines(), str(path), "line")


def _read_array(path: Path) -> QueryPoints:
    is_npy = path.suffix.lower() == ".npy"
    expected = f"expected an {'npy file with an array' if is_npy else 'npz file with queries'} [N,3] (t, x, y)"
    try:
        array = read_array(path) if is_npy else read_arrays(path, "queries")[0]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read --points {path} ({error}): {expected}") from error
    if array.ndim != 2 or array.shape[1] != len(AXES):
        raise InputError(f"--points {path} holds an array {list(array.shape)}: {expected}")
    return QueryPoints(array.astype(np.float32), places=tuple(f"row {i}" for i in range(1, len(array) + 1)))


def _parse_json(text: str, source: str) -> QueryPoints:
    expected = "expected a list of [t, x, y] or of objects with t (or frame), x and y"
    try:
        entries: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot read {source} as JSON ({error}): {expected}") from error
    records = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        is_triple = isinstance(entry, list) and len(entry) == len(AXES)
        columns = dict(zip(AXES, entry, strict=True)) if is_triple else entry
        try:
            records.append(QueryRecord.of_columns(columns, f"point {number}"))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{source}, point {number}: found {str(entry)[:80]}, {expected}") from error
    return gather(records)
