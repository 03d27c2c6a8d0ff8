"""What `--pairs sparse` saves and costs: `python -m benchmarks.sparse_pairs [--num_frames 120] [--out data]`.

Makes a scene with exact tracks twice, preprocesses it with all and with sparse pairs (DIS flow), and prints for each:
pairs, seconds, bytes; of the chained flow by frame gap, how many visible points are valid and how many of these are
wrong by more than 5 px; TAP-Vid's scores of tracking by the raw flow. The folders stay in --out as `long_all` and
`long_sparse`, for training.
"""

import argparse
import time
from pathlib import Path

from benchmarks.correspondence import flow_quality, validity_text
from benchmarks.measure import write_json
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
    """Preprocess the scene with the pairs of a mode; return what that took and gave."""
    paths = SequencePaths(root)
    write_scene(scene, paths)
    start = time.perf_counter()
    preprocess(paths, Settings(flow="dis", pairs=mode))
    seconds = time.perf_counter() - start
    names, (num_frames, height, width, _) = [frame.name for frame in list_frames(paths.color)], scene.video.shape
    truth = TrackTruth(scene.points, scene.occluded, (height, width), exact=True)
    raw = DirectFlowTracker(FlowStore(paths, names, prefer_chained=False), height, width)
    return {
        "pairs": len(Pairs(num_frames, mode).all()),
        "seconds (0 if it was there)": seconds,
        "GB": sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) / 1e9,
        "quality": flow_quality(FlowStore(paths, names), truth),
        "direct flow": score(raw, truth).row,
    }


def main() -> None:
    """Measure both modes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num_frames", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path("data"), help="where the two sequences are made")
    parser.add_argument("--json", type=Path, help="write the numbers there as well")
    args = parser.parse_args()
    scene = make_scene(args.num_frames)
    found = {mode: measure(args.out / f"long_{mode}", scene, mode) for mode in ("all", "sparse")}
    for mode, each in found.items():
        print(f"{mode}: {each['pairs']} pairs, {each['seconds (0 if it was there)']:.0f} s, {each['GB']:.3f} GB")
        print(f"  valid, and of these wrong: {validity_text(each['quality'])}")
    print(format_table({f"direct flow, {mode}": each["direct flow"] for mode, each in found.items()}))
    write_json(args.json, found)


if __name__ == "__main__":
    main()
