"""Mistakes and Ctrl-C end an entry point with one line."""

import pytest

from utils.errors import InputError, exits_on_input_error


@pytest.mark.parametrize(
    ("problem", "status", "said"),
    [(InputError("no such file"), 2, "error: no such file"), (KeyboardInterrupt(), 130, "stopped")],
)
def test_one_line_and_a_status(capsys, problem, status, said):
    @exits_on_input_error
    def main():
        raise problem

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == status
    assert capsys.readouterr().err.strip().startswith(said)
