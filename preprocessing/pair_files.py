"""Masks, counts and statistics of the pairs, shared by filtering and chaining."""

import json

import numpy as np
from tqdm import tqdm

from preprocessing.flow_files import read_pair_mask
from preprocessing.pairs import Pairs
from preprocessing.sequence_paths import SequencePaths
from utils.atomic import write_atomic
from utils.data_files import read_json
from utils.distributed import Context
from utils.errors import InputError
from utils.images import write_image


def write_pair_mask(paths: SequencePaths, a: str, b: str, consistent: np.ndarray, rescued: np.ndarray) -> None:
    """Write bool [H,W] masks of the flow a→b as the png that `SequencePaths.flow_mask` describes."""
    channels = [consistent, rescued, np.zeros_like(consistent)]
    write_image(paths.flow_mask(a, b), np.stack(channels, -1).astype(np.uint8) * 255)


def missing_masks(paths: SequencePaths, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the pairs of frame names that have no mask file."""
    folder = paths.flow_mask("a", "b").parent
    here = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return [pair for pair in pairs if paths.flow_mask(*pair).name not in here]


def counts_missing(paths: SequencePaths, names: list[str], pairs: Pairs) -> bool:
    """Whether count maps are missing, or statistics of exactly these pairs: a longer clip's counts are others."""
    return _counted(paths) != set(pairs.named(names)) or not all(paths.count_map(name).is_file() for name in names)


def _counted(paths: SequencePaths) -> set[tuple[str, str]]:
    try:
        stats = read_json(paths.flow_stats)
        return {(a, b) for a, row in stats.items() for b in row}
    except (OSError, ValueError, AttributeError, TypeError):
        return set()


def write_counts(
    paths: SequencePaths, names: list[str], pairs: Pairs, label: str, context: Context | None = None
) -> None:
    """Count maps and `flow_stats.json` from the masks, unless they are there.

    Valid is what is cycle-consistent or rescued. A map counts, for each pixel, the valid pairs that start there. The
    statistics come last: they vouch for the maps. One process of a context writes them while the others wait.
    """
    context = context or Context()
    if context.rank == 0 and counts_missing(paths, names, pairs):
        paths.flow_stats.unlink(missing_ok=True)
        targets: dict[str, list[str]] = {name: [] for name in names}
        for i, j in sorted(pairs.all()):
            targets[names[i]].append(names[j])
        stats: dict[str, dict[str, int]] = {a: {} for a in names}
        for a in tqdm(names, desc=f"{label} counts", unit="frame"):
            total = np.uint16(0)
            for b in targets[a]:
                valid = np.logical_or(*read_pair_mask(paths, a, b))
                stats[a][b] = int(valid.sum())
                total = total + valid.astype(np.uint16)
            write_image(paths.count_map(a), total)
        if not any(sum(row.values()) for row in stats.values()):
            raise InputError(f"no flow in {paths.root} is valid anywhere: look at the frames, or try another --flow")
        write_atomic(paths.flow_stats, json.dumps(stats).encode())
    context.barrier()
