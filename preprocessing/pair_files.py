"""Masks, counts and statistics of the pairs, shared by filtering and chaining."""

import json

import numpy as np
from tqdm import tqdm

from preprocessing.pairs import Pairs
from utils.atomic import atomic_path
from utils.errors import InputError
from utils.paths import SequencePaths
from utils.shard import Shard
from utils.video_io import read_frame, write_image


def write_pair_mask(paths: SequencePaths, a: str, b: str, consistent: np.ndarray, rescued: np.ndarray) -> None:
    """Write bool [H,W] masks of the flow a→b as the png that `SequencePaths.flow_mask` describes."""
    channels = [consistent, rescued, np.zeros_like(consistent)]
    write_image(paths.flow_mask(a, b), np.stack(channels, -1).astype(np.uint8) * 255)


def read_pair_mask(paths: SequencePaths, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """(cycle-consistent, rescued as occluded), bool [H,W] each."""
    image = read_frame(paths.flow_mask(a, b))
    return image[..., 0] > 127, image[..., 1] > 127


def missing_masks(paths: SequencePaths, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the pairs of frame names that have no mask file."""
    folder = paths.flow_mask("a", "b").parent
    here = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return [pair for pair in pairs if paths.flow_mask(*pair).name not in here]


def counts_missing(paths: SequencePaths, names: list[str], pairs: Pairs) -> bool:
    """Whether count maps or statistics of these pairs are missing."""
    try:
        stats = json.loads(paths.flow_stats.read_text())
    except (OSError, ValueError):
        return True
    counted = {(a, b) for a, row in stats.items() for b in row}
    return not set(pairs.names(names)) <= counted or not all(paths.count_map(name).is_file() for name in names)


def write_counts(paths: SequencePaths, names: list[str], pairs: Pairs, label: str, shard: Shard | None = None) -> None:
    """Count maps and `flow_stats.json` from the masks, unless they are there.

    Valid is what is cycle-consistent or rescued. A map counts, for each pixel, the valid pairs that start there. The
    statistics come last: they vouch for the maps. One process of a shard writes them while the others wait.
    """
    shard = shard or Shard()
    if shard.rank == 0 and counts_missing(paths, names, pairs):
        targets: dict[str, list[str]] = {name: [] for name in names}
        for i, j in sorted(pairs.all()):
            targets[names[i]].append(names[j])
        stats: dict[str, dict[str, int]] = {}
        for a in tqdm(names, desc=f"{label} counts", unit="frame"):
            valid = [np.logical_or(*read_pair_mask(paths, a, b)) for b in targets[a]]
            stats[a] = {b: int(mask.sum()) for b, mask in zip(targets[a], valid, strict=True)}
            write_image(paths.count_map(a), np.sum(valid, 0, dtype=np.uint16))
        if not any(sum(row.values()) for row in stats.values()):
            raise InputError(f"no flow in {paths.root} is valid anywhere: look at the frames, or try another --flow")
        with atomic_path(paths.flow_stats) as temporary:
            temporary.write_text(json.dumps(stats))
    shard.wait()
