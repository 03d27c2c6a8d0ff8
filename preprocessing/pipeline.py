"""The stages of preprocessing in order: flow, features, filter, chain. Each makes only what is missing."""

from contextlib import ExitStack
from dataclasses import replace

import torch

from preprocessing import manifest
from preprocessing.chain_flow import chain_flow
from preprocessing.clip_checks import check_clip
from preprocessing.dino_network import load_dino
from preprocessing.features import feature_extractor, write_features
from preprocessing.filter_flow import filter_flow
from preprocessing.flow_choice import choose_flow
from preprocessing.flow_dis import DisFlow
from preprocessing.flow_pairs import FlowEstimator, write_flows
from preprocessing.flow_raft import RaftFlow
from preprocessing.flow_scale import ScaledFlow, enlarged_frames
from preprocessing.pairs import Pairs
from preprocessing.products import (
    ESTIMATES,
    describe_missing,
    finished_estimates,
    is_published,
    refuse_unknown_origin,
)
from preprocessing.raft_network import load_raft
from preprocessing.report import report_path, write_report
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from preprocessing.weights import computes_in_half
from utils.atomic import remove_partial
from utils.distributed import SINGLE_PROCESS, Context
from utils.errors import InputError, explain_failed_writes
from utils.images import iter_frames, list_frames
from utils.lock import locked


def preprocess(
    paths: SequencePaths,
    settings: Settings,
    *,
    device: torch.device | str = "cpu",
    num_frames: int | None = None,
    redo: bool = False,
    context: Context = SINGLE_PROCESS,
) -> None:
    """Run the missing stages of preprocessing; after a killed run, the same call resumes.

    Args:
        paths: Sequence folder with `color/`.
        settings: What to make, and how.
        device: Device for RAFT, DINO, filtering and chaining.
        num_frames: Use only the first frames.
        redo: Delete and remake products of other settings or frames, instead of refusing them.
        context: The processes that share the work.

    Raises:
        InputError: Unusable frames or weights, products of other settings, another process that uses the folder (all
            found before any long work), or a full disk.
    """
    names = [path.name for path in list_frames(paths.color)[: None if num_frames is None else max(0, num_frames)]]
    if len(names) < 2:
        raise InputError(f"--num_frames is {num_frames}, expected at least 2 frames")
    if is_published(paths, names):
        return
    picture = report_path(paths, settings.chain)
    with explain_failed_writes(paths.root), ExitStack() as lock:
        chosen: list[Settings] = []

        def prepare() -> None:
            choice, line = choose_flow(settings, paths, names[0], redo)
            chosen.append(choice)
            missing = describe_missing(paths, names, choice)
            if line and missing:
                print(line)
            # Runs that find all products only read, so they need no lock.
            if redo or missing or not picture.exists():
                lock.enter_context(locked(paths.root))
                remove_partial(paths.root)
            _prepare(paths, names, choice, device, redo)

        context.on_rank0(prepare)
        settings = context.all_gather_object(chosen)[0]  # rank 0's
        if describe_missing(paths, names, settings):
            _run_stages(paths, names, settings, device, context)
        if context.rank == 0 and not picture.exists():
            for problem in check_clip(paths, names):
                print(f"warning: {problem}")
            print(write_report(paths.chained if settings.chain else paths, names, picture))


def require_complete(paths: SequencePaths, names: list[str], settings: Settings) -> None:
    """Raise InputError unless all products for training exist, made with these settings from these frames."""
    if missing := describe_missing(paths, names, settings):
        unchained = settings.chain and not describe_missing(paths, names, replace(settings, chain=False))
        advice = "drop the flag, or preprocess first" + (", or give --chain false" if unchained else "")
        raise InputError(f"--preprocess never, but {paths.root} lacks {missing}; {advice}")
    if not is_published(paths, names):
        settings, _ = choose_flow(settings, paths, names[0], redo=False)
        manifest.check_record(paths, names, manifest.stage_settings(settings), finished=ESTIMATES)


def _prepare(
    paths: SequencePaths, names: list[str], settings: Settings, device: torch.device | str, redo: bool
) -> None:
    """Refuse unusable input, delete what `redo` remakes, and record what will be made, before any long work."""
    refuse_unknown_origin(paths, names)
    if describe_missing(paths, names, settings):
        for _ in iter_frames([paths.color / name for name in names]):
            pass  # finds an unusable frame before hours of work
    wanted = manifest.stage_settings(settings, computes_in_half(device))
    finished = finished_estimates(paths, names, settings)
    if not redo:
        manifest.check_record(paths, names, wanted, finished)
    stale = manifest.stale_stages(paths, names, wanted, finished)
    _refuse_unusable_weights(settings, stale | (ESTIMATES - finished))
    if redo:
        manifest.delete_stale(paths, names, wanted, finished)
    complete = not describe_missing(paths, names, settings)
    manifest.write_record(paths, names, wanted, finished - stale, complete)
    if not complete:
        for chain in (True, False):
            report_path(paths, chain).unlink(missing_ok=True)


def _refuse_unusable_weights(settings: Settings, stages: set[str]) -> None:
    """Try to load the networks of the stages, before their products are recorded or deleted."""
    if settings.flow == "raft" and "flow" in stages:
        load_raft(settings.raft_weights, "cpu")
    if settings.features == "dino" and "features" in stages:
        load_dino(settings.dino_weights, "cpu")


def _run_stages(
    paths: SequencePaths, names: list[str], settings: Settings, device: torch.device | str, context: Context
) -> None:
    """Run the stages in order; all networks are loaded before the first stage."""
    pairs, extract, estimator = Pairs(len(names), settings.pairs), None, None
    finished = finished_estimates(paths, names, settings)
    if "flow" not in finished:
        estimator = _flow_estimator(paths, names, settings, device)
    if "features" not in finished:
        extract = feature_extractor(settings.features, device, settings.dino_weights)
    context.barrier()
    if estimator is not None:
        write_flows(paths, names, pairs, estimator, context)
    del estimator  # frees a network and encoded frames
    if extract is not None:
        write_features(paths, context.partition(names), settings.features, extract, device)
    del extract
    context.barrier()
    filter_flow(paths, names, settings.features, device, pairs, context)
    if settings.chain:
        chain_flow(paths, names, settings.features, device, pairs, context)


def _flow_estimator(
    paths: SequencePaths, names: list[str], settings: Settings, device: torch.device | str
) -> FlowEstimator:
    """Build the estimator of `settings.flow`, on frames of `settings.flow_scale`."""
    scale = int(settings.flow_scale)
    read = enlarged_frames(paths, names, scale)
    estimator: FlowEstimator
    if settings.flow == "dis":
        estimator = DisFlow(read)
    else:
        network = load_raft(settings.raft_weights, device)
        estimator = RaftFlow(read, network, settings.raft_batch, settings.raft_iters)
    return estimator if scale == 1 else ScaledFlow(estimator, scale)
