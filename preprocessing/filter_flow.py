"""Filter the raw flow by cycle consistency and appearance → raft_masks/, count_maps/, flow_stats.json."""

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from preprocessing.consistency import (
    COSINE_THRESHOLD,
    CYCLE_THRESHOLD,
    NEAR_GAP,
    cycle_masks,
    keep_similar,
)
from preprocessing.flow_pairs import load_flow
from preprocessing.pair_files import counts_missing, missing_masks, write_counts, write_pair_mask
from utils.paths import SequencePaths


def load_feature(paths: SequencePaths, kind: str, name: str, device: torch.device | str) -> Tensor:
    """Features of a frame as float32 [h,w,C]."""
    return torch.from_numpy(np.load(paths.feature(kind, name)).astype(np.float32)).to(device)


def filter_flow(
    paths: SequencePaths,
    names: list[str],
    features: str,
    device: torch.device | str = "cpu",
    threshold: float = CYCLE_THRESHOLD,
) -> None:
    """Write the masks of all ordered pairs that have none yet, then the counts.

    In memory at any time: the two flows and the two feature maps of one pair.

    Args:
        paths: sequence with `raft_exhaustive/` and `features/<features>/`.
        names: frame file names in order.
        features: kind of features, a key of `COSINE_THRESHOLD`.
        device: where to compute.
        threshold: of the cycle, pixels.
    """
    missing = set(missing_masks(paths, names))
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    pairs = [(i, j) for i, j in pairs if {(names[i], names[j]), (names[j], names[i])} & missing]
    for i, j in tqdm(pairs, desc="filter", unit="pair"):
        a, b = names[i], names[j]
        flow, back = (torch.from_numpy(load_flow(paths.flow(*pair))).to(device) for pair in ((a, b), (b, a)))
        maps = None
        if j - i >= NEAR_GAP:
            maps = load_feature(paths, features, a, device), load_feature(paths, features, b, device)
        _write_masks(paths, (a, b), flow, back, maps, COSINE_THRESHOLD[features], threshold)
        _write_masks(paths, (b, a), back, flow, maps and maps[::-1], COSINE_THRESHOLD[features], threshold)
    if pairs or counts_missing(paths, names):
        write_counts(paths, names, "filter")


def _write_masks(
    paths: SequencePaths,
    pair: tuple[str, str],
    flow: Tensor,
    back: Tensor,
    maps: tuple[Tensor, Tensor] | None,
    cosine: float,
    threshold: float,
) -> None:
    """Masks of one direction: near pairs (no `maps`) are rescued, far ones compared by appearance."""
    consistent, rescued = cycle_masks(flow, back, threshold)
    if maps is not None:
        consistent, rescued = keep_similar(consistent, flow, *maps, cosine), torch.zeros_like(rescued)
    write_pair_mask(paths, *pair, consistent.cpu().numpy(), rescued.cpu().numpy())
