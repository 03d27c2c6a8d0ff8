"""Jobs in several threads: all of them run, or the first error stops them."""

import io
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from tqdm import tqdm

from utils.parallel import advance, default_workers, raise_if_stopped, run_in_threads


def test_every_job_is_gone_through_with_a_part_of_the_threads():
    done, threads = [], set()

    def work(job):
        for part in range(3):
            done.append((job, part))
            threads.add(torch.get_num_threads())
            yield

    before = torch.get_num_threads()
    run_in_threads(work, range(20), 3)
    assert sorted(done) == [(job, part) for job in range(20) for part in range(3)]
    assert threads == {max(before // 3, 1)} and torch.get_num_threads() == before


def test_the_first_error_ends_all():
    begun, go_on = [], threading.Event()

    def work(job):
        begun.append(job)
        if job == 1:
            go_on.set()
            raise ValueError("job 1")
        go_on.wait(10)
        while True:  # would never end by itself
            yield

    with pytest.raises(ValueError, match="job 1"):
        run_in_threads(work, range(50), 2)
    assert len(begun) < 50


def test_memory_bounds_the_number_of_jobs(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert default_workers(100) == 64 and default_workers(854 * 480) == 10 and default_workers(10**9) == 1
    assert default_workers(100, bytes_per_job=2**28) == 4
    # A GPU computes for one job while the others read and write; Apple's is not used from several threads.
    assert default_workers(854 * 480, "cuda") == 40 and default_workers(100, "mps") == 1


def test_parts_are_finished_behind_the_job_and_never_many_wait():
    waiting: list[int] = []
    finished, most, gate = set(), [], threading.Event()

    def finish(part):
        gate.wait(10)
        waiting.remove(part)
        finished.add((part, threading.get_ident()))

    def work(job):
        for part in range(40):
            waiting.append(part)
            most.append(len(waiting))
            yield partial(finish, part)
            if part == 3:  # 2 are being finished, 2 wait
                threading.Timer(0.1, gate.set).start()

    run_in_threads(work, range(1), 1, task_threads=2)
    assert {part for part, _ in finished} == set(range(40)) and len({thread for _, thread in finished}) == 2
    assert 4 <= max(most) <= 5  # the fifth waits for room


@pytest.mark.parametrize("task_threads", [0, 2])
def test_an_error_in_a_task_ends_all(task_threads):
    begun, finished = [], []

    def finish(part):
        if part == 7:
            raise OSError("disk full")
        finished.append(part)

    def work(job):
        for part in range(1000):
            begun.append(part)
            yield partial(finish, part)
            time.sleep(0.001)

    with pytest.raises(OSError, match="disk full"):
        run_in_threads(work, range(3), 1, task_threads)
    assert 7 <= len(begun) < 1000 and 7 not in finished


def test_a_stopped_run_drops_the_parts_that_have_not_begun():
    finished, go_on = [], threading.Event()

    def finish(part):
        go_on.wait(10)
        finished.append(part)

    def work(job):
        for part in range(4):  # 2 begin, 2 wait
            yield partial(finish, part)
        threading.Timer(0.5, go_on.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_threads(work, range(1), 1, task_threads=2)
    assert sorted(finished) == [0, 1]


def test_a_job_ends_within_its_work_where_it_looks_for_a_stop():
    started, steps = threading.Event(), []

    def work(job):
        if job == 1:
            started.wait(10)
            raise KeyboardInterrupt
        for step in range(500):
            raise_if_stopped()
            steps.append(step)
            started.set()
            time.sleep(0.02)
        yield

    with pytest.raises(KeyboardInterrupt):
        run_in_threads(work, range(2), 2)
    assert 0 < len(steps) < 500
    raise_if_stopped()  # outside of a worker nothing stops


class ClosedPipe(io.StringIO):
    """An output whose reader has ended, after the first picture of the bar."""

    def write(self, text: str) -> int:
        if "1/9" in text:
            raise BrokenPipeError
        return super().write(text)


def test_a_closed_output_ends_all_workers():
    """In a thread of its own: otherwise a failure would be waited for forever."""
    errors: list[BaseException] = []

    def run() -> None:
        with tqdm(total=9, file=ClosedPipe(), mininterval=0) as bar:

            def work(job: int) -> Iterator[None]:
                advance(bar)
                yield

            try:
                run_in_threads(work, range(9), 3)
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and isinstance(errors[0], BrokenPipeError)
