"""Numbers as text."""

from math import nan

from evaluation.tables import format_table, mean_and_deviation


def test_columns_are_aligned_and_a_missing_value_is_a_dash():
    lines = format_table({"model": {"AJ": 1.0, "OA": 0.5}, "flow": {"AJ": 0.25}}).splitlines()
    assert lines[0].split() == ["AJ", "OA"]
    assert lines[1].split() == ["model", "1.000", "0.500"]
    assert lines[2].split() == ["flow", "0.250", "-"]
    assert len({len(line) for line in lines}) == 1


def test_unknown_values_are_left_out_of_means():
    assert mean_and_deviation([0.5, nan, None, 0.7]) == "0.600 ± 0.141"
    assert mean_and_deviation([nan, 0.5]) == "0.500" and mean_and_deviation([nan, None]) == "-"
