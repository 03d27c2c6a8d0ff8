"""Everything between frames and training: flow, features, filter, chain; a stage does what is missing.

python preprocessing/main_processing.py --data_dir SEQUENCE_OR_VIDEO [--flow dis] [--max_side 256] ...
"""

import os

# Waiting threads must not spin: beside other programs training would slow to a crawl. Set before torch starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, only this folder would be found

from preprocessing import manifest
from preprocessing.chain_flow import chain_flow
from preprocessing.clip_checks import check_clip
from preprocessing.dino_network import load_dino
from preprocessing.features import feature_extractor, missing_features, write_features
from preprocessing.filter_flow import filter_flow
from preprocessing.flow_dis import DisFlow
from preprocessing.flow_files import missing_flows
from preprocessing.flow_pairs import FlowEstimator, write_flows
from preprocessing.flow_raft import RaftFlow, load_raft
from preprocessing.frames import prepare_sequence
from preprocessing.manifest import FEATURES, FLOWS, Settings
from preprocessing.pair_files import counts_missing, missing_masks
from preprocessing.pairs import MODES, Pairs
from preprocessing.report import report, report_path
from preprocessing.sequence_paths import SequencePaths
from utils.atomic import remove_partial
from utils.device import pick_device
from utils.distributed import Context
from utils.errors import InputError, OneLineErrorParser, exit_on_input_error, explain_failed_writes
from utils.images import iter_frames, list_frames, read_frame
from utils.lock import locked


def preprocess(
    paths: SequencePaths,
    settings: Settings,
    *,
    device: torch.device | str = "cpu",
    num_frames: int | None = None,
    redo: bool = False,
    context: Context | None = None,
) -> None:
    """Do whatever stage of the preprocessing is missing, in order; killed and started again, it continues.

    Args:
        paths: sequence folder with `color/`.
        settings: what to make and how.
        device: for RAFT, DINO, filtering and chaining.
        num_frames: use the first frames only.
        redo: where the folder was made in another way, delete what depends on that, instead of refusing.
        context: this process's part, where several share the work.

    Raises:
        InputError: unusable frames or weights, products of another method in the folder, another process at work there
            (all before any long work), or a full disk.
    """
    context = context or Context()
    names = [path.name for path in list_frames(paths.color)[: None if num_frames is None else max(0, num_frames)]]
    if len(names) < 2:
        raise InputError(f"--num_frames is {num_frames}, expected at least 2 frames")
    if is_published(paths, names):
        return
    picture = report_path(paths, settings.chain)
    with explain_failed_writes(paths.root), ExitStack() as held:

        def prepare() -> None:
            # Runs that find all they need only read, side by side.
            if redo or is_complete(paths, names, settings) is not None or not picture.exists():
                held.enter_context(locked(paths.root))
                remove_partial(paths.root)
            _prepare(paths, names, settings, redo)

        context.on_rank0(prepare)
        if is_complete(paths, names, settings) is not None:
            _do_missing_stages(paths, names, settings, device, context)
        if context.rank == 0 and not picture.exists():
            for fault in check_clip(paths, names):
                print(f"warning: {fault}")
            print(report(paths.chained if settings.chain else paths, names, picture))


def require_complete(paths: SequencePaths, names: list[str], settings: Settings) -> None:
    """Raise InputError unless training has all it needs, made in this way from these frames."""
    missing = is_complete(paths, names, settings)
    if missing:
        unchained = settings.chain and is_complete(paths, names, replace(settings, chain=False)) is None
        advice = "drop the flag, or preprocess first" + (", or give --chain false" if unchained else "")
        raise InputError(f"--preprocess never, but {paths.root} lacks {missing}; {advice}")
    if not is_published(paths, names):
        manifest.check(paths, names, settings, complete=True)


def _prepare(paths: SequencePaths, names: list[str], settings: Settings, redo: bool) -> None:
    """Refuse what cannot be used and record what will be made, before any work."""
    _refuse_unknown_origin(paths, names)
    complete = is_complete(paths, names, settings) is None
    if not complete:
        for _ in iter_frames([paths.color / name for name in names]):
            pass  # an unusable frame is found before hours of work
    if not redo:
        manifest.check(paths, names, settings, complete)
    _refuse_unusable_weights(paths, names, settings, manifest.stale_stages(paths, names, settings, complete))
    if redo:
        manifest.clear_stale(paths, names, settings, complete)
    complete = is_complete(paths, names, settings) is None
    manifest.record(paths, names, settings, complete)
    if not complete:
        for chain in (True, False):
            report_path(paths, chain).unlink(missing_ok=True)


def _refuse_unusable_weights(paths: SequencePaths, names: list[str], settings: Settings, stale: set[str]) -> None:
    """Load the networks that will be needed, before anything is recorded as theirs or deleted for them."""
    missing = missing_flows(paths, Pairs(len(names), settings.pairs).names(names))
    if settings.flow == "raft" and (missing or "flow" in stale):
        load_raft(settings.raft_weights, "cpu")
    if settings.features == "dino" and ("features" in stale or _features_needed(paths, names, settings)):
        load_dino(settings.dino_weights, "cpu")


