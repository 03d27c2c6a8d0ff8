"""Chain flow through intermediate frames where the direct flow is not valid, into `chained/`; raw flow is kept.

Along a sweep i→i+1, i→i+2, … (and backwards), flow is extended by the next adjacent flow where that flow is
cycle-consistent. Valid direct flow has precedence, and the chain continues from it. The two ends of chained flow must
look alike. Flow over a doubled gap of sparse pairs is chained from its two halves. The files hold chained flow, and NaN
where nothing was chained: there the raw flow applies, valid or not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from preprocessing.consistency import extend_chain, keep_similar_colour
from preprocessing.filter_flow import Device, FeatureMaps
from preprocessing.flow_files import missing_flows, read_flow, read_pair_mask, write_flow
from preprocessing.pair_files import missing_masks, write_counts, write_pair_mask
from preprocessing.pairs import Pair, Pairs, Sweep
from preprocessing.sequence_paths import SequencePaths
from utils.distributed import SINGLE_PROCESS, Context
from utils.images import read_frame
from utils.parallel import advance, default_workers, run_in_threads

# Bytes for adjacent flows and for frames, which every sweep uses; longer clips read them repeatedly.
ADJACENT_CACHE_BYTES, FRAME_CACHE_BYTES = 2**29, 2**28


class FilteredFlow(NamedTuple):
    """Raw flow [H,W,2] of a pair, and bool masks [H,W]: where it is cycle-consistent, and where it was rescued."""

    flow: Tensor
    valid: Tensor
    rescued: Tensor


class ChainedFlow(NamedTuple):
    """Products of chaining for a pair: flow [H,W,2], NaN where nothing was chained, and bool masks [H,W]."""

    pair: Pair
    flow: Tensor
    valid: Tensor
    rescued: Tensor


@dataclass(frozen=True)
class Job:
    """Pairs that are chained one after the other, and the iterator that chains them."""

    pairs: list[Pair]
    results: Iterator[ChainedFlow]


def chain_flow(
    paths: SequencePaths,
    names: list[str],
    features: str,
    device: Device = "cpu",
    pairs: Pairs | None = None,
    context: Context = SINGLE_PROCESS,
) -> None:
    """Write chained flow, masks and counts of a filtered sequence into `paths.chained`; arguments as in `filter_flow`.

    Sweeps whose files all exist are skipped.
    """
    pairs = pairs or Pairs(len(names))
    chain = Chain(paths, names, features, device)
    jobs = [Job([(i, j) for j in targets], chain.along_sweep((i, targets))) for i, targets in pairs.sweeps()]
    _run(paths, names, jobs, context, "chain", device)
    for gap in pairs.doubled_gaps():
        context.barrier()  # the halves must exist
        jobs = [Job([pair], chain.from_halves(pair)) for pair in pairs.with_gap(gap)]
        _run(paths, names, jobs, context, f"chain, gap {gap}", device)
    context.barrier()
    write_counts(paths.chained, names, pairs, "chain", context)


def read_chained(paths: SequencePaths, a: str, b: str) -> tuple[Tensor, Tensor]:
    """Read the flow a→b [H,W,2] after chaining (raw where nothing was chained), and where it is valid, bool [H,W]."""
    chained, raw = (torch.from_numpy(read_flow(p, a, b)) for p in (paths.chained, paths))
    return torch.where(chained.isnan(), raw, chained), torch.from_numpy(read_pair_mask(paths.chained, a, b)[0])


class Chain:
    """Chaining of the filtered flows of a sequence.

    Args:
        paths: Filtered sequence.
        names: Frame file names in order.
        features: Kind of features, a key of `COSINE_THRESHOLD`.
        device: Where to compute.
    """

    def __init__(self, paths: SequencePaths, names: list[str], features: str, device: Device) -> None:
        self.paths, self.names, self.device = paths, names, device
        num_px = read_frame(paths.color / names[0])[..., 0].size
        self.features = FeatureMaps(paths, features, device, num_px)
        # A pixel has two float32 and two bool, and three bytes of colour.
        self._read_adjacent = lru_cache(ADJACENT_CACHE_BYTES // (10 * num_px))(self._read_filtered)
        self._read_frame = lru_cache(FRAME_CACHE_BYTES // (3 * num_px))(lambda name: read_frame(paths.color / name))
        self._read_image = lru_cache(4)(self._read_float)  # a sweep has the same source throughout

    def along_sweep(self, sweep: Sweep) -> Iterator[ChainedFlow]:
        """Chain the flows of a sweep, from adjacent flow to adjacent flow."""
        i, targets = sweep
        flow, valid, rescued = self._read_filtered(i, targets[0])
        yield ChainedFlow((i, targets[0]), torch.full_like(flow, torch.nan), valid, rescued)
        for previous, j in pairwise(targets):
            direct, step = self._read_filtered(i, j), self._read_adjacent(previous, j)
            chained, filled = self._fill((i, j), direct, (flow, valid), (step.flow, step.valid))
            flow, valid = torch.where(filled[..., None], chained, direct.flow), filled | direct.valid
            yield ChainedFlow((i, j), _nan_except(chained, filled), valid, direct.rescued & ~valid)

    def from_halves(self, pair: Pair) -> Iterator[ChainedFlow]:
        """Chain the flow of a pair from its two halves, which have been chained before."""
        a, middle, b = (self.names[k] for k in (pair[0], sum(pair) // 2, pair[1]))
        first, second = (self._read_half(*ends) for ends in ((a, middle), (middle, b)))
        direct = self._read_filtered(*pair)
        chained, filled = self._fill(pair, direct, first, second)
        valid = filled | direct.valid
        yield ChainedFlow(pair, _nan_except(chained, filled), valid, direct.rescued & ~valid)

    def _fill(
        self, pair: Pair, direct: FilteredFlow, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Chain `first` and `second`, each flow [H,W,2] and validity [H,W], where the direct flow is invalid.

        Returns:
            The chained flow [H,W,2], and where it replaces the direct flow, bool [H,W]; elsewhere it does not matter.
        """
        a, b = (self.names[k] for k in pair)
        chained, filled = extend_chain(first[0], first[1] & ~direct.valid, *second)
        filled = keep_similar_colour(filled, chained, self._read_image(a), self._read_image(b))
        return chained, self.features.keep_similar(filled, chained, a, b)

    def _read_filtered(self, i: int, j: int) -> FilteredFlow:
        a, b = self.names[i], self.names[j]
        arrays = read_flow(self.paths, a, b), *read_pair_mask(self.paths, a, b)
        return FilteredFlow(*(torch.from_numpy(array).to(self.device) for array in arrays))

    def _read_half(self, a: str, b: str) -> tuple[Tensor, Tensor]:
        flow, valid = read_chained(self.paths, a, b)
        return flow.to(self.device), valid.to(self.device)

    def _read_float(self, name: str) -> Tensor:
        """Read a frame as [H,W,3] in [0, 1]."""
        return torch.from_numpy(self._read_frame(name)).to(self.device).float() / 255


def _nan_except(flow: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask[..., None], flow, torch.nan)


def _run(paths: SequencePaths, names: list[str], jobs: list[Job], context: Context, label: str, device: Device) -> None:
    """Run this rank's jobs of which a file is missing."""
    pairs = [(names[i], names[j]) for job in jobs for i, j in job.pairs]
    missing = {*missing_flows(paths.chained, pairs), *missing_masks(paths.chained, pairs)}
    todo = [job for job in context.partition(jobs) if any((names[i], names[j]) in missing for i, j in job.pairs)]

    def work(job: Job) -> Iterator[None]:
        for (i, j), flow, valid, rescued in job.results:
            write_flow(paths.chained, names[i], names[j], flow.cpu().numpy())
            write_pair_mask(paths.chained, names[i], names[j], valid.cpu().numpy(), rescued.cpu().numpy())
            advance(bar)
            yield

    with tqdm(total=sum(len(job.pairs) for job in todo), desc=label, unit="pair", disable=context.rank > 0) as bar:
        run_in_threads(work, todo, default_workers(read_frame(paths.color / names[0])[..., 0].size, device))
