"""Numbers as text."""

from evaluation.tables import format_table


def test_columns_are_aligned_and_a_missing_value_is_a_dash():
    lines = format_table({"model": {"AJ": 1.0, "OA": 0.5}, "flow": {"AJ": 0.25}}).splitlines()
    assert lines[0].split() == ["AJ", "OA"]
    assert lines[1].split() == ["model", "1.000", "0.500"]
    assert lines[2].split() == ["flow", "0.250", "-"]
    assert len({len(line) for line in lines}) == 1
