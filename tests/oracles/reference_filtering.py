"""Filtering and chaining in the simplest way: each pair by itself, each map at full resolution.

Oracle of the tests, and what `benchmarks.preprocess` compares with. Same files and results; its thresholds
are written out.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from preprocessing.flow_files import read_flow, read_pair_mask, write_flow
from preprocessing.pair_files import write_pair_mask
from preprocessing.pairs import Pairs
from preprocessing.sequence_paths import SequencePaths
from utils.images import read_frame

MIN_COSINE = {"dino": 0.5, "sift": 0.85}


def reference_filter_and_chain(paths: SequencePaths, kind: str, names: list[str]) -> None:
    """Write the masks of all pairs, then all chained flow and masks; no counts."""
    for i, j in Pairs(len(names)).all():
        filter_pair(paths, kind, names[i], names[j], abs(i - j))
    for i, targets in Pairs(len(names)).sweeps():
        chain_sweep(paths, kind, names, i, targets)


def filter_pair(paths: SequencePaths, kind: str, a: str, b: str, gap: int) -> None:
    """Write the masks of the flow a→b."""
    flow, back = (torch.from_numpy(read_flow(paths, *pair)) for pair in ((a, b), (b, a)))
    grid = _grid(flow)
    target = grid + flow
    returned = target + _sample(back.permute(2, 0, 1), target).permute(1, 2, 0)
    again = returned + _sample(flow.permute(2, 0, 1), returned).permute(1, 2, 0)
    first, second = (returned - grid).norm(dim=-1), (again - target).norm(dim=-1)
    consistent = _inside(target) & (first < 3.0)
    rescued = _inside(target) & (first > 1.5 * 3.0) & (second < 3.0)
    if gap >= 3:
        consistent, rescued = consistent & _similar(paths, kind, a, b, target), torch.zeros_like(rescued)
    write_pair_mask(paths, a, b, consistent.numpy(), rescued.numpy())


def chain_sweep(paths: SequencePaths, kind: str, names: list[str], i: int, targets: list[int]) -> None:
    """Write chained flow and masks of i→targets into `paths.chained`."""
    flow, valid = torch.empty(0), torch.empty(0)
    for k, j in enumerate(targets):
        a, b = names[i], names[j]
        direct = torch.from_numpy(read_flow(paths, a, b))
        direct_valid, rescued = (torch.from_numpy(mask) for mask in read_pair_mask(paths, a, b))
        filled = torch.zeros_like(direct_valid)
        chained = direct
        if k:
            before = names[targets[k - 1]]
            step = torch.from_numpy(read_flow(paths, before, b)).permute(2, 0, 1)
            step_valid = torch.from_numpy(read_pair_mask(paths, before, b)[0])[None].float()
            middle = _grid(flow) + flow
            chained = flow + _sample(step, middle).permute(1, 2, 0)
            target = _grid(flow) + chained
            filled = valid & (_sample(step_valid, middle)[0] > 0.9999) & _inside(middle) & _inside(target)
            colours = [torch.from_numpy(read_frame(paths.color / name)).permute(2, 0, 1) / 255 for name in (a, b)]
            filled &= (colours[0] - _sample(colours[1], target)).norm(dim=0) < 0.3
            filled &= _similar(paths, kind, a, b, target) & ~direct_valid
        flow, valid = torch.where(filled[..., None], chained, direct), filled | direct_valid
        write_flow(paths.chained, a, b, torch.where(filled[..., None], chained, torch.nan).numpy())
        write_pair_mask(paths.chained, a, b, valid.numpy(), (rescued & ~valid).numpy())


def _sample(image: Tensor, px: Tensor) -> Tensor:
    """Look up [C,H,W] at pixels [H,W,2]: [C,H,W]."""
    size = torch.tensor([image.shape[2] - 1, image.shape[1] - 1])
    return F.grid_sample(image[None], (2 * px / size - 1)[None], align_corners=True, padding_mode="border")[0]


def _grid(flow: Tensor) -> Tensor:
    y, x = torch.meshgrid(torch.arange(flow.shape[0]), torch.arange(flow.shape[1]), indexing="ij")
    return torch.stack([x, y], -1).float()


def _inside(px: Tensor) -> Tensor:
    height, width = px.shape[:2]
    return (px >= 0).all(-1) & (px[..., 0] <= width - 1) & (px[..., 1] <= height - 1)


def _similar(paths: SequencePaths, kind: str, a: str, b: str, target: Tensor) -> Tensor:
    """Return where the features of frame `a` and those at the targets in frame `b` are alike, bool [H,W]."""
    full = [
        F.interpolate(
            torch.from_numpy(np.load(paths.feature(kind, name)).astype(np.float32)).permute(2, 0, 1)[None],
            tuple(target.shape[:2]),
            mode="bilinear",
            align_corners=True,
        )[0]
        for name in (a, b)
    ]
    return F.cosine_similarity(full[0], _sample(full[1], target), dim=0) > MIN_COSINE[kind]
