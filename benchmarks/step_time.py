"""How long a training step takes: `python -m benchmarks.step_time --config configs/demo.txt` after a training run.

Four medians, each in a process of its own: the networks as they start and as the run left them, with subnormal numbers
kept and with them flushed to 0 (as `train.py` does on a CPU). Batches are drawn beforehand and are the same.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from loaders.clip import open_clip
from loaders.flow_batches import FlowBatches
from loaders.flow_store import FlowStore
from loaders.training_data import sampling_config
from networks.checkpoints import find_checkpoint
from networks.run_checkpoints import build_model, load_resume_checkpoint
from trainer import Trainer
from utils.config import parse_config, run_dir
from utils.distributed import SINGLE_PROCESS
from utils.errors import exit_on_input_error
from utils.parallel import torch_threads

STEPS = 30


def median_step(flags: list[str], trained: bool) -> float:
    """Seconds of a step on the CPU, in this process."""
    args = parse_config(flags)
    clip = open_clip(args)
    path = find_checkpoint(run_dir(args), args.ckpt_path) if trained else None
    checkpoint = path and load_resume_checkpoint(path, args, clip.video)
    model = build_model(args, clip.video, checkpoint, torch.device("cpu"))
    store = FlowStore(clip.paths, clip.names, prefer_chained=args.chain)
    folder = Path("unused")  # nothing is saved or logged
    trainer = Trainer(
        args, model, clip.video, clip.names, store, None, folder, log=None, images=None, checkpoint=checkpoint
    )
    dataset = FlowBatches(clip.video, store, sampling_config(args, SINGLE_PROCESS))
    batches = [dataset[step] for step in range(STEPS)]
    times = []
    with torch_threads(args.num_threads):
        for batch in batches:
            start = time.perf_counter()
            trainer.train_step(batch)
            times.append(time.perf_counter() - start)
    return float(np.median(times))


@exit_on_input_error
def main() -> None:
    """Print the four medians."""
    if sys.argv[1:2] in (["kept"], ["flushed"]):
        torch.set_flush_denormal(sys.argv[1] == "flushed")  # before the threads are made, which inherit it
        print(json.dumps(median_step(sys.argv[3:], sys.argv[2] == "trained")))
        return
    parse_config(sys.argv[1:])  # --help, and mistakes, before anything is measured
    for state in ("new", "trained"):
        for subnormals in ("kept", "flushed"):
            command = [sys.executable, "-m", "benchmarks.step_time", subnormals, state, *sys.argv[1:]]
            waiting = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}  # as train.py has it
            done = subprocess.run(command, env=waiting, stdout=subprocess.PIPE, text=True, check=True)
            print(
                f"{state:8s} networks, subnormal numbers {subnormals:8s} {float(done.stdout.split()[-1]):.3f} s a step"
            )


if __name__ == "__main__":
    main()
