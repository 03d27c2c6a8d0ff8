"""Chain shorter flows where the direct flow is not valid → chained/ (the raw flow stays as it is).

Along a sweep i→i+1, i→i+2, … (and backwards) the flow is carried on by the next adjacent flow where that is
cycle-consistent. A valid direct flow overrides it, and the chain continues from there. What is chained must look alike
at both ends. A doubled gap of sparse pairs is chained from its two halves. The files hold what was chained and NaN
elsewhere: there the raw flow holds, valid or not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from preprocessing.consistency import extend_chain, similar_colour
from preprocessing.filter_flow import Device, FeatureMaps
from preprocessing.flow_files import missing_flows, read_flow, read_pair_mask, write_flow
from preprocessing.pair_files import missing_masks, write_counts, write_pair_mask
from preprocessing.pairs import Pairs
from preprocessing.sequence_paths import SequencePaths
from utils.distributed import Context
from utils.images import read_frame
from utils.parallel import default_workers, run_in_threads

# Bytes of adjacent flows kept: every sweep goes through those on its side. A longer clip reads them again.
STEPS_MEMORY = 2**29


def chain_flow(
    paths: SequencePaths,
    names: list[str],
    features: str,
    device: Device = "cpu",
    pairs: Pairs | None = None,
    context: Context | None = None,
) -> None:
    """Write chained flow, masks and counts into `paths.chained`; sweeps whose files are all there are kept.

    Args: see `preprocessing.filter_flow.filter_flow`; the sequence is filtered.
    """
    pairs, context = pairs or Pairs(len(names)), context or Context()
    chain = Chain(paths, names, features, device)
    jobs = [Job([(i, j) for j in js], chain.sweep(i, js)) for i, js in pairs.sweeps()]
    _write(paths, names, jobs, context, "chain", device)
    for gap in pairs.doublings():
        context.barrier()  # for the halves
        jobs = [Job([pair], chain.join(pair)) for pair in pairs.at_gap(gap)]
        _write(paths, names, jobs, context, f"chain, gap {gap}", device)
    context.barrier()
    write_counts(paths.chained, names, pairs, "chain", context)


def read_chained(paths: SequencePaths, a: str, b: str) -> tuple[Tensor, Tensor]:
    """Flow a→b [H,W,2] after chaining, the raw flow where nothing was chained, and its validity [H,W] bool."""
    chained, raw = (torch.from_numpy(read_flow(p, a, b)) for p in (paths.chained, paths))
    return torch.where(chained.isnan(), raw, chained), torch.from_numpy(read_pair_mask(paths.chained, a, b)[0])


Chained = tuple[tuple[int, int], Tensor, Tensor, Tensor]  # (i, j), flow (NaN where not chained), valid, rescued


@dataclass(frozen=True)
class Job:
    """Some pairs and what chains them all, one after the other."""

    pairs: list[tuple[int, int]]
    chained: Iterator[Chained]


class Chain:
    """Chains the filtered flows of a sequence."""

    def __init__(self, paths: SequencePaths, names: list[str], features: str, device: Device):
        self.paths, self.names, self.device = paths, names, device
        self.features = FeatureMaps(paths, features, device)
        steps = STEPS_MEMORY // (10 * read_frame(paths.color / names[0])[..., 0].size)  # two float32, two bool a pixel
        self._step = lru_cache(steps)(self._direct)

    def sweep(self, i: int, targets: list[int]) -> Iterator[Chained]:
        """Consecutive targets beginning beside i."""
        flow, valid, rescued = self._direct(i, targets[0])
        yield (i, targets[0]), torch.full_like(flow, torch.nan), valid, rescued
        for previous, j in pairwise(targets):
            step, step_valid, _ = self._step(previous, j)
            chained, filled, direct, direct_valid, rescued = self._extend((i, j), flow, valid, step, step_valid)
            flow, valid = torch.where(filled[..., None], chained, direct), filled | direct_valid
            yield (i, j), _only(chained, filled), valid, rescued & ~valid

    def join(self, pair: tuple[int, int]) -> Iterator[Chained]:
        """A pair from its two halves, chained before."""
        a, middle, b = (self.names[k] for k in (pair[0], sum(pair) // 2, pair[1]))
        first, second = ([x.to(self.device) for x in read_chained(self.paths, *p)] for p in ((a, middle), (middle, b)))
        chained, filled, _, direct_valid, rescued = self._extend(pair, *first, *second)
        valid = filled | direct_valid
        yield pair, _only(chained, filled), valid, rescued & ~valid

    def _extend(
        self, pair: tuple[int, int], flow: Tensor, valid: Tensor, step: Tensor, step_valid: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Carry `flow` on by `step`: chained flow, where it fills in, and flow, validity, rescue of the direct pair."""
        a, b = (self.names[k] for k in pair)
        direct, direct_valid, rescued = self._direct(*pair)
        chained, filled = extend_chain(flow, valid, step, step_valid)
        filled &= ~direct_valid
        filled &= similar_colour(self._image(a), self._image(b), chained)
        return chained, self.features.keep_similar(filled, chained, a, b), direct, direct_valid, rescued

    def _direct(self, i: int, j: int) -> tuple[Tensor, Tensor, Tensor]:
        """Raw flow [H,W,2], cycle-consistent and rescued [H,W]."""
        a, b = self.names[i], self.names[j]
        arrays = read_flow(self.paths, a, b), *read_pair_mask(self.paths, a, b)
        return tuple(torch.from_numpy(array).to(self.device) for array in arrays)

    def _image(self, name: str) -> Tensor:
        """Frame [H,W,3] in [0, 1]."""
        return torch.from_numpy(read_frame(self.paths.color / name)).to(self.device).float() / 255


def _only(flow: Tensor, where: Tensor) -> Tensor:
    return torch.where(where[..., None], flow, torch.nan)


def _write(
    paths: SequencePaths, names: list[str], jobs: list[Job], context: Context, label: str, device: Device
) -> None:
    """Do this process's jobs that have a file missing."""
    every = [(names[i], names[j]) for job in jobs for i, j in job.pairs]
    missing = {*missing_flows(paths.chained, every), *missing_masks(paths.chained, every)}
    todo = [job for job in context.partition(jobs) if any((names[i], names[j]) in missing for i, j in job.pairs)]

    def work(job: Job) -> Iterator[None]:
        for (i, j), flow, valid, rescued in job.chained:
            write_flow(paths.chained, names[i], names[j], flow.cpu().numpy())
            write_pair_mask(paths.chained, names[i], names[j], valid.cpu().numpy(), rescued.cpu().numpy())
            bar.update()
            yield

    with tqdm(total=sum(len(job.pairs) for job in todo), desc=label, unit="pair", disable=context.rank > 0) as bar:
        run_in_threads(work, todo, default_workers(read_frame(paths.color / names[0])[..., 0].size, device))
