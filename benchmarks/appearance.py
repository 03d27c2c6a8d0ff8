"""Which cosine of the SIFT descriptors separates right from wrong flow: `python -m benchmarks.appearance SEQ …`.

Takes preprocessed sequences with exact tracks and foreground masks (the demo's `data/demo_scene`). Counted are tracked
points whose flow, at frame gaps with an appearance check, passes the cycle check: right if it ends within 2 px of the
exact position and the point is visible there, wrong if it ends more than 5 px off. Right points of the background and
of moving objects are counted apart, because a strict threshold rejects those of objects first.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import write_json
from preprocessing.consistency import NEAR_GAP, appearance_similarity, cycle_masks
from preprocessing.features import sift_map
from preprocessing.flow_files import read_flow
from preprocessing.sequence_paths import SequencePaths
from utils.coords import sample_bilinear
from utils.images import list_frames, read_frame

COSINES = (0.70, 0.76, 0.80, 0.82, 0.84, 0.85, 0.86, 0.88, 0.90)
RIGHT, WRONG = 2.0, 5.0  # pixels


def similarities(paths: SequencePaths) -> dict[str, np.ndarray]:
    """Return the cosines of the counted points: `background` and `object` (right ones) and `wrong`."""
    frames = list_frames(paths.color)
    names = [frame.name for frame in frames]
    maps = [sift_map(read_frame(frame)) for frame in frames]
    masks = [read_frame(paths.mask / name)[..., 0] > 127 for name in names]
    with np.load(paths.gt_tracks) as tracks:
        points, occluded = tracks["points"], tracks["occluded"]
    found: dict[str, list[np.ndarray]] = {"background": [], "object": [], "wrong": []}
    for i in range(len(names)):
        visible = ~occluded[:, i]
        px = torch.from_numpy(points[visible, i])
        x, y = px.round().long().unbind(-1)
        on_object = masks[i][y, x]
        for j in (j for j in range(len(names)) if abs(i - j) >= NEAR_GAP):
            flow, back = (torch.from_numpy(read_flow(paths, names[a], names[b])) for a, b in ((i, j), (j, i)))
            ends = px + sample_bilinear(flow[None], px[None])[0]
            cosine = appearance_similarity(maps[i], maps[j], px, ends, masks[i].shape).numpy()
            error = np.linalg.norm(ends.numpy() - points[visible, j], axis=-1)
            consistent = cycle_masks(flow, back)[0][y, x].numpy()
            right = consistent & (error < RIGHT) & ~occluded[visible, j]
            found["background"].append(cosine[right & ~on_object])
            found["object"].append(cosine[right & on_object])
            found["wrong"].append(cosine[consistent & (error > WRONG)])
    return {name: np.concatenate(values) for name, values in found.items()}


def main() -> None:
    """Print, for each sequence and cosine, the fraction of each kind of point that is kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sequences", nargs="+", type=Path, help="preprocessed sequence folders with gt_tracks.npz")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    args = parser.parse_args()
    table = {}
    for root in args.sequences:
        kinds = similarities(SequencePaths(root))
        table[str(root)] = {c: {kind: float((v > c).mean()) for kind, v in kinds.items()} for c in COSINES}
        print(f"{root}: kept of " + ", ".join(f"{len(values)} {kind}" for kind, values in kinds.items()))
        for cosine, kept in table[str(root)].items():
            print(f"  cosine > {cosine:.2f}  " + "  ".join(f"{kind} {part:6.1%}" for kind, part in kept.items()))
    write_json(args.json, table)


if __name__ == "__main__":
    main()
