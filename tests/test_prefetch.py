"""Worker processes change nothing but the time, and whatever ends them is explained."""

import multiprocessing
import os
import signal
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loaders import prefetch
from loaders.batches import Batch, PairBatches, SamplingConfig
from loaders.clip import load_video
from loaders.flow_batches import FlowBatches
from loaders.flow_store import FlowStore
from loaders.prefetch import iterate_batches
from preprocessing.sequence_paths import SequencePaths
from tests.oracles.batches import same
from utils.errors import InputError

KILLED = "a process that prepares batches was killed"


@pytest.fixture(scope="module")
def dataset(scene_dir: Path) -> FlowBatches:
    paths = SequencePaths(scene_dir)
    names, video = load_video(paths)
    config = SamplingConfig(num_pairs=4, num_pts=16, start_interval=20, use_count_map=True, seed=3)
    return FlowBatches(video, FlowStore(paths, names), config)


class Prepared(PairBatches):
    """Batches that are made by a function of the step."""

    def __init__(self, prepare: Callable[[int], Batch]):
        self.prepare = prepare

    def __getitem__(self, step: int) -> Batch:
        return self.prepare(step)

    def draw_correspondences(self, *args):
        raise NotImplementedError


def empty_batch(size: int = 1) -> Batch:
    return Batch(*torch.zeros(2, 1, dtype=torch.int64), *torch.zeros(2, 1, size, 2), *torch.zeros(2, 1, size))


@pytest.mark.parametrize("num_workers", [1, 3, 8])
def test_workers_change_nothing(dataset, num_workers):
    alone = list(iterate_batches(dataset, range(5, 10), 0))
    ahead = list(iterate_batches(dataset, range(5, 10), num_workers))
    assert len(alone) == len(ahead) == 5
    assert all(same(a, b) for a, b in zip(alone, ahead, strict=True))
    assert not multiprocessing.active_children()


def test_processes_that_are_not_forks_change_nothing(dataset, monkeypatch):
    monkeypatch.setattr(prefetch, "PROCESSES", multiprocessing.get_context("spawn"))
    ahead = list(iterate_batches(dataset, range(5, 8), 1))
    assert all(same(a, dataset[step]) for step, a in zip(range(5, 8), ahead, strict=True))


def test_batches_are_prepared_ahead_but_not_without_bound():
    started = multiprocessing.Value("i", 0)

    def prepare(step: int) -> Batch:
        with started.get_lock():
            started.value += 1
        return empty_batch(10_000)

    batches = iterate_batches(Prepared(prepare), range(10**9), 2)
    next(batches)
    deadline = time.monotonic() + 30
    while started.value <= 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    assert 2 < started.value < 20
    batches.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("error", [InputError("step 5: the file is cut short; make it anew"), MemoryError("none left")])
def test_an_error_of_the_dataset_arrives_as_it_is(num_workers, error):
    def damaged(step: int) -> Batch:
        raise error

    with pytest.raises(type(error)) as raised:
        next(iterate_batches(Prepared(damaged), range(5, 10), num_workers))
    assert str(raised.value) == str(error)


def test_a_fault_of_the_program_is_no_user_error(capfd):
    def faulty(step: int) -> Batch:
        raise ZeroDivisionError("in the dataset")

    with pytest.raises(RuntimeError, match="traceback"):
        next(iterate_batches(Prepared(faulty), range(5), 1))
    assert "in the dataset" in capfd.readouterr().err


def test_a_worker_killed_before_its_first_batch_is_explained():
    def killed(step: int) -> Batch:
        os.kill(os.getpid(), signal.SIGKILL)
        return empty_batch()

    with pytest.raises(InputError, match=rf"{KILLED} \(SIGKILL\)"):
        next(iterate_batches(Prepared(killed), range(5), 1))


@pytest.mark.parametrize("size", [1, 10**6], ids=["while it waits", "while it sends"])
def test_a_killed_worker_is_explained_where_a_batch_is_taken(size):
    sent: list[Batch] = []
    batches = iterate_batches(Prepared(lambda step: empty_batch(size)), range(10**9), 2)
    next(batches)
    worker = multiprocessing.active_children()[0]
    worker.kill()
    worker.join()  # no exception comes with the signal of its death
    with pytest.raises(InputError, match=KILLED):
        while True:
            sent.append(next(batches))
    assert len(sent) < 10**4 and not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_to_the_trainer(dataset, capfd, number):
    batches = iterate_batches(dataset, range(100), 2)
    next(batches), next(batches)
    for worker in multiprocessing.active_children():
        assert worker.pid
        os.kill(worker.pid, number)
    assert all(same(batch, dataset[step]) for step, batch in zip(range(2, 100), batches, strict=True))
    assert capfd.readouterr().err == ""


def test_workers_end_with_a_killed_trainer(dataset):
    def trainer(pids) -> None:
        batches = iterate_batches(dataset, range(10**6), 3)
        next(batches)
        pids.send([worker.pid for worker in multiprocessing.active_children()])
        time.sleep(60)

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=trainer, args=(sender,))
    process.start()
    workers = receiver.recv()
    assert len(workers) == 3
    process.kill()
    process.join()
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))


def is_running(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for yet does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_nothing_grows_with_the_number_of_steps(dataset):
    peaks = []
    list(iterate_batches(dataset, range(3), 0))
    for steps in (range(10), range(10**9), range(10**9 - 10, 10**9)):
        tracemalloc.start()
        batches = iterate_batches(dataset, steps, num_workers=0)
        for _ in range(10):
            next(batches)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < peaks[0] + 2**16
