"""What preprocessing costs: `python -m benchmarks.preprocess --data_dir SEQ [--max_side N] [--num_frames T]`.

Three parts, each in a process of its own:
raft    pairs a second, each frame encoded once, or for each pair, or by torchvision's forward; random weights
filter  filtering and chaining against `tests.oracles.reference_filtering`, files and all, on the first frames
whole   every stage on the whole clip with --flow dis: time, peak memory, bytes on disk
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torchvision.models.optical_flow import raft_large

from preprocessing import pipeline
from preprocessing.chain_flow import chain_flow
from preprocessing.features import feature_extractor, write_features
from preprocessing.filter_flow import filter_flow
from preprocessing.flow_dis import DisFlow
from preprocessing.flow_pairs import write_flows
from preprocessing.flow_raft import NUM_UPDATES, RaftFlow
from preprocessing.frames import prepare_sequence
from preprocessing.pairs import Pairs
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from tests.oracles.reference_filtering import reference_filter_and_chain
from utils.images import list_frames, read_frame

T = TypeVar("T")
RAFT_FRAMES, FILTER_FRAMES = 4, 6
STAGES = ("write_flows", "write_features", "filter_flow", "chain_flow")


def part_raft(paths: SequencePaths, args: argparse.Namespace) -> dict:
    """Neighbouring pairs in three ways, with the same result; medians of the times of a pair.

    torchvision's forward pass encodes for each pair, too, and brings the flow of every update to full resolution.
    """
    torch.manual_seed(0)
    network = raft_large(weights=None).eval().requires_grad_(False).to(args.device)
    frames = [read_frame(path) for path in list_frames(paths.color)[:RAFT_FRAMES]]
    raft = RaftFlow(frames.__getitem__, network, block=1)
    images = [raft._padded(k)[0] / 127.5 - 1 for k in range(len(frames))]
    (height, width), (top, left) = raft.size, raft.corner
    times: dict[str, list[float]] = {"encode": [], "once": [], "each": [], "forward": []}
    differences = []
    for k in range(len(frames) - 1):

        def ours(k: int = k) -> np.ndarray:
            ((_, flow),) = raft.sweep([(k, [k + 1])])
            return flow

        def forward(k: int = k) -> np.ndarray:
            with torch.inference_mode():
                flow = network(images[k], images[k + 1], num_flow_updates=NUM_UPDATES)[-1][0]
            return flow[:, top : top + height, left : left + width].permute(1, 2, 0).cpu().numpy()

        forget(raft)
        flows = []
        for name, work in (("each", ours), ("once", ours), ("forward", forward)):
            seconds, flow = _seconds(work)
            times[name].append(seconds)
            flows.append(flow)
        forget(raft)
        times["encode"].append(_seconds(lambda k=k: (raft.features(k), raft.context(k)))[0])
        differences += [float(np.abs(flow - flows[0]).max()) for flow in flows]
    median = {name: float(np.median(values)) for name, values in times.items()}
    return {
        "s a pair, its frames encoded before": median["once"],
        "s a pair, its frames encoded for it": median["each"],
        "s a pair, torchvision's forward": median["forward"],
        "ratio of encoding for each pair": median["each"] / median["once"],
        "ratio of torchvision's forward": median["forward"] / median["once"],
        "s to encode a frame, once for 2(T − 1) pairs": median["encode"],
        "largest difference of the flows, px": max(differences),
    }


def forget(raft: RaftFlow) -> None:
    """Drop what was encoded."""
    raft.features.cache_clear()
    raft.context.cache_clear()


def _seconds(work: Callable[[], T]) -> tuple[float, T]:
    """How long `work` takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def part_filter(paths: SequencePaths, args: argparse.Namespace) -> dict:
    """The same flows and features filtered and chained in both ways."""
    names = [path.name for path in list_frames(paths.color)[:FILTER_FRAMES]]
    pairs, found = Pairs(len(names)), {}
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = (SequencePaths(Path(folder) / name) for name in ("ours", "plain"))
        for name in names:
            ours.color.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(paths.color / name, ours.color / name)
        write_flows(ours, names, pairs, DisFlow(lambda k: read_frame(ours.color / names[k])))
        write_features(ours, names, "sift", feature_extractor("sift", "cpu"))
        _write_features_like_dino(ours, names)
        for kind in ("dino", "sift"):
            shutil.rmtree(plain.root, ignore_errors=True)
            shutil.copytree(
                ours.root, plain.root, ignore=shutil.ignore_patterns("raft_masks", "count*", "chained", "flow_stats*")
            )
            for product in ("raft_masks", "count_maps", "chained"):
                shutil.rmtree(ours.root / product, ignore_errors=True)
            ours.flow_stats.unlink(missing_ok=True)
            start = time.perf_counter()
            filter_flow(ours, names, kind)
            chain_flow(ours, names, kind)
            middle = time.perf_counter()
            reference_filter_and_chain(plain, kind, names)
            seconds = middle - start, time.perf_counter() - middle
            per_pair = [1000 * value / len(pairs.all()) for value in seconds]
            found[f"{kind}: ms a pair"], found[f"{kind}: ms a pair, straightforward"] = per_pair
            found[f"{kind}: ratio"] = seconds[1] / seconds[0]
    return found


