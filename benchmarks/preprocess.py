"""What preprocessing costs: `python -m benchmarks.preprocess --data_dir SEQ [--max_side N] [--num_frames T]`.

Three parts, each in a process of its own:
raft    time of a pair, each frame encoded once, or for each pair, or by torchvision's forward; random weights
filter  filtering and chaining against `tests.oracles.reference_filtering`, files included, on the first frames
whole   every stage on the whole clip with DIS flow: CPU time of a pair, time, peak memory, bytes on disk
"""

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import numpy as np
import torch
from torchvision.models.optical_flow import raft_large

from benchmarks.measure import measure_alone, write_json
from preprocessing import pipeline
from preprocessing.chain_flow import chain_flow
from preprocessing.features import feature_extractor, write_features
from preprocessing.filter_flow import filter_flow
from preprocessing.flow_dis import DisFlow
from preprocessing.flow_pairs import write_flows
from preprocessing.flow_raft import RaftFlow, normalize, pad_frames
from preprocessing.frames import prepare_sequence
from preprocessing.pairs import Pairs
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from tests.oracles.reference_filtering import reference_filter_and_chain
from utils.images import list_frames, read_frame

T = TypeVar("T")
PARTS = ("raft", "filter", "whole")
RAFT_FRAMES, FILTER_FRAMES = 4, 6
STAGES = ("write_flows", "write_features", "filter_flow", "chain_flow")


def measure_raft(paths: SequencePaths, device: str) -> dict:
    """Estimate flow between neighbouring frames in three ways with the same result; return median times of a pair.

    torchvision's forward pass encodes for each pair, too, and brings the flow of every update to full resolution.
    """
    torch.manual_seed(0)
    network = raft_large(weights=None).eval().requires_grad_(False).to(device)
    frames = [read_frame(path) for path in list_frames(paths.color)[:RAFT_FRAMES]]
    raft = RaftFlow(frames.__getitem__, network, block=1)
    tensors = [torch.from_numpy(frame).to(device).permute(2, 0, 1)[None].float() for frame in frames]
    images = [normalize(pad_frames(tensor)[0]) for tensor in tensors]
    (height, width), (top, left) = raft.size, raft.corner

    def ours(k: int) -> np.ndarray:
        ((_, flow),) = raft.estimate_sweeps([(k, [k + 1])])
        return flow

    def encode(k: int) -> None:
        raft.features(k)
        raft.context(k)

    @torch.inference_mode()
    def forward(k: int) -> np.ndarray:
        flow = network(images[k], images[k + 1], num_flow_updates=raft.updates)[-1][0]
        return flow[:, top : top + height, left : left + width].permute(1, 2, 0).cpu().numpy()

    times: dict[str, list[float]] = {"encode": [], "once": [], "each": [], "forward": []}
    differences = []
    for k in range(len(frames) - 1):
        forget_frames(raft)
        flows = []
        for name, estimate in (("each", ours), ("once", ours), ("forward", forward)):
            seconds, flow = timed(partial(estimate, k))
            times[name].append(seconds)
            flows.append(flow)
        forget_frames(raft)
        times["encode"].append(timed(partial(encode, k))[0])
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


def forget_frames(raft: RaftFlow) -> None:
    """Drop the encoded frames."""
    raft.features.cache_clear()
    raft.context.cache_clear()


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return the wall time of a call, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def measure_filter(paths: SequencePaths) -> dict:
    """Filter and chain the same flows and features in both ways; return the times of a pair."""
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
        products = ("raft_masks", "count_maps", "chained", "flow_stats.json")
        for kind in ("dino", "sift"):
            shutil.rmtree(plain.root, ignore_errors=True)
            shutil.copytree(ours.root, plain.root, ignore=shutil.ignore_patterns(*products))
            for product in products[:-1]:
                shutil.rmtree(ours.root / product, ignore_errors=True)
            ours.flow_stats.unlink(missing_ok=True)
            start = time.perf_counter()
            filter_flow(ours, names, kind)
            chain_flow(ours, names, kind)
            middle = time.perf_counter()
            reference_filter_and_chain(plain, kind, names)
            seconds = middle - start, time.perf_counter() - middle
            per_pair = [1000 * value / len(pairs.all()) for value in seconds]
            found[f"{kind}: ms a pair"], found[f"{kind}: ms a pair, reference"] = per_pair
            found[f"{kind}: ratio"] = seconds[1] / seconds[0]
    return found


