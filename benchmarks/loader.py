"""What it costs to draw batches: `python -m benchmarks.loader --data_dir SEQ [--batches 20] [--json FILE]`.

`SEQ` is a preprocessed sequence; the released batch of 8 pairs x 256 points, with count maps. Rows: the plain form
(whole flows and masks unpacked, a key for every valid pixel: `tests/oracles/plain_loader.py`), ours, and ours after the
system dropped the file's pages. Columns: near pairs as at the start of training, all pairs as at its end, the same with
error maps (random ones). Time is the median over batches, drawn in turn in one process, divided by their pairs; memory
is how far a process of its own grows beyond what it holds before (libraries, video), mapped pages included. Needs
Linux.
"""

import argparse
import json
import os
import resource
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import measure_alone, resident_bytes, seconds_of, write_json
from loaders.batches import SamplingConfig
from loaders.clip import load_video
from loaders.flow_batches import FlowBatches
from loaders.flow_store import FlowStore
from loaders.mapped_flow import MappedFlowStore
from preprocessing.sequence_paths import SequencePaths
from tests.oracles.plain_loader import PlainBatches
from utils.images import list_frames

Clip = tuple[list[str], np.ndarray]  # names and frames
RUN = 8  # batches of ours in a row, as a worker draws them, for one of the plain form's
UNCACHED = "ours, file not in memory"
FORMS: dict[str, tuple[type[FlowStore], type[FlowBatches]]] = {
    "plain": (FlowStore, PlainBatches),
    "ours": (MappedFlowStore, FlowBatches),
}
CASES = {"near pairs": (0, False), "all pairs": (100_000, False), "error maps": (100_000, True)}  # step, error maps
CONFIG = SamplingConfig(num_pairs=8, num_pts=256, start_interval=20, use_count_map=True, seed=12)


def open_batches(form: str, paths: SequencePaths, clip: Clip, with_error_maps: bool) -> FlowBatches:
    """Return the batches of a form."""
    make_store, make_batches = FORMS[form]
    names, video = clip
    # Squares of normal variates: most errors are small and few large, like a trained model's.
    normal = np.random.default_rng(0).standard_normal(video.shape[:3], np.float32)
    return make_batches(video, make_store(paths, names), CONFIG, normal**2 + 1e-3 if with_error_maps else None)


def memory_of(form: str, paths: SequencePaths, batches: int) -> float:
    """Return the GB that this process grows by, beyond the video, when it draws batches."""
    clip = load_video(paths)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    dataset = open_batches(form, paths, clip, with_error_maps=False)
    for k in range(batches):
        dataset[CASES["all pairs"][0] + k]
    return (resident_bytes() - before) / 1e9


def read_through(file: Path) -> None:
    """Bring a file into the system's memory, as far as there is room."""
    with open(file, "rb") as opened:
        while opened.read(2**24):
            pass


def drop_pages(file: Path) -> None:
    """Let the system drop a file's pages."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())  # pages not yet written cannot be dropped
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def times_of(paths: SequencePaths, clip: Clip, file: Path, case: str, batches: int) -> dict[str, float]:
    """Return the median ms of a pair of every row in one column."""
    step, with_error_maps = CASES[case]
    datasets = {form: open_batches(form, paths, clip, with_error_maps) for form in FORMS}
    times: dict[str, list[float]] = {"plain": [], "ours": [], UNCACHED: []}
    read_through(file)
    for k in range(batches):
        times["plain"].append(seconds_of(partial(datasets["plain"].__getitem__, step + k)))
        steps = range(step + k * RUN, step + (k + 1) * RUN)
        times["ours"] += [seconds_of(partial(datasets["ours"].__getitem__, s)) for s in steps]
    for k in range(batches):
        drop_pages(file)
        times[UNCACHED].append(seconds_of(partial(datasets["ours"].__getitem__, step + k)))
    return {name: 1e3 * statistics.median(seconds) / CONFIG.num_pairs for name, seconds in times.items()}


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="a preprocessed sequence")
    parser.add_argument("--batches", type=int, default=20, help="batches timed in each cell")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    parser.add_argument("--row", choices=FORMS, help=argparse.SUPPRESS)  # whose memory is printed as JSON
    args = parser.parse_args()
    torch.set_num_threads(1)  # as a worker process has it
    paths = SequencePaths(args.data_dir)
    if args.row:
        print(json.dumps({"GB": memory_of(args.row, paths, args.batches)}))
        return
    start = time.perf_counter()
    store = MappedFlowStore(paths, [file.name for file in list_frames(paths.color)])
    print(f"{store.file}: {store.bytes / 1e9:.2f} GB, there after {time.perf_counter() - start:.0f} s")
    rows: dict[str, dict[str, float]] = {"file": {"GB": store.bytes / 1e9}}
    given = ["--data_dir", str(args.data_dir), "--batches", str(args.batches)]
    for form in FORMS:  # first, for a process starts with the largest size of its parent
        rows[form] = measure_alone("loader", *given, "--row", form)
    clip = load_video(paths)
    for case in CASES:
        for name, ms in times_of(paths, clip, store.file, case, args.batches).items():
            rows.setdefault(name, {})[f"ms, {case}"] = ms
    print(f"{'':26s}" + "".join(f"{case:>14s}" for case in CASES) + f"{'memory':>12s}")
    for name in (*FORMS, UNCACHED):
        cells = "".join(f"{rows[name][f'ms, {case}']:11.2f} ms" for case in CASES)
        print(f"{name:26s}{cells}" + (f"{rows[name]['GB']:9.2f} GB" if "GB" in rows[name] else ""))
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
