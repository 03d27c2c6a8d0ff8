"""What tracking costs: `python -m benchmarks.inference [--checkpoint FILE] [--repeats 3] [--json FILE]`.

200 points of the middle frame through 24 frames, by default networks with affine maps as they start or by those of a
checkpoint, ours or a released one (which must be asked for 24 frames: the time codes of other clips lie between those
of its own). How much a score costs depends on what lies in front of the points, so on the training. The plain form
(tests/oracles/plain_model.py) evaluates source rays, target rays and all mapped samples anew for every target frame. Times are
medians of calls in turn; the speeds are those of the CPU times, which leave out what others had the cores. Work is
counted by torch's FlopCounterMode, memory is how far a process of its own grows beyond what it holds before the call;
"of peak" compares the work with that of large products in the same CPU time.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.measure import Work, alone, gflop_of, resident_bytes, times_in_turn, write_json
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion, load_model
from networks.released_checkpoint import load_released_checkpoint
from tests.oracles import plain_model

NUM_FRAMES, NUM_PTS, QUERY = 24, 200, 12
SIZE = (96, 160)  # height and width, for which a released checkpoint is opened
FORMS = ("plain", "ours")
SCORES = {"with occlusion": True, "without occlusion": False}


def open_model(checkpoint: Path | None) -> OmniMotion:
    """New networks, or those of a checkpoint, for 24 frames."""
    if checkpoint is None:
        return OmniMotion.initialised(ModelConfig(NUM_FRAMES, *SIZE), num_layers=6, seed=0).eval()
    state = load_released_checkpoint(checkpoint, *SIZE)
    state["model_config"]["num_frames"] = NUM_FRAMES
    return load_model(state)


def call_of(form: str, model: OmniMotion, with_occlusion: bool) -> Work:
    """A call that gives the tracks, pixels [24,200,2]."""
    size = torch.tensor([model.config.width - 1.0, model.config.height - 1.0])
    px = torch.rand(NUM_PTS, 2, generator=torch.Generator().manual_seed(0)) * size
    if form == "plain":
        return lambda: plain_model.track(model, QUERY, px, with_occlusion=with_occlusion).px
    return lambda: model.map_points(QUERY, px, range(NUM_FRAMES), with_occlusion=with_occlusion).px


def memory_of(call: Work) -> float:
    """GB that this process holds at most beyond what it holds before."""
    before = resident_bytes()
    call()
    return (resident_bytes() - before) / 1e9


def measure(model: OmniMotion, scores: str, repeats: int) -> dict[str, dict[str, float]]:
    """The rows of both forms, with the scores or without, memory excepted."""
    calls = {form: call_of(form, model, SCORES[scores]) for form in FORMS}
    counted = {form: gflop_of(call) for form, call in calls.items()}
    others = [t for t in range(NUM_FRAMES) if t != QUERY]  # the plain form puts the query itself there
    far = (counted["plain"][1] - counted["ours"][1])[others].norm(dim=-1).max().item()
    times = times_in_turn(calls, repeats)
    rows = {}
    for form, (gflop, _) in counted.items():
        row = {"s": times[form].seconds, "CPU s": times[form].cpu_seconds, "GFLOP": gflop}
        row["faster"] = times["plain"].cpu_seconds / times[form].cpu_seconds
        rows[f"{form}, {scores}"] = row | {"of peak": gflop / times[form].peak_gflop, "px apart": far}
    return rows


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="of a training run; default: new networks")
    parser.add_argument("--repeats", type=int, default=3, help="calls timed of each form")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--alone", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.alone:
        form, scores, *files = args.alone
        model = open_model(Path(files[0]) if files else None)
        print(json.dumps({"GB": memory_of(call_of(form, model, SCORES[scores]))}))
        return
    files = [str(args.checkpoint)] if args.checkpoint else []
    keys = {f"{form}, {scores}": (form, scores) for scores in SCORES for form in FORMS}
    memory = {key: alone("inference", "--alone", *words, *files)["GB"] for key, words in keys.items()}
    model = open_model(args.checkpoint)
    sizes = asdict(model.config)
    print(", ".join(f"{name} {sizes[name]}" for name in ("coupling_width", "volume_width", "num_samples_ray")))
    print(
        f"{'':24s} {'time':>9s} {'CPU':>9s} {'GFLOP':>8s} {'memory':>9s} {'speed':>7s} {'of peak':>8s} {'apart':>11s}"
    )
    rows: dict[str, dict[str, float]] = {}
    for scores in SCORES:
        rows |= measure(model, scores, args.repeats)
    for name, row in rows.items():
        row["GB"] = memory[name]
        print(
            f"{name:24s} {row['s']:7.3f} s {row['CPU s']:7.3f} s {row['GFLOP']:8.1f} {row['GB']:6.3f} GB"
            f" {row['faster']:6.1f}x {row['of peak']:8.0%} {row['px apart']:10.1e} px"
        )
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
