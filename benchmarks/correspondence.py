"""How good flow is, and how much of it is valid or wrong: `python -m benchmarks.correspondence SEQ …`.

For preprocessed sequences with exact tracks (`gt_tracks.npz`), by frame gap, at the points visible in both frames: the
mean error of all flow and the fraction below 3 px; then, after filtering and, where there is chained flow, after
chaining, the fraction of points with valid flow, and the fraction of the valid that is wrong by more than 5 px.
"""

import argparse
from pathlib import Path

import numpy as np

from evaluation.ground_truth import TrackTruth, exact_tracks, frame_size
from loaders.flow_store import FlowStore
from preprocessing.sequence_paths import SequencePaths
from utils.errors import InputError, exit_on_input_error
from utils.images import list_frames

GAPS = ((1, 1), (2, 4), (5, 8), (9, 15), (16, 32), (33, 64), (65, 10**6))  # frames, both ends included
RIGHT, WRONG = 3.0, 5.0  # pixels


def flow_quality(store: FlowStore, truth: TrackTruth) -> dict[str, dict[str, float]]:
    """Return, by frame gap, the mean `error` in pixels and the fractions `right`, `valid`, and `wrong` of the valid."""
    sums = np.zeros((len(GAPS), 5))
    for i, j in zip(*np.nonzero(store.known), strict=True):
        row = next(k for k, (low, high) in enumerate(GAPS) if low <= abs(i - j) <= high)
        visible = ~truth.occluded[:, i] & ~truth.occluded[:, j]
        x, y = np.round(truth.points[visible, i]).astype(int).T
        valid = store.mask(i, j).valid[y, x]
        error = np.linalg.norm(truth.points[visible, i] + store.flow(i, j)[y, x] - truth.points[visible, j], axis=-1)
        sums[row] += len(error), error.sum(), (error < RIGHT).sum(), valid.sum(), (valid & (error > WRONG)).sum()
    last = len(store.names) - 1
    return {
        f"{low}-{min(high, last)}" if low < high else f"{low}": {
            "error": error / count,
            "right": right / count,
            "valid": valid / count,
            "wrong": wrong / max(valid, 1),
        }
        for (low, high), (count, error, right, valid, wrong) in zip(GAPS, sums, strict=True)
        if count
    }


def validity_text(quality: dict[str, dict[str, float]]) -> str:
    """Return how much is valid, and how much of that is wrong, as `gap 1 90%, 0.5%; gap 2-4 …`."""
    return "; ".join(f"gap {gap} {row['valid']:.0%}, {row['wrong']:.1%}" for gap, row in quality.items())


@exit_on_input_error
def main() -> None:
    """Print the fractions of every sequence."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sequences", nargs="+", type=Path, help="preprocessed sequence folders with gt_tracks.npz")
    for root in parser.parse_args().sequences:
        paths = SequencePaths(root)
        names, size = [frame.name for frame in list_frames(paths.color)], frame_size(paths)
        if size is None:
            raise InputError(f"{root} holds no frames: give a preprocessed sequence folder")
        truth = exact_tracks(paths.gt_tracks, size, len(names))
        flow = flow_quality(FlowStore(paths, names, prefer_chained=False), truth)
        errors = "; ".join(f"gap {gap} {row['error']:.2f} px ({row['right']:.0%})" for gap, row in flow.items())
        print(f"{root.name}, flow: {errors}\n{root.name}, filtered: {validity_text(flow)}")
        if paths.chained.flow_stats.is_file():
            print(f"{root.name}, chained: {validity_text(flow_quality(FlowStore(paths, names), truth))}")


if __name__ == "__main__":
    main()
