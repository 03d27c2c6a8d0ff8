"""Filter the raw flow by cycle consistency and appearance → raft_masks/, count_maps/, flow_stats.json."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from preprocessing.consistency import (
    COSINE_THRESHOLD,
    NEAR_GAP,
    cycle_masks,
    keep_similar,
)
from preprocessing.flow_files import read_flow
from preprocessing.pair_files import missing_masks, write_counts, write_pair_mask
from preprocessing.pairs import Pairs
from preprocessing.sequence_paths import SequencePaths
from utils.data_files import read_array
from utils.distributed import Context
from utils.errors import InputError
from utils.images import read_frame
from utils.parallel import default_workers, run_in_threads

Device = torch.device | str
FEATURES_KEPT = 16  # frames whose features stay in memory


class FeatureMaps:
    """Features of the frames as float32 [h,w,C], the last used ones in memory."""

    def __init__(self, paths: SequencePaths, kind: str, device: Device):
        self.threshold = COSINE_THRESHOLD[kind]
        self._load = lru_cache(FEATURES_KEPT)(
            lambda name: torch.from_numpy(_read_features(paths.feature(kind, name))).to(device)
        )

    def keep_similar(self, mask: Tensor, flow: Tensor, a: str, b: str) -> Tensor:
        """`mask` [H,W] without the pixels of frame `a` that look different where `flow` [H,W,2] takes them in `b`."""
        return keep_similar(mask, flow, self._load(a), self._load(b), self.threshold)


def _read_features(path: Path) -> np.ndarray:
    """A feature file as float32 [h,w,C]."""
    try:
        features = read_array(path).astype(np.float32)
        if features.ndim != 3 or not np.isfinite(features).all():
            raise ValueError(f"shape {features.shape}, or not finite")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the features {path} ({error}): delete it and preprocess again") from error
    return features


def filter_flow(
    paths: SequencePaths,
    names: list[str],
    features: str,
    device: Device = "cpu",
    pairs: Pairs | None = None,
    context: Context | None = None,
) -> None:
    """Write the masks of the pairs that have none yet, then the counts.

    In memory at any time: the two flows of some pairs (one for each core) and the features of some frames.

    Args:
        paths: sequence with `raft_exhaustive/` and `features/<features>/`.
        names: frame file names in order.
        features: kind of features, a key of `COSINE_THRESHOLD`.
        device: where to compute.
        pairs: the pairs that have flow; None: all.
        context: this process's part.
    """
    pairs, context = pairs or Pairs(len(names)), context or Context()
    missing = set(missing_masks(paths, pairs.named(names)))
    todo = context.partition([(i, j) for i, j in pairs.all() if i < j])
    todo = [(i, j) for i, j in todo if {(names[i], names[j]), (names[j], names[i])} & missing]
    maps = FeatureMaps(paths, features, device)

    def work(indices: tuple[int, int]) -> Iterator[None]:
        a, b = (names[k] for k in indices)
        flow, back = (torch.from_numpy(read_flow(paths, *pair)).to(device) for pair in ((a, b), (b, a)))
        for pair, there, again in (((a, b), flow, back), ((b, a), back, flow)):
            consistent, rescued = cycle_masks(there, again)
            if indices[1] - indices[0] >= NEAR_GAP:  # near pairs are rescued, far ones compared by appearance
                consistent, rescued = maps.keep_similar(consistent, there, *pair), torch.zeros_like(rescued)
            write_pair_mask(paths, *pair, consistent.cpu().numpy(), rescued.cpu().numpy())
        bar.update()
        yield

    with tqdm(total=len(todo), desc="filter", unit="pair", disable=context.rank > 0) as bar:
        run_in_threads(work, todo, default_workers(read_frame(paths.color / names[0])[..., 0].size, device))
    context.barrier()
    write_counts(paths, names, pairs, "filter", context)
