"""Tables of named numbers as text."""

import math

Row = dict[str, float]


def format_table(rows: dict[str, Row]) -> str:
    """Return named rows as an aligned table for the terminal, with a dash where a row has no value."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [["", *columns]]
    for label, row in rows.items():
        cells.append([label, *(_cell(row.get(name)) for name in columns)])
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns) + 1)]
    lines = []
    for label, *numbers in cells:
        aligned = [number.rjust(size) for number, size in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([label.ljust(widths[0]), *aligned]).rstrip())
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"  # counts are whole numbers