def _write_features_like_dino(paths: SequencePaths, names: list[str]) -> None:
    """Write maps of DINO's size that are the same in every frame.

    Points then look alike where they hardly move, so that about as many are kept, and looked up again in chaining, as
    in a still scene.
    """
    height, width = read_frame(paths.color / names[0]).shape[:2]
    rows, columns = (max(2, round(30 * side / min(height, width))) for side in (height, width))
    features = np.random.default_rng(0).standard_normal((rows, columns, 384)).astype(np.float16)
    for name in names:
        paths.feature("dino", name).parent.mkdir(parents=True, exist_ok=True)
        np.save(paths.feature("dino", name), features)


def measure_whole(paths: SequencePaths, num_frames: int | None, pairs: str, device: str, keep: Path | None) -> dict:
    """Run every stage in a copy of the frames; return times, memory and sizes."""
    times: dict[str, float] = {}
    cpu: dict[str, float] = {}

    def clocked(name: str) -> Callable[..., None]:
        stage = getattr(pipeline, name)

        def run(*values: object, **options: object) -> None:
            start = time.process_time()
            times[name], _ = timed(lambda: stage(*values, **options))
            cpu[name] = time.process_time() - start

        return run

    with nullcontext(keep) if keep else tempfile.TemporaryDirectory() as folder:
        copy = SequencePaths(Path(folder) / "clip")
        frames = list_frames(paths.color)[:num_frames]
        copy.color.mkdir(parents=True, exist_ok=True)
        for frame in frames:
            shutil.copyfile(frame, copy.color / frame.name)
        with ExitStack() as patches:
            for name in STAGES:
                patches.enter_context(patch.object(pipeline, name, clocked(name)))
            pipeline.preprocess(copy, Settings(flow="dis", pairs=pairs), device=device)
        folders = [path for path in copy.root.iterdir() if path.is_dir()]
        size = {path.name: sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) for path in folders}
    height, width = read_frame(frames[0]).shape[:2]
    num_pairs = len(Pairs(len(frames), pairs).all())
    return {
        "frames, width, height, pairs": [len(frames), width, height, num_pairs],
        **{f"{name}, ms of CPU time a pair": 1000 * seconds / num_pairs for name, seconds in cpu.items()},
        **{f"{name}, s": seconds for name, seconds in times.items()},
        "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        **{f"{name}, GB": count / 1e9 for name, count in size.items()},
        "all files, GB (also the peak: nothing is deleted)": sum(size.values()) / 1e9,
        "flow alone in the released layout, float32, GB": 8 * height * width * len(frames) * (len(frames) - 1) / 1e9,
    }


def main() -> None:
    """Run the parts in turn, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="video, folder of frames or sequence folder")
    parser.add_argument("--max_side", type=int, help="working resolution")
    parser.add_argument("--num_frames", type=int, help="of the whole run: the first frames only")
    parser.add_argument("--pairs", choices=["all", "sparse"], default="all", help="of the whole run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--device", default="cpu", help="where RAFT, filtering and chaining run")
    parser.add_argument("--keep", type=Path, help="keep the whole run's files there (it continues from them)")
    parser.add_argument("--json", type=Path, help="write the numbers there as well")
    parser.add_argument("--row", choices=PARTS, help=argparse.SUPPRESS)  # the part whose numbers are printed as JSON
    args = parser.parse_args()
    if args.row:
        paths = prepare_sequence(Path(args.data_dir), args.max_side)
        measures = {
            "raft": lambda: measure_raft(paths, args.device),
            "filter": lambda: measure_filter(paths),
            "whole": lambda: measure_whole(paths, args.num_frames, args.pairs, args.device, args.keep),
        }
        print("\n" + json.dumps(measures[args.row]()))
        return
    given = {name: getattr(args, name) for name in ("data_dir", "max_side", "num_frames", "pairs", "device", "keep")}
    flags = [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    found = {}
    for part in args.parts:
        found[part] = measure_alone("preprocess", *flags, "--row", part)
        print(f"{part}:")
        for name, value in found[part].items():
            print(f"  {name:52s} {value if isinstance(value, list) else f'{value:.3g}'}")
    write_json(args.json, found)


if __name__ == "__main__":
    main()