def _do_missing_stages(
    paths: SequencePaths, names: list[str], settings: Settings, device: torch.device | str, context: Context
) -> None:
    """Flow, features, filter, chain: the networks are loaded before anything is computed."""
    pairs, extract, estimator = Pairs(len(names), settings.pairs), None, None
    if missing_flows(paths, pairs.names(names)):
        estimator = _flow_estimator(settings, lambda index: read_frame(paths.color / names[index]), device)
    if _features_needed(paths, names, settings):
        extract = feature_extractor(settings.features, device, settings.dino_weights, settings.dino_half)
    context.barrier()
    if estimator is not None:
        write_flows(paths, names, pairs, estimator, context)
    del estimator  # a network and encoded frames, not needed any more
    if extract is not None:
        write_features(paths, context.partition(names), settings.features, extract, settings.dino_batch)
    del extract
    context.barrier()
    filter_flow(paths, names, settings.features, device, pairs, context)
    if settings.chain:
        chain_flow(paths, names, settings.features, device, pairs, context)


def is_published(paths: SequencePaths, names: list[str]) -> bool:
    """Whether all that the released preprocessing writes is there without a record of ours; it is used as it is."""
    every, maps = Pairs(len(names)).names(names), [paths.count_map(name) for name in names]
    counted = paths.flow_stats.is_file() and all(path.is_file() for path in maps)
    recorded = paths.manifest.is_file()
    return counted and not recorded and not missing_flows(paths, every) and not missing_masks(paths, every)


def is_complete(paths: SequencePaths, frame_names: list[str], settings: Settings) -> str | None:
    """What is missing for training, in words; None when nothing is. Published data need no chaining."""
    if is_published(paths, frame_names):
        return None
    pairs = Pairs(len(frame_names), settings.pairs)
    for prefix, stage in [("", paths), *([("chained/", paths.chained)] if settings.chain else [])]:
        if missing := missing_flows(stage, pairs.names(frame_names)):
            return f"{len(missing)} flows in {prefix}raft_exhaustive (first: {stage.flow(*missing[0]).name})"
        if missing := missing_masks(stage, pairs.names(frame_names)):
            return f"{len(missing)} masks in {prefix}raft_masks (first: {stage.flow_mask(*missing[0]).name})"
        if counts_missing(stage, frame_names, pairs):
            return f"count maps or flow_stats.json in {stage.root}"
    return None


def _features_needed(paths: SequencePaths, names: list[str], settings: Settings) -> bool:
    """Whether a stage that reads features is unfinished and some features are missing."""
    unfinished = missing_masks(paths, Pairs(len(names), settings.pairs).names(names)) or (
        settings.chain and is_complete(paths, names, settings)
    )
    return bool(unfinished and missing_features(paths, names, settings.features))


def _flow_estimator(settings: Settings, read, device: torch.device | str) -> FlowEstimator:
    """Estimator of the method asked for; `read(index)` gives a frame."""
    if settings.flow == "dis":
        return DisFlow(read)
    return RaftFlow(read, load_raft(settings.raft_weights, device), settings.raft_batch, settings.raft_half)


def _refuse_unknown_origin(paths: SequencePaths, names: list[str]) -> None:
    """Products that no record of ours and no complete published set explains would be mixed with ours."""
    products = [product for products in manifest.PRODUCTS.values() for product in products]
    found = [product for product in products if (paths.root / product).exists()]
    if found and not paths.manifest.is_file():
        raise InputError(
            f"{paths.root} holds {', '.join(found)}, but no preprocess.json says how they were made, and for published "
            f"data flow, masks, count maps or flow_stats.json of some of the {len(names)} frames are missing: complete "
            "them, or move these away"
        )


def _true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = OneLineErrorParser(description="All-pairs flow, features, filtering and chaining of a sequence.")
    parser.add_argument("--data_dir", type=Path, required=True, help="video, folder of frames, or sequence folder")
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="where copies of the frames are made")
    parser.add_argument("--flow", choices=FLOWS, default="raft", help="dis needs no weights")
    parser.add_argument("--features", choices=FEATURES, default="auto", help="auto: dino with raft, sift with dis")
    parser.add_argument("--pairs", choices=MODES, default="all", help="sparse: near and doubled gaps, for long videos")
    parser.add_argument("--chain", type=_true_or_false, default=True, metavar="true|false", help="chain the flows")
    parser.add_argument("--redo", action="store_true", help="make anew what was made with other settings")
    parser.add_argument("--max_side", type=int, help="make longer frames this long, pixels")
    parser.add_argument("--num_frames", type=int, help="use the first frames only")
    parser.add_argument("--raft_weights", type=Path, help="RAFT-large weights, torchvision's or Princeton's names")
    parser.add_argument("--dino_weights", type=Path, help="DINO ViT-S/16 weights as released")
    parser.add_argument("--raft_batch", type=int, help="pairs side by side (default: by memory)")
    parser.add_argument("--raft_half", action="store_true", help="RAFT in float16, for GPUs")
    parser.add_argument("--dino_batch", type=int, default=1, help="frames side by side")
    parser.add_argument("--dino_half", action="store_true", help="DINO in float16, for GPUs")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser.parse_args(arguments)


@exit_on_input_error
def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    args = _parse(arguments)
    settings, context = Settings.of(args), Context.join()
    device = context.device(pick_device(args.device))
    context.on_rank0(lambda: prepare_sequence(args.data_dir, args.max_side, args.data_root))
    paths = prepare_sequence(args.data_dir, args.max_side, args.data_root)
    preprocess(paths, settings, device=device, num_frames=args.num_frames, redo=args.redo, context=context)
    if context.rank == 0:
        print(f"ready: {paths.root}")


if __name__ == "__main__":
    main()
