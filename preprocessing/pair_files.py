"""Masks, counts and statistics of the pairs, shared by filtering and chaining."""

import json

import numpy as np
from tqdm import tqdm

from utils.atomic import atomic_path
from utils.errors import InputError
from utils.paths import SequencePaths
from utils.video_io import read_frame, write_image


def write_pair_mask(paths: SequencePaths, a: str, b: str, consistent: np.ndarray, rescued: np.ndarray) -> None:
    """Write bool [H,W] masks of the flow a→b as the png that `SequencePaths.flow_mask` describes."""
    channels = [consistent, rescued, np.zeros_like(consistent)]
    write_image(paths.flow_mask(a, b), np.stack(channels, -1).astype(np.uint8) * 255)


def read_pair_mask(paths: SequencePaths, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """(cycle-consistent, rescued as occluded), bool [H,W] each."""
    image = read_frame(paths.flow_mask(a, b))
    return image[..., 0] > 127, image[..., 1] > 127


def missing_masks(paths: SequencePaths, names: list[str]) -> list[tuple[str, str]]:
    """Ordered pairs of frames without a mask file."""
    folder = paths.flow_mask("a", "b").parent
    here = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return [(a, b) for a in names for b in names if a != b and paths.flow_mask(a, b).name not in here]


def counts_missing(paths: SequencePaths, names: list[str]) -> bool:
    """Whether count maps or statistics of these frames are missing."""
    try:
        stats = json.loads(paths.flow_stats.read_text())
    except (OSError, ValueError):
        return True
    if any(b not in stats.get(a, {}) for a in names for b in names if a != b):
        return True
    return not all(paths.count_map(name).is_file() for name in names)


def write_counts(paths: SequencePaths, names: list[str], label: str) -> None:
    """Count maps and `flow_stats.json` from the masks: valid is what is cycle-consistent or rescued.

    A map counts, for each pixel, the valid pairs that start there. The statistics come last: they vouch for
    the maps.
    """
    stats: dict[str, dict[str, int]] = {}
    for a in tqdm(names, desc=f"{label} counts", unit="frame"):
        total = None
        stats[a] = {}
        for b in names:
            if a == b:
                continue
            consistent, rescued = read_pair_mask(paths, a, b)
            count = consistent.astype(np.uint16) + rescued
            stats[a][b] = int(count.sum())
            total = count if total is None else total + count
        write_image(paths.count_map(a), total)
    if not any(sum(row.values()) for row in stats.values()):
        raise InputError(f"no flow in {paths.root} is valid anywhere: look at the frames, or try another --flow")
    with atomic_path(paths.flow_stats) as temporary:
        temporary.write_text(json.dumps(stats))
