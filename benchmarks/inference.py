"""What tracking costs beside the plain form: `python -m benchmarks.inference [--checkpoint FILE] [--repeats 3]`.

200 points of the middle frame through 24 frames, by new default networks with affine maps or by those of a checkpoint,
ours or a released one (which is evaluated at 24 frames: the time codes of another clip lie between those of its own).
How much an occlusion score costs depends on what lies in front of the points, so on the training. The plain form
(`tests/oracles/plain_model.py`) evaluates source rays, target rays and all mapped samples anew for every target frame.
Times are medians of calls in turn; speeds are ratios of CPU times, which leave out waiting for a core. Work is counted
by torch's FlopCounterMode, memory is how far a process of its own grows beyond what it holds before the call; "of peak"
compares the work with that of large products in the same CPU time.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import gflop_of, measure_alone, resident_bytes, times_in_turn, write_json
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion, load_model
from networks.released_checkpoint import load_released_checkpoint
from tests.oracles import plain_model

NUM_FRAMES, NUM_PTS, QUERY = 24, 200, 12
SIZE = (96, 160)  # height and width, for which a released checkpoint is opened
FORMS = ("plain", "ours")
SCORES = {"with occlusion": True, "without occlusion": False}


def open_model(checkpoint: Path | None) -> OmniMotion:
    """Return new networks, or those of a checkpoint, for 24 frames."""
    config = ModelConfig(NUM_FRAMES, *SIZE, use_affine=True)
    if checkpoint is None:
        return OmniMotion.initialised(config, seed=0).eval()
    state = load_released_checkpoint(checkpoint, config)
    state["model_config"]["num_frames"] = NUM_FRAMES
    return load_model(state)


def tracked_px(form: str, model: OmniMotion, with_occlusion: bool) -> Tensor:
    """Track the points in one of the forms; return pixels [24,200,2]."""
    size = torch.tensor([model.config.width - 1.0, model.config.height - 1.0])
    px = torch.rand(NUM_PTS, 2, generator=torch.Generator().manual_seed(0)) * size
    if form == "plain":
        return plain_model.track(model, QUERY, px, with_occlusion=with_occlusion).px
    return model.map_points(QUERY, px, range(NUM_FRAMES), with_occlusion=with_occlusion).px


def measure(model: OmniMotion, scores: str, repeats: int) -> dict[str, dict[str, float]]:
    """Return the rows of both forms, with occlusion scores or without, except for memory."""
    calls = {form: lambda form=form: tracked_px(form, model, SCORES[scores]) for form in FORMS}
    counted = {form: gflop_of(call) for form, call in calls.items()}
    others = [t for t in range(NUM_FRAMES) if t != QUERY]  # the plain form returns the query itself there
    apart = (counted["plain"][1] - counted["ours"][1])[others].norm(dim=-1).max().item()
    times = times_in_turn(calls, repeats)
    rows = {}
    for form, (gflop, _) in counted.items():
        row = {"s": times[form].seconds, "CPU s": times[form].cpu_seconds, "GFLOP": gflop}
        row["faster"] = times["plain"].cpu_seconds / times[form].cpu_seconds
        rows[f"{form}, {scores}"] = row | {"of peak": gflop / times[form].peak_gflop, "px apart": apart}
    return rows


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="of a training run; default: new networks")
    parser.add_argument("--repeats", type=int, default=3, help="calls timed of each form")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)  # whose memory is printed as JSON
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.row:
        (form, scores), model, before = args.row, open_model(args.checkpoint), resident_bytes()
        tracked_px(form, model, SCORES[scores])
        print(json.dumps({"GB": (resident_bytes() - before) / 1e9}))
        return
    checkpoint = ["--checkpoint", str(args.checkpoint)] if args.checkpoint else []
    keys = {f"{form}, {scores}": (form, scores) for scores in SCORES for form in FORMS}
    memory = {key: measure_alone("inference", *checkpoint, "--row", *words)["GB"] for key, words in keys.items()}
    model = open_model(args.checkpoint)
    sizes = ("coupling_width", "volume_width", "num_samples_ray")
    print(", ".join(f"{name} {getattr(model.config, name)}" for name in sizes))
    columns = ("time", "CPU", "GFLOP", "memory", "speed", "of peak", "apart")
    print(f"{'':24s}" + "".join(f"{column:>12s}" for column in columns))
    rows: dict[str, dict[str, float]] = {}
    for scores in SCORES:
        rows |= measure(model, scores, args.repeats)
    for name, row in rows.items():
        row["GB"] = memory[name]
        print(
            f"{name:24s}{row['s']:10.3f} s{row['CPU s']:10.3f} s{row['GFLOP']:12.1f}{row['GB']:9.3f} GB"
            f"{row['faster']:11.1f}x{row['of peak']:12.0%}{row['px apart']:9.1e} px"
        )
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
