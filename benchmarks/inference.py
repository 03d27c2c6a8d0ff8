"""What tracking costs: `python -m benchmarks.inference [--repeats 3] [--json FILE]`.

200 points of the middle frame through 24 frames, default networks with affine maps as they start. The plain form (see
tests/plain_model.py) evaluates source rays, target rays and all mapped samples anew for every target frame. Medians of
wall times in one process; work is counted by torch's FlopCounterMode.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import train_step  # counts oneDNN's products, too
from networks.omnimotion import ModelConfig, OmniMotion
from tests import plain_model

NUM_FRAMES, NUM_PTS, QUERY = 24, 200, 12


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="calls timed of each form")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    model = OmniMotion.initialised(ModelConfig(NUM_FRAMES, 128, 192), num_layers=6, seed=0).eval()
    px = torch.rand(NUM_PTS, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([191.0, 127.0])
    rows = {}
    for occlusion in (True, False):
        forms = {
            "plain": lambda on=occlusion: plain_model.track(model, QUERY, px, with_occlusion=on).px,
            "ours": lambda on=occlusion: model.map_points(QUERY, px, range(NUM_FRAMES), with_occlusion=on).px,
        }
        others = [t for t in range(NUM_FRAMES) if t != QUERY]  # the plain form puts the query itself there
        far = (forms["plain"]()[others] - forms["ours"]()[others]).norm(dim=-1).max().item()
        for name, track in forms.items():
            with FlopCounterMode(display=False) as counter:
                track()
            times = [train_step.seconds_of(track) for _ in range(args.repeats)]
            key = f"{name}, {'with' if occlusion else 'without'} occlusion"
            rows[key] = {"s": statistics.median(times), "GFLOP": counter.get_total_flops() / 1e9, "px apart": far}
            faster = rows[key.replace("ours", "plain")]["s"] / rows[key]["s"]
            print(f"{key:26s} {rows[key]['s']:7.3f} s {rows[key]['GFLOP']:8.1f} GFLOP {faster:6.1f}x")
        print(f"{'':26s} tracks at most {far:.1e} px apart")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
