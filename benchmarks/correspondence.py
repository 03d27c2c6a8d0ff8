"""How good flow is, how much is valid, how much of that is wrong: `python -m benchmarks.correspondence SEQ …`.

For preprocessed sequences with exact tracks (`gt_tracks.npz`), by gap, at the points visible at both ends: the mean
error of all flow and the share below 3 px; then the share that has a valid flow, and the share of the valid that is
wrong by more than 5 px, after filtering and, where the folder has chained flow, after chaining.
"""

import argparse
from pathlib import Path

import numpy as np

from evaluation.ground_truth import TrackTruth, exact_tracks, frame_size
from loaders.flow_store import FlowStore
from preprocessing.sequence_paths import SequencePaths
from utils.images import list_frames

BUCKETS = ((1, 1), (2, 4), (5, 8), (9, 15), (16, 32), (33, 64), (65, 10**6))  # gaps
RIGHT, WRONG = 3.0, 5.0  # pixels
VALID_WRONG = "{valid:.0%}, {wrong:.1%}"


def quality(store: FlowStore, truth: TrackTruth) -> dict[str, dict[str, float]]:
    """For each bucket of gaps: mean `error` in px, share that is `right`, `valid` share, `wrong` share of the valid."""
    sums = np.zeros((len(BUCKETS), 5))
    for i, j in zip(*np.nonzero(store.known), strict=True):
        bucket = next(k for k, (low, high) in enumerate(BUCKETS) if low <= abs(i - j) <= high)
        seen = ~truth.occluded[:, i] & ~truth.occluded[:, j]
        x, y = np.round(truth.points[seen, i]).astype(int).T
        mask = store.mask(i, j)
        valid = mask.valid[y, x]
        error = np.linalg.norm(truth.points[seen, i] + store.flow(i, j)[y, x] - truth.points[seen, j], axis=-1)
        sums[bucket] += len(error), error.sum(), (error < RIGHT).sum(), valid.sum(), (valid & (error > WRONG)).sum()
    last = len(store.names) - 1
    return {
        f"{low}-{min(high, last)}" if low < high else f"{low}": {
            **{"error": error / seen, "right": right / seen},
            **{"valid": valid / seen, "wrong": wrong / max(valid, 1)},
        }
        for (low, high), (seen, error, right, valid, wrong) in zip(BUCKETS, sums, strict=True)
        if seen
    }


def as_text(found: dict[str, dict[str, float]], shown: str) -> str:
    """`gap 1 …; gap 2-4 …`, with the figures that the format `shown` names."""
    return "; ".join(f"gap {gap} {shown.format(**row)}" for gap, row in found.items())


def main() -> None:
    """Print the shares of every sequence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sequences", nargs="+", type=Path, help="preprocessed sequence folders with gt_tracks.npz")
    for root in parser.parse_args().sequences:
        paths = SequencePaths(root)
        names = [frame.name for frame in list_frames(paths.color)]
        truth = exact_tracks(paths.gt_tracks, frame_size(paths), len(names))
        flow = quality(FlowStore(paths, names, prefer_chained=False), truth)
        print(f"{root.name}, flow: {as_text(flow, '{error:.2f} px ({right:.0%})')}")
        print(f"{root.name}, filtered: {as_text(flow, VALID_WRONG)}")
        if paths.chained.flow_stats.is_file():
            chained = quality(FlowStore(paths, names), truth)
            print(f"{root.name}, chained: {as_text(chained, VALID_WRONG)}")


if __name__ == "__main__":
    main()
