"""What a pair of frames costs to draw: `python -m benchmarks.loader --data_dir SEQ [--batches 20] [--json FILE]`.

`SEQ` is a preprocessed sequence; the released batch of 8 pairs x 256 points, count maps on. Rows: the plain way (whole
flows and masks unpacked, a key for every valid pixel: tests/oracles/plain_loader.py), ours, and ours after the system was told
to forget the file. Columns: near pairs as at the start of training, all pairs as at its end, the same by error maps
(random ones). Time is the median over batches, drawn in turn in one process, divided by their pairs; memory is how
far a process of its own grows at most beyond what it holds before (libraries, video), mapped pages included.
Needs Linux.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import alone, resident_bytes, seconds_of, write_json
from loaders.batches import SamplingConfig
from loaders.clip import load_video
from loaders.flow_batches import FlowBatches
from loaders.flow_store import FlowStore
from loaders.mapped_flow import MappedFlowStore
from preprocessing.sequence_paths import SequencePaths
from tests.oracles.plain_loader import PlainBatches
from utils.images import list_frames

RUN = 8  # batches of ours in a row, as a worker draws them, for one of the plain way's
FORGOTTEN = "ours, file not in memory"
WAYS = {"plain": (FlowStore, PlainBatches), "ours": (MappedFlowStore, FlowBatches)}
CASES = {"near pairs": (0, False), "all pairs": (100_000, False), "error maps": (100_000, True)}  # step, by error
CONFIG = SamplingConfig(num_pairs=8, num_pts=256, start_interval=20, use_count_map=True, seed=12)


def open_batches(way: str, sequence: tuple[SequencePaths, list[str], np.ndarray], by_error: bool) -> FlowBatches:
    """The batches of a row in a column."""
    make_store, make_batches = WAYS[way]
    paths, names, video = sequence
    # Squares of normal variates: most errors small, few large, as a trained model's.
    errors = np.random.default_rng(0).standard_normal(video.shape[:3], np.float32) ** 2 + 1e-3 if by_error else None
    return make_batches(video, make_store(paths, names), CONFIG, errors)


def open_sequence(folder: Path) -> tuple[SequencePaths, list[str], np.ndarray]:
    """Paths, frame names and frames of a sequence."""
    paths = SequencePaths(folder)
    return paths, *load_video(paths)


def memory_of(way: str, folder: Path, batches: int) -> float:
    """GB that this process holds at most beyond what it holds with the video alone."""
    sequence = open_sequence(folder)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    dataset = open_batches(way, sequence, by_error=False)
    for k in range(batches):
        dataset[CASES["all pairs"][0] + k]
    return (resident_bytes() - before) / 1e9


def recall(file: Path) -> None:
    """Bring a file into the system's memory, as far as there is room."""
    with open(file, "rb") as opened:
        while opened.read(2**24):
            pass


def forget(file: Path) -> None:
    """Ask the system to drop a file's pages."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())  # pages not yet written cannot be dropped
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def times_of(sequence: tuple[SequencePaths, list[str], np.ndarray], case: str, batches: int) -> dict[str, float]:
    """Median ms of a pair of every row in one column."""
    step, by_error = CASES[case]
    datasets = {way: open_batches(way, sequence, by_error) for way in WAYS}
    file = datasets["ours"].store.file
    times: dict[str, list[float]] = {"plain": [], "ours": [], FORGOTTEN: []}
    recall(file)
    for k in range(batches):
        times["plain"].append(seconds_of(lambda k=k: datasets["plain"][step + k]))
        steps = range(step + k * RUN, step + (k + 1) * RUN)
        times["ours"] += [seconds_of(lambda s=s: datasets["ours"][s]) for s in steps]
    for k in range(batches):
        forget(file)
        times[FORGOTTEN].append(seconds_of(lambda k=k: datasets["ours"][step + k]))
    return {name: 1e3 * statistics.median(seconds) / CONFIG.num_pairs for name, seconds in times.items()}


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="a preprocessed sequence")
    parser.add_argument("--batches", type=int, default=20, help="batches timed in each cell")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--alone", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)  # as a worker process has it
    if args.alone:
        print(json.dumps({"GB": memory_of(args.alone, args.data_dir, args.batches)}))
        return
    start, paths = time.perf_counter(), SequencePaths(args.data_dir)
    store = MappedFlowStore(paths, [file.name for file in list_frames(paths.color)])
    print(f"{store.file}: {store.bytes / 1e9:.2f} GB, there after {time.perf_counter() - start:.0f} s")
    rows: dict[str, dict[str, float]] = {"file": {"GB": store.bytes / 1e9}}
    for way in WAYS:  # first, for a process begins with the largest size of the one that starts it
        rows[way] = alone("loader", *sys.argv[1:], "--alone", way)
    sequence = open_sequence(args.data_dir)
    for case in CASES:
        for name, ms in times_of(sequence, case, args.batches).items():
            rows.setdefault(name, {})[f"ms, {case}"] = ms
    print(f"{'':26s}" + "".join(f"{case:>14s}" for case in CASES) + f"{'memory':>12s}")
    for name in (*WAYS, FORGOTTEN):
        cells = "".join(f"{rows[name][f'ms, {case}']:11.2f} ms" for case in CASES)
        print(f"{name:26s}{cells}" + (f"{rows[name]['GB']:9.2f} GB" if "GB" in rows[name] else ""))
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
