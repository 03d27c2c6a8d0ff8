"""What `--pairs sparse` saves and costs: `python -m benchmarks.sparse_pairs [--num_frames 120] [--out data]`.

Makes a scene with exact tracks twice, preprocesses it with all and with sparse pairs (--flow dis), and prints for each:
pairs, seconds, bytes; of the chained flow by gap, how many visible points are valid and how many of these are wrong by
more than 5 px; TAP-Vid scores of following the raw flow. The folders stay in --out as `long_all` and `long_sparse`,
for training: `python train.py --config configs/demo.txt --synthetic false --chain true --data_dir data/long_sparse
--pairs sparse`.
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks.correspondence import VALID_WRONG, as_text, quality
from evaluation.flow_trackers import DirectFlowTracker
from evaluation.ground_truth import TrackTruth
from evaluation.scoring import score
from evaluation.tables import format_table
from loaders.flow_store import FlowStore
from preprocessing.pairs import Pairs
from preprocessing.pipeline import preprocess
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from preprocessing.synthetic import Scene, make_scene, write_scene
from utils.images import list_frames


def measure(root: Path, scene: Scene, mode: str) -> dict:
    """Preprocess the scene with the pairs of a mode; what that took and gave."""
    paths = SequencePaths(root)
    write_scene(scene, paths)
    start = time.perf_counter()
    preprocess(paths, Settings(flow="dis", pairs=mode))
    seconds = time.perf_counter() - start
    names, pairs = [frame.name for frame in list_frames(paths.color)], Pairs(len(scene.video), mode)
    size = scene.video.shape[1:3]
    truth = TrackTruth(scene.points, scene.occluded, size, exact=True)
    raw = DirectFlowTracker(FlowStore(paths, names, prefer_chained=False), *size)
    return {
        "pairs": len(pairs.all()),
        "seconds (0 if it was there)": seconds,
        "GB": sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) / 1e9,
        "quality": quality(FlowStore(paths, names), truth),
        "direct flow": score(raw, truth).row,
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
        print(f"  valid, and of these wrong: {as_text(found['quality'], VALID_WRONG)}")
    print(format_table({f"direct flow, {mode}": found["direct flow"] for mode, found in figures.items()}))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
