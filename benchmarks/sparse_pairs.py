"""What `--pairs sparse` saves and costs: `python -m benchmarks.sparse_pairs [--num_frames 120] [--out data]`.

Makes a scene with exact tracks twice, preprocesses it with all and with sparse pairs (--flow dis), and prints for each:
pairs, seconds, bytes; of the chained flow by gap, how many visible points are valid and how many of these are wrong by
more than 5 px; TAP-Vid scores of following the raw flow. The folders stay in --out as `long_all` and `long_sparse`,
for training: `python train.py --config configs/demo.txt --synthetic false --data_dir data/long_sparse --pairs sparse`.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from loaders.flow_store import FlowStore
from loaders.flow_tracker import DirectFlowTracker
from loaders.synthetic import Scene, make_scene, write_scene
from loaders.truth import TrackTruth
from preprocessing.main_processing import preprocess
from preprocessing.manifest import Settings
from preprocessing.pairs import Pairs
from scoring import score
from utils.paths import SequencePaths
from utils.tables import format_table
from utils.video_io import list_frames

BUCKETS = ((1, 1), (2, 8), (9, 16), (17, 32), (33, 64), (65, 10**6))  # gaps
WRONG = 5.0  # pixels


def quality(store: FlowStore, scene: Scene, pairs: Pairs) -> dict[str, list[float]]:
    """For each bucket of gaps: valid share of the points that are visible at both ends, wrong share of the valid."""
    counts = np.zeros((len(BUCKETS), 3))
    for i, j in pairs.all():
        bucket = next(k for k, (low, high) in enumerate(BUCKETS) if low <= abs(i - j) <= high)
        seen = ~scene.occluded[:, i] & ~scene.occluded[:, j]
        x, y = np.round(scene.points[seen, i]).astype(int).T
        mask = store.mask(i, j)
        valid = (mask.consistent | mask.rescued)[y, x]
        error = np.linalg.norm(scene.points[seen, i] + store.flow(i, j)[y, x] - scene.points[seen, j], axis=-1)
        counts[bucket] += seen.sum(), valid.sum(), (valid & (error > WRONG)).sum()
    names = [f"gap {low}" if low == high else f"gap {low}-{min(high, len(store.names) - 1)}" for low, high in BUCKETS]
    return {
        name: [valid / seen, wrong / max(valid, 1)]
        for name, (seen, valid, wrong) in zip(names, counts, strict=True)
        if seen
    }


def measure(root: Path, scene: Scene, mode: str) -> dict:
    """Preprocess the scene with the pairs of a mode; what that took and gave."""
    paths = SequencePaths(root)
    write_scene(scene, paths)
    start = time.perf_counter()
    preprocess(paths, Settings(flow="dis", pairs=mode))
    seconds = time.perf_counter() - start
    names, pairs = [frame.name for frame in list_frames(paths.color)], Pairs(len(scene.video), mode)
    size = scene.video.shape[1:3]
    raw = DirectFlowTracker(FlowStore(paths, names, prefer_chained=False), *size)
    return {
        "pairs": len(pairs.all()),
        "seconds (0 if it was there)": seconds,
        "GB": sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) / 1e9,
        "valid, wrong": quality(FlowStore(paths, names), scene, pairs),
        "direct flow": score(raw, TrackTruth(scene.points, scene.occluded, size, exact=True)).row,
    }


def main() -> None:
    """Measure both modes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_frames", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path("data"), help="where the two sequences are made")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args()
    scene = make_scene(args.num_frames)
    figures = {mode: measure(args.out / f"long_{mode}", scene, mode) for mode in ("all", "sparse")}
    for mode, found in figures.items():
        print(f"{mode}: {found['pairs']} pairs, {found['seconds (0 if it was there)']:.0f} s, {found['GB']:.3f} GB")
        shares = [f"{name} {valid:.0%}, {wrong:.1%}" for name, (valid, wrong) in found["valid, wrong"].items()]
        print("  valid, and of these wrong: " + "; ".join(shares))
    print(format_table({f"direct flow, {mode}": found["direct flow"] for mode, found in figures.items()}))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
