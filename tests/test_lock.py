"""One process at a time in a folder; the lock of a killed process blocks no other."""

import errno
import fcntl
import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from utils.atomic import atomic_folder
from utils.errors import InputError
from utils.lock import locked

FORK = multiprocessing.get_context("fork")


def in_another_process(work) -> Any:
    """Return what `work()` returns in a fork, or its InputError as text."""
    there, here = FORK.Pipe()

    def run():
        try:
            here.send(work())
        except InputError as error:
            here.send(str(error))

    process = FORK.Process(target=run)
    process.start()
    process.join()
    return there.recv()


def enter(folder):
    with locked(folder):
        return "entered"


def test_another_process_is_refused_and_the_holder_named(tmp_path):
    folder = tmp_path / "run"
    with locked(folder):
        said = in_another_process(lambda: enter(folder))
        assert f"{folder} is in use by process {os.getpid()} on {socket.gethostname()}" in said
        assert in_another_process(lambda: enter(tmp_path / "other")) == "entered"
    assert in_another_process(lambda: enter(folder)) == "entered"


def test_a_killed_holder_leaves_the_folder_free_even_where_its_children_live(tmp_path):
    folder = tmp_path / "run"

    def hold():
        with locked(folder):
            if os.fork() == 0:
                signal.pause()  # like a process that prepares batches, which outlives its parent for seconds
            there.send(os.getpid())
            signal.pause()

    here, there = FORK.Pipe()
    process = FORK.Process(target=hold)
    process.start()
    here.recv()
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert "in use" in in_another_process(lambda: enter(folder))
    process.kill()
    process.join()
    try:
        assert (folder / ".lock").exists() and enter(folder) == "entered"
    finally:
        os.kill(int(child), signal.SIGKILL)
    assert not list(tmp_path.iterdir())


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    flock = fcntl.flock
    files: list[int] = []

    def removed_first(file, how):
        if not files:
            (tmp_path / "run" / ".lock").unlink()  # its holder left between our opening and locking it
        files.append(file)
        flock(file, how)

    monkeypatch.setattr("fcntl.flock", removed_first)
    with locked(tmp_path / "run") as folder:
        assert len(files) == 2 and (folder / ".lock").exists()


def test_what_was_made_for_the_lock_alone_is_removed(tmp_path):
    enter(tmp_path / "out" / "run")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError), locked(tmp_path / "out" / "run") as folder:
        (folder.parent / "other").mkdir()
        raise InputError("a mistake")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["other"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_worked_on(tmp_path, monkeypatch, number):
    def none(*arguments):
        raise OSError(number, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    assert enter(tmp_path / "run") == "entered" and not list(tmp_path.iterdir())


def test_a_folder_is_made_by_one_process(tmp_path):
    def make():
        with atomic_folder(tmp_path / "made") as folder:
            (folder / "file").write_text("there")

    with atomic_folder(tmp_path / "made"):
        assert "in use by process" in in_another_process(make)
    assert in_another_process(make) is None and (tmp_path / "made" / "file").exists()
    with pytest.raises(InputError, match="was made by another process meanwhile"):
        make()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
