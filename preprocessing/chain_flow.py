"""Chain adjacent flows where the direct flow is not valid → chained/ (the raw flow stays as it is).

Along a sweep i→i+1, i→i+2, … (and backwards) the flow is carried on by the next adjacent flow where that is
cycle-consistent. A valid direct flow overrides it, and the chain continues from there. What is chained must
look alike at both ends. Elsewhere the files repeat the direct flow, on which the occlusion-rescued pixels
rely.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from preprocessing.consistency import COSINE_THRESHOLD, extend_chain, keep_similar, similar_colour
from preprocessing.filter_flow import load_feature
from preprocessing.flow_pairs import load_flow, missing_flows, save_array, sweeps
from preprocessing.pair_files import (
    counts_missing,
    missing_masks,
    read_pair_mask,
    write_counts,
    write_pair_mask,
)
from utils.paths import SequencePaths
from utils.video_io import read_frame


def chain_flow(paths: SequencePaths, names: list[str], features: str, device: torch.device | str = "cpu") -> None:
    """Write chained flow, masks and counts into `paths.chained`; sweeps whose files are all there are kept.

    Args:
        paths: filtered sequence.
        names: frame file names in order.
        features: kind of features, a key of `COSINE_THRESHOLD`.
        device: where to compute.
    """
    missing = set(missing_flows(paths.chained, names)) | set(missing_masks(paths.chained, names))
    todo = [(i, js) for i, js in sweeps(len(names)) if any((names[i], names[j]) in missing for j in js)]
    with tqdm(total=sum(len(js) for _, js in todo), desc="chain", unit="pair") as bar:
        for i, js in todo:
            swept = _sweep(paths, names[i], [names[j] for j in js], features, device)
            for j, (flow, valid, rescued) in zip(js, swept, strict=True):
                save_array(paths.chained.flow(names[i], names[j]), flow.cpu().numpy())
                write_pair_mask(paths.chained, names[i], names[j], valid.cpu().numpy(), rescued.cpu().numpy())
                bar.update()
    if todo or counts_missing(paths.chained, names):
        write_counts(paths.chained, names, "chain")


def _load_pair(paths: SequencePaths, a: str, b: str, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
    """Direct flow [H,W,2], cycle-consistent and rescued [H,W]."""
    masks = read_pair_mask(paths, a, b)
    return tuple(torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in (load_flow(paths.flow(a, b)), *masks))


def _load_image(paths: SequencePaths, name: str, device: torch.device | str) -> Tensor:
    """Frame [H,W,3] in [0, 1]."""
    return torch.from_numpy(read_frame(paths.color / name)).to(device).float() / 255


def _sweep(
    paths: SequencePaths, source: str, targets: list[str], features: str, device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Flow, validity and rescue of source→target for consecutive targets beginning beside the source."""
    image = _load_image(paths, source, device)
    feature = load_feature(paths, features, source, device)
    chained, valid, rescued = _load_pair(paths, source, targets[0], device)
    yield chained, valid, rescued
    for previous, target in pairwise(targets):
        step, step_valid, _ = _load_pair(paths, previous, target, device)
        direct, direct_valid, rescued = _load_pair(paths, source, target, device)
        chained, valid = extend_chain(chained, valid, step, step_valid)
        valid &= similar_colour(image, _load_image(paths, target, device), chained)
        valid = keep_similar(
            valid, chained, feature, load_feature(paths, features, target, device), COSINE_THRESHOLD[features]
        )
        chained = torch.where((valid & ~direct_valid)[..., None], chained, direct)
        valid = valid | direct_valid
        yield chained, valid, rescued & ~valid
