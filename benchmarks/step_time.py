"""Time and memory of a training step: `python -m benchmarks.step_time [--configs FILE …] [--device cpu] [--json FILE]`.

Batches have each config's size, with random points in a clip of 60 frames of 854x480; drawing them does not count. Each
row, a config with some flags, has its own process. Shown are the median time of a step, the hours that all steps of the
config would take at that rate, and on a GPU the largest memory that torch's allocator gave out and held; the CUDA
context and libraries come on top. On a CPU there is one row for each config.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as train.py has it, before torch starts its threads

import argparse
import json
import shlex
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import measure_alone, write_json
from benchmarks.training_setup import HEIGHT, NUM_FRAMES, WIDTH, make_model, make_trainer, random_batch
from configs.flags import parse_train
from evaluation.provenance import provenance
from utils.device import pick_device
from utils.errors import exit_on_input_error
from utils.parallel import torch_threads

GPU_FLAGS = (
    *("--tf32 true", "--amp true", "--compile true", "--compile true --tf32 true --amp true"),
    *("--micro_batch 2", "--checkpoint_activations true"),
)
WARM_UP, STEPS = 10, 50


def measure(flags: list[str], device: torch.device) -> dict[str, float]:
    """Return time and memory of a training step by these flags, in this process."""
    args = parse_train([*flags, "--data_dir", "random"])
    model = make_model(args, NUM_FRAMES, HEIGHT, WIDTH, device)
    video, names = np.zeros((NUM_FRAMES, HEIGHT, WIDTH, 3), np.uint8), [f"{k:05d}.png" for k in range(NUM_FRAMES)]
    trainer = make_trainer(args, model, video, names, None, Path("unused"))  # nothing is saved
    trainer.step = args.num_iters // 2  # after the depth prior, which needs a clip's flow
    batch = random_batch(args.num_pairs, args.num_pts).to(device)
    seconds = []
    with torch_threads(args.num_threads if device.type == "cpu" else 0):
        for _ in range(WARM_UP + STEPS):
            start = time.perf_counter()
            trainer.train_step(batch)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[WARM_UP:])
    row = {"ms": 1000 * step, "hours": args.num_iters * step / 3600}
    if device.type == "cuda":
        row |= {"GB": torch.cuda.max_memory_allocated() / 1e9, "GB held": torch.cuda.max_memory_reserved() / 1e9}
    return row


@exit_on_input_error
def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=["configs/default.txt", "configs/fast.txt"])
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1 or cpu")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # the flags of one row, which is printed as JSON
    args = parser.parse_args()
    device = pick_device(args.device)
    if args.row is not None:
        print(json.dumps(measure(shlex.split(args.row), device)))
        return
    rows, made_by = {}, provenance()
    print(made_by["gpu"] if device.type == "cuda" else made_by["processor"], flush=True)
    for config in args.configs:
        for flags in ("", *GPU_FLAGS) if device.type == "cuda" else ("",):
            name = f"--config {shlex.quote(config)} {flags}".strip()
            row = measure_alone("step_time", "--device", str(device), f"--row={name}")
            print(f"{name:80s}", *(f"{value:8.2f} {unit}" for unit, value in row.items()), flush=True)
            rows[name] = row | made_by
            write_json(args.json, rows)


if __name__ == "__main__":
    main()
