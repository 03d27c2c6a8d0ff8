"""The record `preprocess.json` of how a sequence folder's products were made, so that no folder mixes settings.

Each stage depends on its own settings and on the stages before it. A changed setting is refused by name; with `redo`,
the products that depend on it are deleted and remade. Versions of packages are recorded, but not compared.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import cv2

from preprocessing.consistency import COSINE_THRESHOLD, CYCLE_THRESHOLD, RGB_THRESHOLD
from preprocessing.flow_files import STEPS_PER_PX
from preprocessing.pairs import WINDOW
from preprocessing.products import PRODUCTS, delete_far_pairs, delete_products
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import Settings
from utils.atomic import write_atomic
from utils.data_files import read_json
from utils.errors import InputError

StageSettings = dict[str, dict[str, object]]  # stage: {setting: value}; None where a setting has no effect

# The stages to remake when a setting of the stage changes.
DEPENDENTS = {
    "features": ("features", "filter", "chain"),
    "flow": ("flow", "filter", "chain"),
    "filter": ("filter", "chain"),
    "chain": ("chain",),
}
PAIR_SETTINGS = (("flow", "pairs"), ("flow", "window"))  # they select pairs, but do not change a pair's products
FORMAT = {"raft": 2, "dis": 4}  # of the flow files; 4: a coarser grid and no refinement where DIS has a start
DOWNLOADED, BY_MEMORY = "the download", "by memory"  # recorded if no weights file or no batch is given
WEIGHTS = (("flow", "raft_weights"), ("features", "dino_weights"))
PRECISION = ("raft_half", "dino_half")
IMPLIED = {"scale": 1}  # not recorded, as by earlier versions, which knew no other value
ROUNDING = (*PRECISION, "raft_batch", "dino_batch")  # these change only the last digits of the products
ADVICE = "add --redo to remake what depends on it, or give the recorded settings"
PACKAGES = ("torch", "torchvision", "kornia", "numpy", "scipy")


class Difference(NamedTuple):
    """A recorded value that differs from the wanted one; for stage "frames": a file name and what happened to it."""

    stage: str
    setting: str
    recorded: object
    wanted: object


def stage_settings(settings: Settings, half: bool = False) -> StageSettings:
    """Return the values that determine each stage's products.

    Args:
        settings: What to make, and how.
        half: Whether the networks compute in float16.
    """
    raft, dino, sparse = settings.flow == "raft", settings.features == "dino", settings.pairs == "sparse"
    return {
        "flow": {
            "format": FORMAT[settings.flow],
            "flow": settings.flow,
            "pairs": settings.pairs,
            "window": WINDOW if sparse else None,
            "steps per pixel": STEPS_PER_PX,
            "scale": settings.flow_scale,
            "updates": settings.raft_iters if raft else None,
            "raft_weights": (digest(settings.raft_weights) or DOWNLOADED) if raft else None,
            "raft_half": half if raft else None,
            "raft_batch": (settings.raft_batch or BY_MEMORY) if raft else None,
        },
        "features": {
            "features": settings.features,
            "dino_weights": (digest(settings.dino_weights) or DOWNLOADED) if dino else None,
            "dino_half": half if dino else None,
            "dino_batch": 1 if dino else None,  # was a flag; records of earlier versions stay comparable
        },
        "filter": {"cycle threshold": CYCLE_THRESHOLD, "cosine threshold": COSINE_THRESHOLD[settings.features]},
        "chain": {"colour threshold": RGB_THRESHOLD},
    }


def digest(path: Path | None) -> str | None:
    """Return the SHA-256 of a file; None without one."""
    if path is None:
        return None
    if not path.is_file():
        raise InputError(f"no weights file at {path}: give an existing one")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_record(paths: SequencePaths) -> dict:
    """Return the record, empty without one. Raises InputError if it is damaged."""
    path = paths.manifest
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError("no object")
        stages = content.get("settings", {})
        if not all(isinstance(part, dict) for part in (stages, content.get("frames", {}), *stages.values())):
            raise ValueError("settings or frames of another form")
        if stages and "frames" not in content:
            raise ValueError("no frames")
        return content
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and what preprocessing made beside it") from error


def check_record(paths: SequencePaths, names: list[str], wanted: StageSettings, finished: set[str]) -> None:
    """Check that the products in the folder were made with these settings from these frames.

    Args:
        paths: The sequence.
        names: Frame file names in order.
        wanted: From `stage_settings`.
        finished: From `finished_estimates`: these stages' batch and precision are not compared, and their weights only
            where a file is given.

    Raises:
        InputError: Naming the first difference.
    """
    for stage, setting, recorded, value in _differences(paths, names, wanted, finished):
        if stage == "frames":
            raise InputError(f"{paths.color / setting} {value} since the flow was computed: {ADVICE}")
        if setting == "format":
            raise InputError(
                f"the flow in {paths.root} is of an earlier version (format {recorded}, now {value}): --redo remakes "
                "it and what depends on it"
            )
        if setting in PRECISION:
            before, now = ("float16" if half else "float32" for half in (recorded, value))
            raise InputError(
                f"preprocessing of {paths.root} was started in {before}, but this device uses {now}: continue on a "
                "device of the same kind (--device), or add --redo to start anew"
            )
        raise InputError(f"{paths.root} was preprocessed with {setting} {recorded}, but {value} is requested: {ADVICE}")


def stale_stages(paths: SequencePaths, names: list[str], wanted: StageSettings, finished: set[str]) -> set[str]:
    """Return the stages whose products `delete_stale` deletes completely; arguments as in `check_record`."""
    differences = _differences(paths, names, wanted, finished)
    stages = {found.stage for found in differences if (found.stage, found.setting) not in PAIR_SETTINGS}
    return set(PRODUCTS) if "frames" in stages else {later for stage in stages for later in DEPENDENTS[stage]}


def delete_stale(paths: SequencePaths, names: list[str], wanted: StageSettings, finished: set[str]) -> None:
    """Delete products made with other settings and all that depend on them; if frames have changed, delete all.

    If only the selection of pairs has changed, near pairs are kept, because every selection contains them. Arguments
    as in `check_record`.

    Raises:
        InputError: Published flow would be deleted.
    """
    stale = stale_stages(paths, names, wanted, finished)
    delete_products(paths, stale)
    if not stale and _differences(paths, names, wanted, finished):
        for products in (paths, paths.chained):
            delete_far_pairs(products, names)


def write_record(
    paths: SequencePaths, names: list[str], wanted: StageSettings, finished: set[str], complete: bool
) -> None:
    """Write settings, versions and frames before the products are made; call `check_record` or `delete_stale` first.

    Args:
        paths: The sequence.
        names: Frame file names in order.
        wanted: From `stage_settings`.
        finished: Stages whose products are kept, and with them the recorded batch, precision and weights.
        complete: Whether nothing is left to make; then the recorded versions are kept.
    """
    found = read_record(paths)
    settings = {
        stage: {name: value for name, value in values.items() if (name, value) not in IMPLIED.items()}
        for stage, values in wanted.items()
    }
    for stage in finished & settings.keys():
        for name, value in settings[stage].items():
            if _is_optional(stage, name, value):
                settings[stage][name] = found.get("settings", {}).get(stage, {}).get(name, value)
    recorded = found.get("frames", {})
    frames = {name: digest(paths.color / name) for name in names}
    if list(recorded)[: len(names)] == names:  # a longer clip, used in part
        frames = recorded | frames
    # OpenCV is installed under several names (opencv-python, -headless, -contrib), so the module's own version.
    versions = {package: version(package) for package in PACKAGES} | {"opencv": cv2.__version__}
    if complete:
        versions = found.get("versions", versions)
    text = json.dumps({"settings": settings, "versions": versions, "frames": frames}, indent=1)
    if not paths.manifest.is_file() or paths.manifest.read_text() != text:
        write_atomic(paths.manifest, text.encode())


def _is_optional(stage: str, name: str, value: object) -> bool:
    """Return whether a finished stage may have been made with another value."""
    return name in ROUNDING or ((stage, name) in WEIGHTS and value == DOWNLOADED)


def _differences(paths: SequencePaths, names: list[str], wanted: StageSettings, finished: set[str]) -> list[Difference]:
    """Compare the record with the wanted settings and the frames on disk."""
    if not paths.manifest.is_file():
        return []
    record = read_record(paths)
    if "settings" not in record:  # made by an early version, whose files differ
        record = {"settings": {"flow": {"format": 0}}, "frames": {}}
    found = _frame_differences(paths, names, record["frames"])
    for stage, values in wanted.items():
        for name, value in values.items():
            recorded = record["settings"].get(stage, {}).get(name, IMPLIED.get(name))
            skipped = stage in finished and _is_optional(stage, name, value)
            if None not in (recorded, value) and recorded != value and not skipped:
                found.append(Difference(stage, name, recorded, value))
    # A changed method is reported rather than a changed format.
    return sorted(found, key=lambda difference: difference.setting == "format")


def _frame_differences(paths: SequencePaths, names: list[str], recorded: dict[str, str]) -> list[Difference]:
    """Compare as many frames as both sides have: a clip may be used in part, or grow."""
    found = []
    for before, now in zip(recorded, names, strict=False):
        if before != now:
            found.append(
                Difference("frames", before, None, "was removed" if before not in names else "got a new neighbour")
            )
        elif recorded[before] != digest(paths.color / now):
            found.append(Difference("frames", now, None, "has changed"))
    return found
