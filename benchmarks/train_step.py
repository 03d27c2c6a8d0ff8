"""What a training step costs beside the plain form: `python -m benchmarks.train_step [--steps 5] [--json FILE]`.

Default networks with affine maps, 8 pairs x 32 points x 32 samples, pairs drawn by the training's probabilities for a
60-frame clip. Rows: the plain form (`tests/oracles/plain_model.py`), ours, ours with `--checkpoint_activations`, with
`--micro_batch 2`, and with both. Time is the median wall time of steps in turn in one process; work is counted by
torch's FlopCounterMode; memory is how far a process of its own grows beyond what it holds before the first step; "of
peak" compares the work with that of large products in the same CPU time.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import gflop_of, measure_alone, resident_bytes, times_in_turn, write_json
from benchmarks.training_setup import HEIGHT, NUM_FRAMES, WIDTH, random_batch
from criterion import Schedule, loss_weights, weighted_sum
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.rendering import jitter_depths
from tests.oracles import plain_model
from trainer import batch_losses

NUM_PAIRS, NUM_PTS, STEP = 8, 32, 1000
VARIANTS = {  # name: checkpoint_activations, micro_batch
    "ours": (False, 0),
    "ours, checkpoint_activations": (True, 0),
    "ours, micro_batch 2": (False, 2),
    "ours, both": (True, 2),
}


def make_step(name: str) -> Callable[[], object]:
    """Return a function that takes one training step in the form of a row of the table."""
    model = OmniMotion.initialised(ModelConfig(NUM_FRAMES, HEIGHT, WIDTH, use_affine=True), seed=0)
    batch, weights = random_batch(NUM_PAIRS, NUM_PTS), loss_weights(Schedule(STEP))
    depths = jitter_depths(model.depths(), (NUM_PAIRS, NUM_PTS), torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=name != "plain", foreach=False)
    if name == "plain":
        return lambda: plain_model.train_step(model, optimizer, batch, depths, weights)
    recompute, micro_batch = VARIANTS[name]
    if recompute:
        model.checkpoint_activations()

    def step() -> None:
        total = weighted_sum(batch_losses(model, batch, depths, micro_batch=micro_batch), weights)
        optimizer.zero_grad()
        total.backward()
        norm = torch.nn.utils.get_total_norm(p.grad for p in model.parameters() if p.grad is not None)
        if not torch.isfinite(total + norm):
            raise FloatingPointError("a loss or a gradient is not finite")
        optimizer.step()

    return step


def work_and_memory(name: str) -> dict[str, float]:
    """Return the GFLOP of a step, and the GB that this process grows by in the first ones."""
    step = make_step(name)
    before = resident_bytes()
    step()
    step()
    memory = resident_bytes() - before
    sizes = {"GB": memory / 1e9, "GB before": before / 1e9, "GB kept": saved_bytes(step) / 1e9}
    return {"GFLOP": gflop_of(step)[0], **sizes}  # last, for the counter keeps tensors itself


def saved_bytes(step: Callable[[], object]) -> int:
    """Return the bytes that autograd saves from the forward to the backward pass, counting each storage once.

    Recomputed layers (up to 0.2 GB) are not counted, nor with `micro_batch` those of one micro-batch.
    """
    saved: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="steps timed in each row")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # whose work and memory are printed as JSON
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.row:
        print(json.dumps(work_and_memory(args.row)))
        return
    names = ["plain", *VARIANTS]
    sizes = {name: measure_alone("train_step", "--row", name) for name in names}
    calls = {name: make_step(name) for name in names}
    for call in calls.values():
        call()
    times = times_in_turn(calls, args.steps)
    rows: dict[str, dict[str, float]] = {}
    columns = ("time", "GFLOP", "memory", "speed", "memory", "of peak", "kept")
    print(f"{'':30s}" + "".join(f"{column:>9s}" for column in columns))
    for name in names:
        row = rows[name] = {"s": times[name].seconds, **sizes[name]}
        row["of peak"] = row["GFLOP"] / times[name].peak_gflop
        faster, smaller = rows["plain"]["s"] / row["s"], row["GB"] / rows["plain"]["GB"]
        print(
            f"{name:30s}{row['s']:7.2f} s{row['GFLOP']:9.1f}{row['GB']:6.2f} GB{faster:8.2f}x{smaller:9.1%}"
            f"{row['of peak']:9.0%}{row['GB kept']:6.2f} GB"
        )
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
