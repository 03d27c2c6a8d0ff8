"""Tables of named numbers as text."""

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