def _write_features_like_dino(paths: SequencePaths, names: list[str]) -> None:
    """Maps of DINO's size, the same in every frame.

    Points compare alike where they hardly move: as many are kept, and looked up again by chaining, as of a still scene.
    """
    height, width = read_frame(paths.color / names[0]).shape[:2]
    rows, columns = (max(2, round(30 * side / min(height, width))) for side in (height, width))
    features = np.random.default_rng(0).standard_normal((rows, columns, 384)).astype(np.float16)
    for name in names:
        paths.feature("dino", name).parent.mkdir(parents=True, exist_ok=True)
        np.save(paths.feature("dino", name), features)


def part_whole(paths: SequencePaths, args: argparse.Namespace) -> dict:
    """Every stage, timed, in a copy of the frames."""
    times: dict[str, float] = {}

    def timed(name: str):
        stage = getattr(pipeline, name)

        def run(*values):
            start = time.perf_counter()
            stage(*values)
            times[name] = time.perf_counter() - start

        return run

    for name in STAGES:
        setattr(pipeline, name, timed(name))
    with nullcontext(args.keep) if args.keep else tempfile.TemporaryDirectory() as folder:
        copy = SequencePaths(Path(folder) / "clip")
        frames = list_frames(paths.color)[: args.num_frames]
        copy.color.mkdir(parents=True, exist_ok=True)
        for frame in frames:
            shutil.copyfile(frame, copy.color / frame.name)
        pipeline.preprocess(copy, Settings(flow="dis", pairs=args.pairs), device=args.device)
        size = {
            p.name: sum(f.stat().st_size for f in p.rglob("*") if f.is_file())
            for p in copy.root.iterdir()
            if p.is_dir()
        }
    height, width = read_frame(frames[0]).shape[:2]
    pairs = len(Pairs(len(frames), args.pairs).all())
    return {
        "frames, width, height, pairs": [len(frames), width, height, pairs],
        **{f"{name}, s": seconds for name, seconds in times.items()},
        "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        **{f"{name}, GB": count / 1e9 for name, count in size.items()},
        "all files, GB (also the peak: nothing is deleted)": sum(size.values()) / 1e9,
        "flow alone in the released layout, float32, GB": 8 * height * width * len(frames) * (len(frames) - 1) / 1e9,
    }


PARTS = {"raft": part_raft, "filter": part_filter, "whole": part_whole}


def main() -> None:
    """Run the parts in turn, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="video, folder of frames or sequence folder")
    parser.add_argument("--max_side", type=int, help="working resolution")
    parser.add_argument("--num_frames", type=int, help="of the whole run: the first frames only")
    parser.add_argument("--pairs", choices=["all", "sparse"], default="all", help="of the whole run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--device", default="cpu", help="where RAFT, filtering and chaining run")
    parser.add_argument("--keep", type=Path, help="keep the whole run's files there (killed, it goes on from them)")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        paths = prepare_sequence(args.data_dir, args.max_side)
        print("\n" + json.dumps(PARTS[args.parts[0]](paths, args)))
        return
    figures = {}
    for part in args.parts:
        # Later flags win: the part alone.
        command = [sys.executable, "-m", "benchmarks.preprocess", *sys.argv[1:], "--alone", "--parts", part]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        figures[part] = json.loads(done.stdout.splitlines()[-1])
        print(f"{part}:")
        for name, value in figures[part].items():
            print(f"  {name:52s} {value if isinstance(value, list) else f'{value:.3g}'}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
