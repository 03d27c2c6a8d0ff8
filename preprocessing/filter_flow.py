"""Filter the raw flow by cycle consistency and appearance: raft_masks/, count_maps/, flow_stats.json."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from preprocessing.consistency import COSINE_THRESHOLD, NEAR_GAP, cycle_masks, keep_similar
from preprocessing.flow_files import read_flow
from preprocessing.pair_files import missing_masks, write_counts, write_pair_mask
from preprocessing.pairs import Pair, Pairs
from preprocessing.sequence_paths import SequencePaths
from utils.data_files import read_array
from utils.distributed import SINGLE_PROCESS, Context
from utils.errors import InputError
from utils.images import read_frame
from utils.parallel import advance, default_workers, run_in_threads

Device = torch.device | str
CACHE_BYTES = 2**30  # of features that stay in memory
DINO_BYTES, SIFT_BYTES_PER_PX = 2_400_000, 32  # of a frame's features: DINO's have one size for all frames


class FeatureMaps:
    """Features of the frames as float32 [h,w,C]; the most recently used ones stay in memory.

    Args:
        paths: Sequence with `features/<kind>/`.
        kind: A key of `COSINE_THRESHOLD`.
        device: Where to compare.
        num_px: Pixels of a frame.
    """

    def __init__(self, paths: SequencePaths, kind: str, device: Device, num_px: int) -> None:
        self.threshold = COSINE_THRESHOLD[kind]
        size = DINO_BYTES if kind == "dino" else SIFT_BYTES_PER_PX * num_px
        self._load = lru_cache(max(2, CACHE_BYTES // size))(
            lambda name: torch.from_numpy(_read_features(paths.feature(kind, name))).to(device)
        )

    def keep_similar(self, mask: Tensor, flow: Tensor, a: str, b: str) -> Tensor:
        """Remove from `mask` [H,W] the pixels of frame `a` whose targets in frame `b` look different."""
        return keep_similar(mask, flow, self._load(a), self._load(b), self.threshold)


def _read_features(path: Path) -> np.ndarray:
    """Read a feature file as float32 [h,w,C]."""
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
    context: Context = SINGLE_PROCESS,
) -> None:
    """Write the missing masks of the pairs, then the counts.

    Each worker holds the two flows of one pair in memory.

    Args:
        paths: Sequence with `raft_exhaustive/` and `features/<features>/`.
        names: Frame file names in order.
        features: Kind of features, a key of `COSINE_THRESHOLD`.
        device: Where to compute.
        pairs: The pairs that have flow; None: all.
        context: The processes that share the work.
    """
    pairs = pairs or Pairs(len(names))
    missing = set(missing_masks(paths, pairs.named(names)))
    todo = context.partition([(i, j) for i, j in pairs.all() if i < j])
    todo = [(i, j) for i, j in todo if {(names[i], names[j]), (names[j], names[i])} & missing]
    num_px = read_frame(paths.color / names[0])[..., 0].size
    maps = FeatureMaps(paths, features, device, num_px)

    def work(pair: Pair) -> Iterator[None]:
        (a, b), is_near = (names[k] for k in pair), pair[1] - pair[0] < NEAR_GAP
        forward, backward = (torch.from_numpy(read_flow(paths, *ends)).to(device) for ends in ((a, b), (b, a)))
        for ends, flow, back in (((a, b), forward, backward), ((b, a), backward, forward)):
            consistent, rescued = cycle_masks(flow, back, rescue=is_near)
            if not is_near:
                consistent = maps.keep_similar(consistent, flow, *ends)
            write_pair_mask(paths, *ends, consistent.cpu().numpy(), rescued.cpu().numpy())
        advance(bar)
        yield

    with tqdm(total=len(todo), desc="filter", unit="pair", disable=context.rank > 0) as bar:
        run_in_threads(work, todo, default_workers(num_px, device))
    context.barrier()
    write_counts(paths, names, pairs, "filter", context)
