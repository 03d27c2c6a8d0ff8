"""How much flow is valid, and how much of that is wrong: `python -m benchmarks.correspondence SEQ …`.

For preprocessed sequences with exact tracks (`gt_tracks.npz`): by gap, the share of the points visible at both ends
that have a valid flow, and the share of the valid that is wrong by more than 5 px; after filtering and after chaining.
"""

import argparse
from pathlib import Path

import numpy as np

from loaders.flow_store import FlowStore
from loaders.truth import TrackTruth, exact_tracks, frame_size
from utils.paths import SequencePaths
from utils.video_io import list_frames

BUCKETS = ((1, 1), (2, 4), (5, 8), (9, 15), (16, 32), (33, 64), (65, 10**6))  # gaps
WRONG = 5.0  # pixels


def quality(store: FlowStore, truth: TrackTruth) -> dict[str, tuple[float, float]]:
    """For each bucket of gaps: valid share of the visible points, wrong share of the valid."""
    counts = np.zeros((len(BUCKETS), 3))
    for i, j in zip(*np.nonzero(store.known), strict=True):
        bucket = next(k for k, (low, high) in enumerate(BUCKETS) if low <= abs(i - j) <= high)
        seen = ~truth.occluded[:, i] & ~truth.occluded[:, j]
        x, y = np.round(truth.points[seen, i]).astype(int).T
        mask = store.mask(i, j)
        valid = (mask.consistent | mask.rescued)[y, x]
        error = np.linalg.norm(truth.points[seen, i] + store.flow(i, j)[y, x] - truth.points[seen, j], axis=-1)
        counts[bucket] += seen.sum(), valid.sum(), (valid & (error > WRONG)).sum()
    last = len(store.names) - 1
    return {
        f"{low}-{min(high, last)}" if low < high else f"{low}": (valid / seen, wrong / max(valid, 1))
        for (low, high), (seen, valid, wrong) in zip(BUCKETS, counts, strict=True)
        if seen
    }


def as_text(found: dict[str, tuple[float, float]]) -> str:
    """`gap 1 98 %, 1.3 %; …`."""
    return "; ".join(f"gap {gap} {valid:.0%}, {wrong:.1%}" for gap, (valid, wrong) in found.items())


def main() -> None:
    """Print the shares of every sequence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sequences", nargs="+", type=Path, help="preprocessed sequence folders with gt_tracks.npz")
    for root in parser.parse_args().sequences:
        paths = SequencePaths(root)
        names = [frame.name for frame in list_frames(paths.color)]
        truth = exact_tracks(paths.gt_tracks, frame_size(paths), len(names))
        for label, prefer_chained in (("filtered", False), ("chained", True)):
            print(f"{root.name}, {label}: {as_text(quality(FlowStore(paths, names, prefer_chained), truth))}")


if __name__ == "__main__":
    main()
