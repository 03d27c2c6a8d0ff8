"""What a training step costs: `python -m benchmarks.train_step [--steps 5] [--json FILE]`.

Default networks with affine maps, 8 pairs x 32 points x 32 samples, pairs drawn by the training's probabilities for a
60-frame clip. Rows: the plain form (tests/oracles/plain_model.py), ours, ours with
`--checkpoint_activations`, with `--micro_batch 2`, with both. Time is the median wall time of steps in turn in one
process; work is counted by torch's FlopCounterMode; memory is how far a process of its own grows beyond what it holds
before the first step (libraries, weights: "GB before" in the JSON); "of peak" compares the work with that of large
products in the same CPU time.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import alone, gflop_of, resident_bytes, times_in_turn, write_json
from loaders.batches import Batch
from loaders.pair_sampling import cycled_frames, partner_probabilities
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from criterion import Schedule, loss_weights, weighted_sum
from trainer import batch_losses
from networks.rendering import jitter_depths
from tests.oracles import plain_model

NUM_FRAMES, NUM_PAIRS, NUM_PTS, STEP = 60, 8, 32, 1000
VARIANTS = {  # name: checkpoint_activations, micro_batch
    "ours": (False, 0),
    "ours, checkpoint_activations": (True, 0),
    "ours, micro_batch 2": (False, 2),
    "ours, both": (True, 2),
}


def draw_batch(num_pts: int, num_pairs: int = NUM_PAIRS) -> Batch:
    """Pairs as training draws them where every pair of frames has as many valid pixels; random points."""
    rng, counts = np.random.default_rng(0), np.ones((NUM_FRAMES, NUM_FRAMES), int)
    src = cycled_frames(0, num_pairs, NUM_FRAMES, seed=12)
    tgt = [rng.choice(NUM_FRAMES, p=partner_probabilities(int(i), counts, 20)) for i in src]
    px = rng.uniform(0, [853, 479], (num_pairs, num_pts, 2)).astype(np.float32)
    moved = px + rng.normal(size=px.shape).astype(np.float32)
    rgb, weights = rng.random((num_pairs, num_pts, 3), np.float32), np.ones((num_pairs, num_pts), np.float32)
    return Batch(*map(torch.as_tensor, (src, np.array(tgt), px, moved, rgb, weights)))


def step_of(name: str) -> Callable[[], object]:
    """One training step of a row of the table, ready to be called again and again."""
    model = OmniMotion.initialised(ModelConfig(NUM_FRAMES, 480, 854), num_layers=6, seed=0)
    batch, factors = draw_batch(NUM_PTS), loss_weights(Schedule(STEP))
    depths = jitter_depths(model.depths(), (NUM_PAIRS, NUM_PTS), torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=name != "plain", foreach=False)
    if name == "plain":
        return lambda: plain_model.train_step(model, optimizer, batch, depths, factors)
    wanted = [term for term, factor in factors.items() if factor != 0]
    recompute, micro_batch = VARIANTS[name]
    if recompute:
        model.checkpoint_activations()

    def step() -> None:
        terms = batch_losses(model, batch, depths, wanted=wanted, micro_batch=micro_batch)
        total = weighted_sum(terms, factors)
        optimizer.zero_grad()
        total.backward()
        norm = torch.nn.utils.get_total_norm(p.grad for p in model.parameters())
        assert torch.isfinite(total + norm)
        optimizer.step()

    return step


def work_and_memory(name: str) -> dict[str, float]:
    """GFLOP of a step, and the GB that this process holds at most beyond what it holds before the first one."""
    step = step_of(name)
    before = resident_bytes()
    step()
    step()
    memory = resident_bytes() - before
    sizes = {"GB": memory / 1e9, "GB before": before / 1e9, "GB kept": kept_bytes(step) / 1e9}
    return {"GFLOP": gflop_of(step)[0], **sizes}  # the counter keeps tensors itself


def kept_bytes(step: Callable[[], object]) -> int:
    """What autograd keeps from the forward to the backward pass, each storage counted once.

    Not in it are what is computed again piece by piece (up to 0.2 GB), or for `micro_batch` pair by pair (its share of
    the undivided row). `benchmarks.gpu_memory` counts all bytes, for the paper's 8 x 256 x 32.
    """
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="steps timed in each row")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.alone:
        print(json.dumps(work_and_memory(args.alone)))
        return
    names = ["plain", *VARIANTS]
    sizes = {name: alone("train_step", "--alone", name) for name in names}
    calls = {name: step_of(name) for name in names}
    for call in calls.values():
        call()
    times = times_in_turn(calls, args.steps)
    rows: dict[str, dict[str, float]] = {}
    print(
        f"{'':30s} {'time':>8s} {'GFLOP':>8s} {'memory':>8s} {'speed':>7s} {'memory':>7s} {'of peak':>8s} {'kept':>8s}"
    )
    for name in names:
        row = rows[name] = {"s": times[name].seconds, **sizes[name]}
        row["of peak"] = row["GFLOP"] / times[name].peak_gflop
        faster, smaller = rows["plain"]["s"] / row["s"], row["GB"] / rows["plain"]["GB"]
        print(
            f"{name:30s} {row['s']:6.2f} s {row['GFLOP']:8.1f} {row['GB']:5.2f} GB {faster:6.2f}x {smaller:6.1%}"
            f" {row['of peak']:8.0%} {row['GB kept']:5.2f} GB"
        )
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
