"""What a training step takes on a GPU: `python -m benchmarks.gpu_step [--configs FILE …] [--json FILE]`.

Batches of each config's size, of random points, for a clip of 60 frames of 854x480; drawing them does not count. Each
row, a config with some flags, has a process of its own: the median time of its steps, for how long all steps of the
config would take at that rate, and the largest size that torch's allocator gave out and that it held. The CUDA context
and libraries come on top. `benchmarks.gpu_memory` counts the same bytes without a GPU.
"""

import argparse
import json
import shlex
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import alone, write_json
from benchmarks.train_step import NUM_FRAMES, draw_batch
from evaluation.provenance import provenance
from networks.run_checkpoints import build_model
from networks.runtime import configure_runtime
from trainer import Trainer
from utils.config import parse_config
from utils.errors import InputError, exit_on_input_error

FLAGS = (
    *("", "--tf32 true", "--amp true", "--compile true", "--compile true --tf32 true --amp true"),
    *("--micro_batch 2", "--checkpoint_activations true"),
)
WARM_UP, STEPS = 10, 50


def measure(flags: list[str], name: str = "cuda") -> dict[str, float]:
    """Time and memory of a training step by these flags on a device of this name, in this process."""
    args, device = parse_config([*flags, "--data_dir", "random"]), torch.device(name)
    video = np.zeros((NUM_FRAMES, 480, 854, 3), np.uint8)
    model = build_model(args, video, None, device)
    configure_runtime(model, args)
    names, folder = [f"{k:05d}.png" for k in range(NUM_FRAMES)], Path("unused")  # nothing is saved
    trainer = Trainer(args, model, video, names, None, None, folder, log=None, images=lambda step: {})
    trainer.step = args.num_iters // 2  # the depth prior, which needs a clip's flow, is over
    batch = draw_batch(args.num_pts, args.num_pairs).to(device)
    seconds = []
    for _ in range(WARM_UP + STEPS):
        start = time.perf_counter()
        trainer.train_step(batch)
        if name == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[WARM_UP:])
    held = {"GB": torch.cuda.max_memory_allocated() / 1e9, "GB held": torch.cuda.max_memory_reserved() / 1e9}
    return {"ms": 1000 * step, "hours": args.num_iters * step / 3600, **held}


@exit_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=["configs/default.txt", "configs/fast.txt"])
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--only", help="the flags of one row, whose figures are printed as JSON")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        raise InputError("torch sees no GPU here: run this where torch.cuda.is_available() is true")
    if args.only is not None:
        print(json.dumps(measure(shlex.split(args.only))))
        return
    print(torch.cuda.get_device_name(), flush=True)
    rows, made_by = {}, provenance()
    for config in args.configs:
        for flags in FLAGS:
            name = f"--config {shlex.quote(config)} {flags}".strip()
            row = alone("gpu_step", f"--only={name}")
            print(f"{name:80s}", *(f"{value:8.2f} {unit}" for unit, value in row.items()), flush=True)
            rows[name] = row | made_by
            write_json(args.json, rows)


if __name__ == "__main__":
    main()
