"""Tables of `benchmarks.gpu`: how each part ended, and what it found."""

from collections.abc import Mapping
from contextlib import suppress

from benchmarks.tables import code_and_machine, markdown_table


def gpu_tables(parts: Mapping[str, dict]) -> str:
    """Return Markdown: a table of all parts, and one of what each reported.

    Args:
        parts: Outcome and provenance of each part, by name.
    """
    cells = [[name, each["status"], f"{each['seconds']:.0f}", _text(each["reason"])] for name, each in parts.items()]
    tables = [markdown_table(["part", "outcome", "s", "reason"], cells)]
    tables += [f"{name}\n\n{_result_table(each['result'])}" for name, each in parts.items() if each["result"]]
    return "\n\n".join([*tables, f"Code and machine: {code_and_machine(parts.values())}."])


def _result_table(result: dict) -> str:
    """Return the rows of a result that holds rows, or its entries as rows."""
    rows = {name: row for name, row in result.items() if isinstance(row, dict)}
    if not rows:
        return markdown_table(["", "value"], [[name, _text(value)] for name, value in result.items()])
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return markdown_table(
        ["", *columns], [[name, *(_text(row.get(each)) for each in columns)] for name, row in rows.items()]
    )


def _text(value: object) -> str:
    """Return a cell: numbers, those that tests record as text included, in three digits."""
    if value is None:
        return "-"
    with suppress(ValueError):
        return f"{float(value):.3g}" if isinstance(value, (float, str)) else str(value)
    return str(value).replace("|", "\\|")  # of a progress bar, say
