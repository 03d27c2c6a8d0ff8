"""Time and memory of training steps: `python -m benchmarks.step_time [--configs FILE …] [--data_dir SEQ]`.

Steps follow one another as in training, where the host does not wait for a GPU: timed are many of them between two
moments at which it does. Each config has a row for the step as it is and, on a GPU, rows for the kernels launched one
by one (eager) and for options. Batches have the config's size, with random points in a clip of 60 frames of 854x480,
and drawing them does not count. With a preprocessed sequence, batches are drawn from it in its place, by 4 workers or
on the device, and steps wait for them. Shown are the median time of a step, the hours that all steps of the config take
at that rate, and on a GPU whether steps were replayed as one graph, and the largest memory that torch's allocator gave
out and held; the CUDA context and libraries come on top.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as train.py has it, before torch starts its threads

import argparse
import gc
import itertools
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import write_json
from benchmarks.training_setup import HEIGHT, NUM_FRAMES, WIDTH, make_model, make_trainer, random_batch
from configs.flags import parse_train
from evaluation.provenance import provenance
from loaders.batches import Batch
from loaders.clip import load_video
from loaders.flow_store import FlowStore
from loaders.mapped_flow import MappedFlowStore
from loaders.prefetch import iterate_batches
from preprocessing.sequence_paths import SequencePaths
from trainer import Trainer
from utils.device import pick_device
from utils.errors import exit_on_input_error
from utils.parallel import torch_threads

CONFIGS = [Path("configs/default.txt"), Path("configs/fast.txt")]
EAGER, AS_IT_IS = "eager", "as it is"
OPTIONS = ("--tf32", "--amp", "--compile", "--compile --tf32 --amp", "--micro_batch 2", "--checkpoint_activations")
DRAWN = ("--num_workers 4", "--draw_on_device")
WARM_UP = 10  # steps; among them those before a graph is recorded, and the recording
BLOCKS, BLOCK_SECONDS, MAX_BLOCK = 15, 0.2, 60  # blocks of steps, how long each is about, and its most steps

Clip = tuple[list[str], np.ndarray, FlowStore | None]  # names, frames, flow
Row = dict[str, float | bool | str]


def variants(device: torch.device, drawn: bool) -> tuple[str, ...]:
    """Return what is measured of each config, in order."""
    if drawn:
        return DRAWN
    return (AS_IT_IS, EAGER, *OPTIONS) if device.type == "cuda" else (AS_IT_IS,)


def parse(config: Path, variant: str) -> Namespace:
    """Return the flags of a row."""
    flags = [] if variant in (AS_IT_IS, EAGER) else variant.split()
    return parse_train(["--config", str(config), *flags, "--data_dir", "random"])


def random_clip() -> Clip:
    """Return an empty video, for batches of random points."""
    return [f"{k:05d}.png" for k in range(NUM_FRAMES)], np.zeros((NUM_FRAMES, HEIGHT, WIDTH, 3), np.uint8), None


def open_clip(data_dir: Path) -> Clip:
    """Return the frames and the unchained flow of a preprocessed sequence."""
    paths = SequencePaths(data_dir)
    names, video = load_video(paths)
    return names, video, MappedFlowStore(paths, names, prefer_chained=False)


def measure(args: Namespace, variant: str, clip: Clip, device: torch.device) -> Row:
    """Return time and memory of training steps by these flags."""
    names, video, store = clip
    num_frames, height, width = video.shape[:3]
    is_gpu = device.type == "cuda"
    gc.collect()  # what the row before held
    if args.compile:
        torch.compiler.reset()
    held = 0
    if is_gpu:
        torch.cuda.init()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    model = make_model(args, num_frames, height, width, device)
    trainer = make_trainer(args, model, video, names, store, Path("unused"))  # nothing is saved
    if variant == EAGER:
        trainer.step_graph.recorder = None
    trainer.step = args.num_iters // 2  # after the depth prior
    steps = range(trainer.step, trainer.step + 2 * WARM_UP + BLOCKS * MAX_BLOCK)
    with torch_threads(0 if is_gpu else args.num_threads), closing(batches_of(args, trainer, steps)) as batches:
        step = step_seconds(trainer, batches)
    row: Row = {"ms": 1000 * step, "hours": args.num_iters * step / 3600}
    if is_gpu:
        given, reserved = torch.cuda.max_memory_allocated() - held, torch.cuda.max_memory_reserved()
        row |= {"GB": given / 1e9, "GB held": reserved / 1e9, "replayed": trainer.step_graph.recorder is not None}
    return row


def batches_of(args: Namespace, trainer: Trainer, steps: range) -> Generator[Batch, None, None]:
    """Yield batches: one of random points for all steps, or those that training draws."""
    if trainer.data.store is None:
        yield from itertools.repeat(random_batch(args.num_pairs, args.num_pts), len(steps))
    else:
        dataset = trainer.data.dataset(0, trainer.model)  # before the first error maps, which take long
        yield from iterate_batches(dataset, steps, 0 if args.draw_on_device else args.num_workers)


def step_seconds(trainer: Trainer, batches: Iterator[Batch]) -> float:
    """Return the time of a step, the median over blocks of steps, after each of which the host waits."""

    def take(count: int) -> float:
        start = time.perf_counter()
        for batch in itertools.islice(batches, count):
            trainer.train_step(batch)
        trainer.require_finite()
        return (time.perf_counter() - start) / count

    take(WARM_UP)
    block = max(1, min(MAX_BLOCK, round(BLOCK_SECONDS / take(WARM_UP))))
    return statistics.median(take(block) for _ in range(BLOCKS))


def measure_rows(
    configs: Sequence[Path],
    device: torch.device,
    data_dir: Path | None,
    report: Callable[[dict[str, Row]], None],
) -> dict[str, Row]:
    """Measure all rows; a row that fails holds the reason, and the others are measured.

    Args:
        configs: Settings.
        device: Where to train.
        data_dir: Preprocessed sequence to draw batches from; None: random batches.
        report: Called with the rows so far, after each.
    """
    rows: dict[str, Row] = {}
    parsed = {
        (config, variant): parse(config, variant) for variant in variants(device, bool(data_dir)) for config in configs
    }
    clip = open_clip(data_dir) if data_dir else random_clip()
    for (config, variant), args in parsed.items():
        try:
            row = measure(args, variant, clip, device)
        except Exception as error:  # of CUDA and its compilers, which raise their own
            row = {"failed": (str(error).strip() or type(error).__name__).splitlines()[0]}
        rows[f"{config.name}, {variant}"] = row
        report(rows)
    return rows


@exit_on_input_error
def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configs", nargs="+", type=Path, default=CONFIGS)
    parser.add_argument("--data_dir", type=Path, help="preprocessed sequence to draw batches from")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1 or cpu")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    args = parser.parse_args()
    device, made_by = pick_device(args.device), provenance()
    print(made_by["gpu"] if device.type == "cuda" else made_by["processor"], flush=True)

    def report(rows: dict[str, Row]) -> None:
        name, row = list(rows.items())[-1]
        cells = [
            f"{value:8.2f} {unit}" if isinstance(value, float) else f"{unit}: {value}" for unit, value in row.items()
        ]
        print(f"{name:50s}", *cells, flush=True)
        write_json(args.json, {name: {**row, **made_by} for name, row in rows.items()})

    measure_rows(args.configs, device, args.data_dir, report)


if __name__ == "__main__":
    main()
