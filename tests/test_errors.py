"""Mistakes, Ctrl-C and SIGTERM end an entry point with one line."""

import errno
import signal

import pytest

from utils.errors import InputError, exit_on_input_error, explain_failed_writes


@pytest.mark.parametrize(
    ("problem", "status", "said"),
    [(InputError("no such file"), 2, "error: no such file"), (KeyboardInterrupt(), 130, "stopped")],
)
def test_one_line_and_a_status(capsys, problem, status, said):
    @exit_on_input_error
    def main():
        raise problem

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == status
    assert capsys.readouterr().err.strip().startswith(said)


def test_sigterm_is_like_ctrl_c_and_its_handler_is_put_back(capsys):
    before = signal.getsignal(signal.SIGTERM)

    @exit_on_input_error
    def main():
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130 and "the same command does the rest" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("problem", "status", "said"),
    [
        (InputError("another process was lost"), 2, "error: another process was lost"),
        (SystemExit("error: training stopped"), 1, "error: training stopped"),
        (RuntimeError("CUDA out of memory"), 2, "error: not enough memory (CUDA out of memory)"),
        (SystemExit(0), 130, "stopped;"),
        (ValueError("a fault of ours"), 130, "stopped;"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_sigterm_on_the_way_out_leaves_the_sentence(capsys, problem, status, said, nested):
    # torchrun sends SIGTERM to the other processes when one is lost, just as they report the loss themselves.
    @exit_on_input_error
    def main():
        try:
            raise problem
        finally:
            try:
                if nested:
                    raise KeyError("cleaning up")
                signal.raise_signal(signal.SIGTERM)
            except KeyError:
                signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == status and capsys.readouterr().err.strip().startswith(said)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("number", "file", "said"),
    [
        (errno.ENOSPC, None, "cannot write in out .full.: make room there"),
        (errno.EDQUOT, None, "cannot write in out .full.: make room there"),
        (errno.EACCES, "logs", "no permission to write logs .full.: grant it"),
        (errno.EROFS, None, "no permission to write out .full.: grant it"),
    ],
)
def test_what_cannot_be_written_is_said_in_a_sentence(number, file, said):
    with pytest.raises(InputError, match=said), explain_failed_writes("out"):
        raise OSError(number, "full", file)
    with pytest.raises(FileNotFoundError), explain_failed_writes("out"):
        raise FileNotFoundError(errno.ENOENT, "nothing there", file)


def test_a_link_to_itself_is_told_in_a_sentence(tmp_path, capsys):
    (tmp_path / "loop").symlink_to("loop")

    @exit_on_input_error
    def main():
        (tmp_path / "loop").resolve(strict=True)

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and capsys.readouterr().err.startswith("error: ")
