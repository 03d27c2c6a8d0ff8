"""Everything between frames and training: flow, features, filter, chain; a stage does what is missing.

python preprocessing/main_processing.py --data_dir SEQUENCE_OR_VIDEO [--flow dis] [--max_side 256] ...
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, only this folder would be found

from preprocessing.chain_flow import chain_flow
from preprocessing.features import feature_extractor, missing_features, write_features
from preprocessing.filter_flow import filter_flow
from preprocessing.flow_dis import DisFlow
from preprocessing.flow_pairs import FlowEstimator, missing_flows, write_flows
from preprocessing.flow_raft import RaftFlow, load_raft
from preprocessing.frames import prepare_sequence
from preprocessing.pair_files import counts_missing, missing_masks, write_counts
from utils.atomic import atomic_path
from utils.config import pick_device
from utils.errors import InputError, exits_on_input_error
from utils.paths import SequencePaths
from utils.video_io import list_frames, read_frames

FLOWS = ("raft", "dis")
FEATURES = ("auto", "dino", "sift")
# Weight-free flow goes with weight-free features, so that `--flow dis` works without any download.
AUTO_FEATURES = {"raft": "dino", "dis": "sift"}


def preprocess(
    paths: SequencePaths,
    *,
    flow: str = "raft",
    features: str = "auto",
    chain: bool = True,
    device: torch.device | str = "cpu",
    raft_weights: Path | None = None,
    dino_weights: Path | None = None,
    num_frames: int | None = None,
) -> None:
    """Do whatever stage of the preprocessing is missing, in order; killed and started again, it continues.

    Args:
        paths: sequence folder with `color/`.
        flow: `raft` or `dis`.
        features: `dino`, `sift`, or `auto` (dino with raft, sift with dis).
        chain: also write `paths.chained`.
        device: for RAFT, DINO, filtering and chaining.
        raft_weights, dino_weights: weight files instead of downloads.
        num_frames: use the first frames only.

    Raises:
        InputError: unusable frames or weights, or products of another method in the folder; before any long
            work.
    """
    features = AUTO_FEATURES.get(flow, features) if features == "auto" else features
    if flow not in FLOWS or features not in FEATURES:
        raise InputError(f"unknown method: flow {flow!r}, features {features!r}; choose among {FLOWS} and {FEATURES}")
    names = [path.name for path in list_frames(paths.color)[:num_frames]]
    if is_published(paths, names):
        if counts_missing(paths, names):
            write_counts(paths, names, "filter")
        return
    _check_record(paths, names, flow, features)
    if is_complete(paths, names, chain) is None:
        return
    video = read_frames([paths.color / name for name in names])
    estimator = extract = None
    if missing_flows(paths, names):
        estimator = _flow_estimator(flow, video, device, raft_weights)
    if _features_needed(paths, names, features, chain):
        extract = feature_extractor(features, device, dino_weights)
    _write_record(paths, names, flow, features, chain)
    if estimator is not None:
        write_flows(paths, names, estimator)
    del estimator, video  # a network and all frames, not needed any more
    if extract is not None:
        write_features(paths, names, features, extract)
    filter_flow(paths, names, features, device)
    if chain:
        chain_flow(paths, names, features, device)


def is_published(paths: SequencePaths, names: list[str]) -> bool:
    """Whether flow and masks of all pairs are there without a record of ours: data in the released layout."""
    return not _record_path(paths).is_file() and not missing_flows(paths, names) and not missing_masks(paths, names)


def is_complete(paths: SequencePaths, frame_names: list[str], chain: bool) -> str | None:
    """What is missing for training, in words; None when nothing is.

    Args:
        paths: sequence folder.
        frame_names: frame file names in order.
        chain: whether the chained products are wanted; published data need none.
    """
    if not is_published(paths, frame_names):
        stages = [("", paths), ("chained/", paths.chained)] if chain else [("", paths)]
    else:
        stages = [("", paths)]
    for prefix, stage in stages:
        if missing := missing_flows(stage, frame_names):
            return f"{len(missing)} flows in {prefix}raft_exhaustive (first: {stage.flow(*missing[0]).name})"
        if missing := missing_masks(stage, frame_names):
            return f"{len(missing)} masks in {prefix}raft_masks (first: {stage.flow_mask(*missing[0]).name})"
        if counts_missing(stage, frame_names):
            return f"count maps or flow_stats.json in {stage.root}"
    return None


def _features_needed(paths: SequencePaths, names: list[str], kind: str, chain: bool) -> bool:
    """Whether a stage that reads features is unfinished and some features are missing."""
    unfinished = missing_masks(paths, names) or (chain and is_complete(paths, names, chain))
    return bool(unfinished and missing_features(paths, names, kind))


def _flow_estimator(flow: str, video, device: torch.device | str, weights: Path | None) -> FlowEstimator:
    """Estimator of the method `flow` for these frames."""
    return DisFlow(video) if flow == "dis" else RaftFlow(video, load_raft(weights, device))


def _record_path(paths: SequencePaths) -> Path:
    return paths.root / "preprocess.json"


def _read_record(paths: SequencePaths) -> dict:
    return json.loads(_record_path(paths).read_text()) if _record_path(paths).is_file() else {}


def _write_record(paths: SequencePaths, names: list[str], flow: str, features: str, chain: bool) -> None:
    """Note methods and frames before the first product exists, so that no folder can mix two of either."""
    frames = _read_record(paths).get("frames", {}) | {name: _digest(paths.color / name) for name in names}
    with atomic_path(_record_path(paths)) as temporary:
        temporary.write_text(json.dumps({"flow": flow, "features": features, "chain": chain, "frames": frames}))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_record(paths: SequencePaths, names: list[str], flow: str, features: str) -> None:
    """Refuse products of another method, or of other frames."""
    root, first = paths.root, paths.flow(*names[:2])
    if not _record_path(paths).is_file():
        if first.parent.is_dir() and any(first.parent.iterdir()) and missing_flows(paths, names):
            raise InputError(
                f"{first.parent} holds flows for some pairs only and no preprocess.json says how they were "
                f"made: delete {first.parent} or complete it"
            )
        return
    found = _read_record(paths)
    derived = "raft_masks, count_maps, flow_stats.json, chained and preprocess.json"
    if found.get("flow") != flow:
        raise InputError(
            f"{root} holds flow by {found.get('flow')!r} but {flow!r} is asked for: delete raft_exhaustive, "
            f"{derived} in it, or ask for --flow {found.get('flow')}"
        )
    if found.get("features") != features:
        raise InputError(
            f"{root} was filtered with {found.get('features')!r} features but {features!r} is asked for: "
            f"delete {derived} in it, or ask for --features {found.get('features')}"
        )
    for name, digest in found.get("frames", {}).items():
        if name in names and _digest(paths.color / name) != digest:
            raise InputError(
                f"{paths.color / name} has changed since its flow was computed: delete raft_exhaustive, features, "
                f"{derived} in {root}"
            )


def _true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="All-pairs flow, features, filtering and chaining of a sequence.")
    parser.add_argument("--data_dir", type=Path, required=True, help="video, folder of frames, or sequence folder")
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="where copies of the frames are made")
    parser.add_argument("--flow", choices=FLOWS, default="raft", help="dis needs no weights")
    parser.add_argument("--features", choices=FEATURES, default="auto", help="auto: dino with raft, sift with dis")
    parser.add_argument("--chain", type=_true_or_false, default=True, metavar="true|false", help="chain the flows")
    parser.add_argument("--max_side", type=int, help="make longer frames this long, pixels")
    parser.add_argument("--num_frames", type=int, help="use the first frames only")
    parser.add_argument("--raft_weights", type=Path, help="RAFT-large weights, torchvision's or Princeton's names")
    parser.add_argument("--dino_weights", type=Path, help="DINO ViT-S/16 weights as released")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser.parse_args(arguments)


@exits_on_input_error
def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    args = _parse(arguments)
    device = pick_device(args.device)
    paths = prepare_sequence(args.data_dir, args.max_side, args.data_root)
    preprocess(
        paths,
        flow=args.flow,
        features=args.features,
        chain=args.chain,
        device=device,
        raft_weights=args.raft_weights,
        dino_weights=args.dino_weights,
        num_frames=args.num_frames,
    )
    print(f"ready: {paths.root}")


if __name__ == "__main__":
    main()
