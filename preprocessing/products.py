"""Products of preprocessing in a sequence folder: find which exist or are missing, and delete them."""

import shutil
from pathlib import Path

from preprocessing.features import missing_features
from preprocessing.flow_files import missing_flows
from preprocessing.pair_files import counts_missing, missing_masks
from preprocessing.pairs import Pairs
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from utils.errors import InputError

# Files and folders that each stage writes.
PRODUCTS = {
    "features": ("features",),
    "flow": ("raft_exhaustive",),
    "filter": ("raft_masks", "count_maps", "flow_stats.json"),
    "chain": ("chained",),
}
ESTIMATES = {"flow", "features"}  # the stages that a network or another estimator computes


def describe_missing(paths: SequencePaths, names: list[str], settings: Settings) -> str:
    """Describe the first products that training lacks, "" if none; published data need no chaining."""
    if is_published(paths, names):
        return ""
    pairs = Pairs(len(names), settings.pairs)
    for prefix, stage in [("", paths), *([("chained/", paths.chained)] if settings.chain else [])]:
        if missing := missing_flows(stage, pairs.named(names)):
            return f"{len(missing)} flows in {prefix}raft_exhaustive (first: {stage.flow(*missing[0]).name})"
        if missing := missing_masks(stage, pairs.named(names)):
            return f"{len(missing)} masks in {prefix}raft_masks (first: {stage.flow_mask(*missing[0]).name})"
        if counts_missing(stage, names, pairs):
            return f"count maps or flow_stats.json in {stage.root}"
    return ""


def is_published(paths: SequencePaths, names: list[str]) -> bool:
    """Return whether the folder holds all products of the released preprocessing and no record of ours."""
    pairs, maps = Pairs(len(names)).named(names), [paths.count_map(name) for name in names]
    counted = paths.flow_stats.is_file() and all(path.is_file() for path in maps)
    recorded = paths.manifest.is_file()
    return counted and not recorded and not missing_flows(paths, pairs) and not missing_masks(paths, pairs)


def finished_estimates(paths: SequencePaths, names: list[str], settings: Settings) -> set[str]:
    """Return which of `ESTIMATES` have nothing left to compute.

    Features are needed only while a stage that reads them is unfinished.
    """
    pairs = Pairs(len(names), settings.pairs).named(names)
    finished = set() if missing_flows(paths, pairs) else {"flow"}
    readers_left = missing_masks(paths, pairs) or (settings.chain and describe_missing(paths, names, settings))
    if not (readers_left and missing_features(paths, names, settings.features)):
        finished.add("features")
    return finished


def refuse_unknown_origin(paths: SequencePaths, names: list[str]) -> None:
    """Refuse products without a record, unless they are a complete published set: new ones would mix with them.

    Raises:
        InputError: Naming what was found.
    """
    found = [product for products in PRODUCTS.values() for product in products if (paths.root / product).exists()]
    if found and not paths.manifest.is_file():
        raise InputError(
            f"{paths.root} holds {', '.join(found)}, but no preprocess.json says how they were made, and for published "
            f"data flow, masks, count maps or flow_stats.json of some of the {len(names)} frames are missing: complete "
            "them, or move these away"
        )


def delete_products(paths: SequencePaths, stages: set[str]) -> None:
    """Delete the products of stages.

    Raises:
        InputError: Published flow would be deleted.
    """
    if "flow" in stages and any((paths.root / "raft_exhaustive").glob("*.npy")):
        raise InputError(
            f"{paths.root}/raft_exhaustive holds published flow (.npy), which is not deleted: move it away"
        )
    for stage in sorted(stages):
        for product in PRODUCTS[stage]:
            _delete(paths.root / product)


def delete_far_pairs(paths: SequencePaths, names: list[str]) -> None:
    """Delete flow and masks of the pairs beyond the window of `--pairs sparse`, and all counts."""
    near = [(names[i], names[j]) for i, targets in Pairs(len(names), "sparse").sweeps() for j in targets]
    kept = {file for pair in near for file in (paths.flow(*pair), paths.flow_mask(*pair))}
    for path in [*paths.root.glob("raft_exhaustive/*.flow"), *paths.root.glob("raft_masks/*.png")]:
        if path not in kept:
            path.unlink()
    for counts in ("count_maps", "flow_stats.json"):
        _delete(paths.root / counts)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
