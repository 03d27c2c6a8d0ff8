"""Which pairs there are, and that their flows are written once, whole, the same by any number of processes."""

import threading
import time

import numpy as np
import pytest

from preprocessing.flow_files import missing_flows, pack_flow, read_flow, unpack_flow, write_flow
from preprocessing.flow_pairs import write_flows
from preprocessing.pairs import WINDOW, Pairs
from preprocessing.sequence_paths import SequencePaths
from utils.distributed import Context
from utils.errors import InputError
from utils.images import write_image


@pytest.mark.parametrize("num_frames", [2, 5, 9, 12])
def test_all_pairs_come_once_each_sweep_beginning_beside_its_source(num_frames):
    pairs = Pairs(num_frames)
    found = pairs.all()
    assert len(found) == num_frames * (num_frames - 1) == len(set(found)) and all(i != j for i, j in found)
    assert all(abs(j - i) == 1 + k for i, js in pairs.sweeps() for k, j in enumerate(js))


@pytest.mark.parametrize("num_frames", [2, 8, 9, 10, 33, 120, 500])
def test_sparse_pairs_are_near_or_doubled_and_grow_as_n_log_n(num_frames):
    pairs = Pairs(num_frames, "sparse")
    gaps = [*range(1, WINDOW + 1), *(WINDOW * 2**k for k in range(1, 12))]
    expected = {(i, j) for i in range(num_frames) for j in range(num_frames) if abs(i - j) in gaps}
    assert set(pairs.all()) == expected and len(pairs.all()) == len(expected)
    assert len(expected) <= 2 * num_frames * (WINDOW + np.log2(num_frames))


def test_a_doubled_gap_comes_after_its_halves():
    pairs = Pairs(100, "sparse")
    order = {pair: k for k, pair in enumerate(pairs.all())}
    for i, j in (pair for gap in pairs.doubled_gaps() for pair in pairs.with_gap(gap)):
        middle = (i + j) // 2
        assert max(order[i, middle], order[middle, j]) < order[i, j]


class NamingEstimator:
    """Estimates flow whose value names its pair; lists the pairs, and fails at one of them."""

    def __init__(self, block=1, fail_at=None, workers=2):
        self.estimated, self.block, self.fail_at, self.workers = [], block, fail_at, workers

    def estimate_sweeps(self, sweeps):
        assert len(sweeps) <= self.block and len({js[0] > i for i, js in sweeps}) == 1
        yield from (self.named(pair) for pair in sorted((abs(i - j), i, j) for i, js in sweeps for j in js))

    def estimate_from(self, pairs, starts):
        assert len(pairs) <= self.block
        for (i, j), start in zip(pairs, starts, strict=True):
            middle = (i + j) // 2
            assert (start == 10 * i + middle + 10 * middle + j).all()  # composed of its halves
            yield self.named((abs(i - j), i, j))

    def named(self, pair):
        _, i, j = pair
        self.estimated.append((i, j))
        if (i, j) == self.fail_at:
            raise InputError("stop here")
        return (i, j), np.full((2, 3, 2), 10 * i + j, np.float32)


NAMES = [f"{k}.png" for k in range(4)]


def write_frames(paths):
    for name in NAMES:
        write_image(paths.color / name, np.zeros((2, 3, 3), np.uint8))


@pytest.mark.parametrize("workers", [1, 2])  # one has threads behind it, which write
@pytest.mark.parametrize("block", [1, 3])
def test_a_killed_run_keeps_its_files_and_is_finished_later(tmp_path, block, workers):
    paths, pairs = SequencePaths(tmp_path), Pairs(4)
    write_frames(paths)
    with pytest.raises(InputError, match="stop here"):
        write_flows(paths, NAMES, pairs, NamingEstimator(block, (2, 3), workers))
    left = missing_flows(paths, pairs.named(NAMES))
    assert ("2.png", "3.png") in left and len(left) <= 12
    write_flow(paths, "0.png", "1.png", np.zeros((2, 3, 2)))  # existing files are kept, whatever they hold
    write_flows(paths, NAMES, pairs, NamingEstimator(block, workers=workers))
    assert missing_flows(paths, pairs.named(NAMES)) == []
    assert read_flow(paths, "0.png", "1.png").max() == 0
    assert (read_flow(paths, "2.png", "3.png") == 23).all()
    assert len(list(paths.flow("a", "b").parent.iterdir())) == 12
    again = NamingEstimator(block, workers=workers)
    write_flows(paths, NAMES, pairs, again)
    assert again.estimated == []


