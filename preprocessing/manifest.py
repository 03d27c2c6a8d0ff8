"""`preprocess.json`: how the products in a sequence folder were made, so that no folder mixes two ways.

Each stage depends on its own settings and on the stages before it. A setting that has changed is refused by name, or,
with `redo`, what depends on it is deleted and made again. Versions are recorded and not compared.
"""

import hashlib
import json
import shutil
from argparse import Namespace
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path

import cv2

from preprocessing.consistency import COSINE_THRESHOLD, CYCLE_THRESHOLD, RGB_THRESHOLD
from preprocessing.flow_files import STEPS_PER_PX
from preprocessing.flow_raft import NUM_UPDATES
from preprocessing.pairs import MODES, WINDOW, Pairs
from preprocessing.sequence_paths import SequencePaths
from utils.atomic import write_atomic
from utils.data_files import read_json
from utils.errors import InputError

FLOWS = ("raft", "dis")
FEATURES = ("auto", "dino", "sift")
# Weight-free flow goes with weight-free features, so that `--flow dis` works without any download.
AUTO_FEATURES = {"raft": "dino", "dis": "sift"}
# What each stage writes, and the stages that have to be made again with it.
PRODUCTS = {
    "features": ("features",),
    "flow": ("raft_exhaustive",),
    "filter": ("raft_masks", "count_maps", "flow_stats.json"),
    "chain": ("chained",),
}
DEPENDENTS = {
    "features": ("features", "filter", "chain"),
    "flow": ("flow", "filter", "chain"),
    "filter": ("filter", "chain"),
    "chain": ("chain",),
}
CHOICE_OF_PAIRS = (("flow", "pairs"), ("flow", "window"))
FORMAT = {"raft": 2, "dis": 3}  # of the flow: 3 starts from keypoints, too
DOWNLOADED, BY_MEMORY = "the download", "by memory"
SIDE_BY_SIDE = ("raft_batch", "dino_batch")
WEIGHTS = (("flow", "raft_weights"), ("features", "dino_weights"))
ADVICE = "add --redo to make anew what depends on it, or ask for what is there"
PACKAGES = ("torch", "torchvision", "kornia", "numpy", "scipy")


@dataclass(frozen=True)
class Settings:
    """What to make and how; the fields are command-line flags of the same names.

    Raises:
        InputError: an unknown method.
    """

    flow: str = "raft"
    features: str = "auto"
    pairs: str = "all"
    chain: bool = True
    raft_weights: Path | None = None
    dino_weights: Path | None = None
    raft_batch: int | None = None
    raft_half: bool = False
    dino_batch: int = 1
    dino_half: bool = False

    def __post_init__(self) -> None:
        for name, known in (("flow", FLOWS), ("features", FEATURES), ("pairs", MODES)):
            if getattr(self, name) not in known:
                raise InputError(f"unknown method: --{name} {getattr(self, name)!r}; choose among {', '.join(known)}")
        for name in SIDE_BY_SIDE:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}, expected at least 1")
        if self.features == "auto":
            object.__setattr__(self, "features", AUTO_FEATURES[self.flow])

    @classmethod
    def of(cls, args: Namespace) -> "Settings":
        """From parsed flags."""
        values = {field.name: getattr(args, field.name) for field in fields(cls)}
        weights = {name: Path(values[name]) for name in ("raft_weights", "dino_weights") if values[name]}
        return cls(**values | weights)

    def by_stage(self) -> dict[str, dict[str, object]]:
        """The settings that decide each stage's products; None where one has no bearing."""
        raft, dino, sparse = self.flow == "raft", self.features == "dino", self.pairs == "sparse"
        return {
            "flow": {
                "format": FORMAT[self.flow],
                "flow": self.flow,
                "pairs": self.pairs,
                "window": WINDOW if sparse else None,
                "steps per pixel": STEPS_PER_PX,
                "updates": NUM_UPDATES if raft else None,
                "raft_weights": (digest(self.raft_weights) or DOWNLOADED) if raft else None,
                "raft_half": self.raft_half if raft else None,
                "raft_batch": (self.raft_batch or BY_MEMORY) if raft else None,
            },
            "features": {
                "features": self.features,
                "dino_weights": (digest(self.dino_weights) or DOWNLOADED) if dino else None,
                "dino_half": self.dino_half if dino else None,
                "dino_batch": self.dino_batch if dino else None,
            },
            "filter": {"cycle threshold": CYCLE_THRESHOLD, "cosine threshold": COSINE_THRESHOLD[self.features]},
            "chain": {"colour threshold": RGB_THRESHOLD},
        }


def digest(path: Path | None) -> str | None:
    """SHA-256 of a file; None without one."""
    if path is None:
        return None
    if not Path(path).is_file():
        raise InputError(f"no weights file at {path}: give an existing one")
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read_manifest(paths: SequencePaths) -> dict | None:
    """The record, None without one. Raises InputError if it is damaged."""
    path = paths.manifest
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        stages = content.get("settings", {})
        if not all(isinstance(part, dict) for part in (stages, content.get("frames", {}), *stages.values())):
            raise ValueError("settings or frames of another form")
        if stages and "frames" not in content:
            raise ValueError("no frames")
        return content
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and what preprocessing made beside it") from error


