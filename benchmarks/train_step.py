"""What a training step costs: `python -m benchmarks.train_step [--steps 5] [--json FILE]`.

Default networks with affine maps, 8 pairs x 32 points x 32 samples, pairs drawn by the training's probabilities for a
60-frame clip. Rows: the plain form (the released amount of work, see tests/plain_model.py), ours, ours with
`--checkpoint_activations`, with `--micro_batch 2`, with both; each in a process of its own. Time is the median wall
time, work is counted by torch's FlopCounterMode, memory is the process's largest resident size; the peak rate is that
of torch's product of two large matrices in the same process (ours multiplies by oneDNN, which may exceed it).
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from loaders.batches import Batch
from loaders.pair_sampling import cycled_frames, partner_probabilities
from losses import compute_losses, weighted_sum
from networks.omnimotion import ModelConfig, OmniMotion
from tests import plain_model
from utils.rays import jitter_depths
from utils.schedules import loss_weights

NUM_FRAMES, NUM_PAIRS, NUM_PTS, STEP = 60, 8, 32, 1000
VARIANTS = {  # name: checkpoint_activations, micro_batch
    "ours": (False, 0),
    "ours, checkpoint_activations": (True, 0),
    "ours, micro_batch 2": (False, 2),
    "ours, both": (True, 2),
}


@register_flop_formula(torch.ops.mkldnn._linear_pointwise)
def _count_linear(x_shape, weight_shape, *args, out_shape=None, **kwargs) -> int:
    return 2 * math.prod(x_shape) * weight_shape[0]


def draw_batch(num_pts: int) -> Batch:
    """Pairs as training draws them where every pair of frames has as many valid pixels; random points."""
    rng, counts = np.random.default_rng(0), np.ones((NUM_FRAMES, NUM_FRAMES), int)
    src = cycled_frames(0, NUM_PAIRS, NUM_FRAMES, seed=12)
    tgt = [rng.choice(NUM_FRAMES, p=partner_probabilities(int(i), counts, 20)) for i in src]
    px = rng.uniform(0, [853, 479], (NUM_PAIRS, num_pts, 2)).astype(np.float32)
    moved = px + rng.normal(size=px.shape).astype(np.float32)
    rgb, weights = rng.random((NUM_PAIRS, num_pts, 3), np.float32), np.ones((NUM_PAIRS, num_pts), np.float32)
    return Batch(*map(torch.as_tensor, (src, np.array(tgt), px, moved, rgb, weights)))


def measure(name: str, steps: int) -> dict[str, float]:
    """Seconds, GFLOP, GB and share of the peak rate of a step, in this process."""
    torch.set_flush_denormal(True)
    model = OmniMotion.initialised(ModelConfig(NUM_FRAMES, 480, 854), num_layers=6, seed=0)
    batch, factors = draw_batch(NUM_PTS), loss_weights(STEP)
    depths = jitter_depths(model.depths(), (NUM_PAIRS, NUM_PTS), torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=name != "plain", foreach=False)
    wanted = [term for term, factor in factors.items() if factor != 0]
    recompute, micro_batch = VARIANTS.get(name, (False, 0))
    if recompute:
        model.checkpoint_activations()

    def ours() -> None:
        terms = compute_losses(model, batch, depths, wanted=wanted, micro_batch=micro_batch)
        total = weighted_sum(terms, factors)
        optimizer.zero_grad()
        total.backward()
        norm = torch.nn.utils.get_total_norm(p.grad for p in model.parameters())
        assert torch.isfinite(total + norm)
        optimizer.step()

    def plain() -> None:
        plain_model.train_step(model, optimizer, batch, depths, factors)

    step = plain if name == "plain" else ours
    with FlopCounterMode(display=False) as counter:
        step()
    times = [seconds_of(step) for _ in range(steps)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # before the large matrices below
    gflop, seconds = counter.get_total_flops() / 1e9, statistics.median(times)
    matrix = torch.rand(2048, 2048)
    rate = 2 * 2048**3 / statistics.median(seconds_of(lambda: matrix @ matrix) for _ in range(5)) / 1e9
    return {"s": seconds, "GFLOP": gflop, "GB": memory, "of peak": gflop / seconds / rate, "peak GFLOP/s": rate}


def seconds_of(work: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="steps timed in each row")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(args.alone, args.steps)))
        return
    rows = {}
    print(f"{'':30s} {'time':>8s} {'GFLOP':>8s} {'memory':>8s} {'speed':>7s} {'memory':>7s} {'of peak':>8s}")
    for name in ("plain", *VARIANTS):
        command = [sys.executable, "-m", "benchmarks.train_step", "--steps", str(args.steps), "--alone", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = rows[name] = json.loads(done.stdout.splitlines()[-1])
        faster, smaller = rows["plain"]["s"] / row["s"], row["GB"] / rows["plain"]["GB"]
        print(
            f"{name:30s} {row['s']:6.2f} s {row['GFLOP']:8.1f} {row['GB']:5.2f} GB {faster:6.2f}x {smaller:6.1%}"
            f" {row['of peak']:8.0%}"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
