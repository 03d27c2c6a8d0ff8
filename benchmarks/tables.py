"""Tables of several runs in Markdown: mean and deviation, and which code made them."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from statistics import mean, stdev


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


def code_and_machine(records: Iterable[Mapping[str, str | int | None]]) -> str:
    """Return the distinct commits and machines of several measurements, given their provenance."""
    return "; ".join(sorted({f"{made['commit']} on {made['gpu'] or made['processor']}" for made in records}))
