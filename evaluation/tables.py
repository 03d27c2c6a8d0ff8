"""Tables of named numbers as text."""

from collections.abc import Sequence
from math import isnan
from statistics import mean, stdev

Row = dict[str, float]


def format_table(rows: dict[str, Row]) -> str:
    """Return named rows as an aligned table for the terminal, with a dash where a row lacks a column."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [["", *columns]]
    for label, row in rows.items():
        cells.append([label, *(f"{row[name]:.3f}" if name in row else "-" for name in columns)])
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns) + 1)]
    lines = []
    for label, *numbers in cells:
        aligned = [number.rjust(size) for number, size in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([label.ljust(widths[0]), *aligned]).rstrip())
    return "\n".join(lines)


def markdown_table(header: list[str], cells: list[list[str]]) -> str:
    """Return rows of text as a Markdown table, aligned so that it can be read in the terminal, too."""
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    lines = [" | ".join(text.ljust(size) for text, size in zip(line, widths, strict=True)) for line in [header, *cells]]
    rule = " | ".join("-" * size for size in widths)
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])


def mean_and_deviation(values: Sequence[float | None]) -> str:
    """Return mean ± standard deviation of the known values (neither None nor NaN), a dash where there is none."""
    known = [value for value in values if value is not None and not isnan(value)]
    if not known:
        return "-"
    return f"{mean(known):.3f}" + (f" ± {stdev(known):.3f}" if len(known) > 1 else "")
