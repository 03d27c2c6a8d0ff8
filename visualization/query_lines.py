"""Query points from lines of text: numbers t, x, y, or the columns of a CSV file with a header."""

import csv
from collections.abc import Sequence

from utils.errors import InputError
from visualization.query_records import AXES, QueryPoints, QueryRecord, gather, has_axes


def parse_lines(lines: Sequence[str], source: str, unit: str) -> QueryPoints:
    """Parse one point a line, separated by semicolons, tabs, commas or spaces; blank lines and comments are skipped.

    The first line may name the columns. From `#` on a line is a comment, but with more than three columns only if it
    begins so, since names may hold a `#`.

    Args:
        lines: The lines.
        source: Name of the source, for messages.
        unit: What a line is called in messages: `line`, or `point` of a flag.

    Raises:
        InputError: Another number of columns, other names of columns, or a field that is no number.
    """
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    columns = list(AXES)
    if numbered and (header := _header(numbered[0][1])):
        number, columns = numbered.pop(0)[0], header
        if not has_axes(columns) or len(set(columns)) < len(columns):
            raise InputError(
                f"{source}, {unit} {number}: the columns are {', '.join(columns)}, expected t (or frame), x, y and any "
                "others, each once: correct the header"
            )
    records = []
    for number, line in numbered:
        text = line.split("#")[0] if len(columns) == len(AXES) or line.lstrip().startswith("#") else line
        try:
            if text.strip():
                fields = dict(zip(columns, _split(text, len(columns)), strict=True))
                records.append(QueryRecord.of_columns(fields, f"{unit} {number}"))
        except ValueError as error:
            found = f"{source}, point or line {number}: found {text.strip()[:80]!r}"
            raise InputError(f"{found}, expected {','.join(columns)}") from error
    return gather(records)


def _header(line: str) -> list[str] | None:
    """Return the names of columns, in small letters, if a line holds no number; a comment must name the axes."""
    is_comment = line.lstrip().startswith("#")
    line = line.lstrip("# \t") if is_comment else line.split("#")[0]
    delimiter = next((mark for mark in ";\t," if mark in line), None)
    fields = line.split() if delimiter is None else _split_at(line, delimiter)
    columns = [field.lower() for field in fields]
    if not columns or any(map(_is_number, fields)) or (is_comment and not has_axes(columns)):
        return None
    return columns


def _split(line: str, count: int) -> list[str]:
    """Split a line into `count` fields; beside semicolons and tabs, numbers may have a decimal comma.

    Raises:
        ValueError: It has another number of fields.
    """
    for delimiter in ";\t,":
        fields = _split_at(line, delimiter) if delimiter in line else []
        if len(fields) == count:
            points = [field.replace(",", ".") for field in fields]
            return [point if _is_number(point) else field for point, field in zip(points, fields, strict=True)]
    fields = line.replace(",", " ").split()
    if len(fields) != count:
        raise ValueError(f"{len(fields)} fields")
    return fields


def _split_at(line: str, delimiter: str) -> list[str]:
    try:
        (fields,) = csv.reader([line], delimiter=delimiter)
    except csv.Error:
        return []
    return [field.strip() for field in fields]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