def test_a_flow_that_cannot_be_written_ends_the_estimation(tmp_path, monkeypatch):
    paths, estimator = SequencePaths(tmp_path), NamingEstimator(workers=1)
    write_frames(paths)

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("preprocessing.flow_pairs.write_flow", full)
    with pytest.raises(OSError, match="No space left"):
        write_flows(paths, NAMES, Pairs(4), estimator)
    assert missing_flows(paths, Pairs(4).named(NAMES)) == Pairs(4).named(NAMES)


def test_processes_share_the_pairs_and_miss_none(tmp_path):
    names, pairs = [f"{k}.png" for k in range(34)], Pairs(34, "sparse")
    estimators = [NamingEstimator(block) for block in (4, 3, 5)]  # as GPUs with other programs allow
    meeting = threading.Barrier(3, timeout=20)
    blocks: list[int] = []

    class Part(Context):
        def barrier(self):
            meeting.wait()

        def all_gather_object(self, items):
            blocks.extend(items)
            meeting.wait()
            return blocks

    work = [
        threading.Thread(target=write_flows, args=(SequencePaths(tmp_path), names, pairs, estimator, Part(rank, 3)))
        for rank, estimator in enumerate(estimators)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    estimated = [pair for estimator in estimators for pair in estimator.estimated]
    assert sorted(estimated) == sorted(pairs.all())
    assert min(len(estimator.estimated) for estimator in estimators) > 0.8 * len(estimated) / 3
    assert (read_flow(SequencePaths(tmp_path), "1.png", "33.png") == 43).all()


def test_packing_keeps_a_32nd_of_a_pixel_and_nan():
    rng = np.random.default_rng(0)
    flow = (rng.standard_normal((23, 17, 2)) * [400, 3]).astype(np.float32)
    flow[3, 5:9], flow[7, 7] = np.nan, 1e6
    back = unpack_flow(pack_flow(flow))
    assert back.dtype == np.float32 and (np.isnan(back) == np.isnan(flow)).all()
    assert (back[7, 7] == (2**15 - 1) / 16).all()
    flow[7, 7] = back[7, 7]
    assert np.nanmax(np.abs(back - flow)) <= 1 / 32


def test_flow_files_of_both_kinds_are_read_as_float32_or_refused(tmp_path):
    paths = SequencePaths(tmp_path)
    released = paths.released_flow("a", "b")
    released.parent.mkdir()
    np.save(released, np.full((2, 3, 2), 1.5, np.float16))
    assert read_flow(paths, "a", "b").dtype == np.float32 and missing_flows(paths, [("a", "b")]) == []
    write_flow(paths, "a", "b", np.full((2, 3, 2), 2.5))
    assert (read_flow(paths, "a", "b") == 2.5).all()
    np.save(paths.released_flow("a", "image"), np.zeros((2, 3, 3)))
    paths.released_flow("a", "cut").write_bytes(released.read_bytes()[:-4])
    paths.flow("a", "packedcut").write_bytes(paths.flow("a", "b").read_bytes()[:-4])
    paths.flow("a", "text").write_text("not a flow")
    for name in ("image", "cut", "packedcut", "text", "gone"):
        with pytest.raises(InputError, match=name):
            read_flow(paths, "a", name)


def test_the_first_error_ends_all_blocks_at_their_next_pair(tmp_path):
    class Slow(NamingEstimator):
        def estimate_sweeps(self, sweeps):
            for found in super().estimate_sweeps(sweeps):
                time.sleep(0.05)
                yield found

    names, estimator = [f"{k}.png" for k in range(40)], Slow(fail_at=(1, 2))
    with pytest.raises(InputError, match="stop here"):
        write_flows(SequencePaths(tmp_path), names, Pairs(40), estimator)
    assert len(estimator.estimated) < 15  # of 39 in the other block