def check(paths: SequencePaths, names: list[str], settings: Settings, complete: bool) -> None:
    """Make sure that what the folder holds was made in this way from these frames.

    `complete`: nothing is missing; then weights that are not named again are not asked for either, and it does not
    matter how many pairs would go side by side.

    Raises:
        InputError: naming what differs.
    """
    for stage, name, was, now in _differences(paths, names, settings, complete):
        if stage == "frames":
            raise InputError(f"{paths.color / name} {now} since the flow was computed: {ADVICE}")
        if name == "format":
            raise InputError(
                f"the flow in {paths.root} is of an earlier version (format {was}, now {now}): --redo makes it and "
                "what depends on it anew"
            )
        raise InputError(f"{paths.root} was preprocessed with {name} {was}, but {now} is asked for: {ADVICE}")


def clear_stale(paths: SequencePaths, names: list[str], settings: Settings, complete: bool) -> None:
    """Delete what was made in another way, and all that depends on it; after changed frames that is everything.

    Where just the choice of pairs has changed, near pairs are the same in all of them and stay.

    Raises:
        InputError: published flow would be deleted.
    """
    stale = stale_stages(paths, names, settings, complete)
    if "flow" in stale and any((paths.root / "raft_exhaustive").glob("*.npy")):
        raise InputError(
            f"{paths.root}/raft_exhaustive holds published flow (.npy), which is not deleted: move it away"
        )
    for path in (paths.root / product for stage in sorted(stale) for product in PRODUCTS[stage]):
        _delete(path)
    if not stale and _differences(paths, names, settings, complete):
        for made in (paths, paths.chained):
            _clear_far(made, names)


def stale_stages(paths: SequencePaths, names: list[str], settings: Settings, complete: bool) -> set[str]:
    """The stages that `clear_stale` deletes whole."""
    differences = _differences(paths, names, settings, complete)
    stages = {stage for stage, name, *_ in differences if (stage, name) not in CHOICE_OF_PAIRS}
    return set(PRODUCTS) if "frames" in stages else {later for stage in stages for later in DEPENDENTS[stage]}


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _clear_far(paths: SequencePaths, names: list[str]) -> None:
    """Delete flow and masks of the pairs beyond the window of `--pairs sparse`, and all counts."""
    near = [(names[i], names[j]) for i, targets in Pairs(len(names), "sparse").sweeps() for j in targets]
    kept = {file for pair in near for file in (paths.flow(*pair), paths.flow_mask(*pair))}
    for path in [*paths.root.glob("raft_exhaustive/*.flow"), *paths.root.glob("raft_masks/*.png")]:
        if path not in kept:
            path.unlink()
    for counts in ("count_maps", "flow_stats.json"):
        _delete(paths.root / counts)


def record(paths: SequencePaths, names: list[str], settings: Settings, complete: bool) -> None:
    """Write down settings, versions and frames, before the products of these grow; call `check` first.

    Of a complete folder versions stay those that made it.
    """
    found, wanted = read_manifest(paths) or {}, settings.by_stage()
    kept = found.get("settings", {}) if complete else {}
    for stage, name in WEIGHTS:
        if wanted[stage][name] == DOWNLOADED:
            wanted[stage][name] = kept.get(stage, {}).get(name, DOWNLOADED)
    known = found.get("frames", {})
    frames = {name: digest(paths.color / name) for name in names}
    if list(known)[: len(names)] == names:  # a longer clip, used in part
        frames = known | frames
    # Of OpenCV the module's own: it is installed under several names, opencv-python, -headless, -contrib.
    versions = {package: version(package) for package in PACKAGES} | {"opencv": cv2.__version__}
    if complete:
        versions = found.get("versions", versions)
    content = {"settings": wanted, "versions": versions, "frames": frames}
    text = json.dumps(content, indent=1)
    if not paths.manifest.is_file() or paths.manifest.read_text() != text:
        write_atomic(paths.manifest, text.encode())


def _differences(
    paths: SequencePaths, names: list[str], settings: Settings, complete: bool
) -> list[tuple[str, str, object, object]]:
    """(stage, setting, recorded, wanted) of what differs; ("frames", name, None, in words)."""
    manifest = read_manifest(paths)
    if manifest is None:
        return []
    if "settings" not in manifest:  # a record of an earlier version, with other files
        manifest = {"settings": {"flow": {"format": 0}}, "frames": {}}
    found, frames, differing = manifest["settings"], manifest["frames"], []
    for was, now in zip(frames, names, strict=False):  # as many as both have: a clip may be used in part, or grow
        if was != now:
            differing.append(("frames", was, None, "was removed" if was not in names else "got a new neighbour"))
        elif frames[was] != digest(paths.color / now):
            differing.append(("frames", now, None, "has changed"))
    for stage, values in settings.by_stage().items():
        for name, now in values.items():
            was = found.get(stage, {}).get(name)
            unasked = complete and (name in SIDE_BY_SIDE or ((stage, name) in WEIGHTS and now == DOWNLOADED))
            if None not in (was, now) and was != now and not unasked:
                differing.append((stage, name, was, now))
    return sorted(differing, key=lambda difference: difference[1] == "format")  # another method is the better reason
