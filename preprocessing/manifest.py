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

from preprocessing.consistency import COSINE_THRESHOLD, CYCLE_THRESHOLD, RGB_THRESHOLD
from preprocessing.flow_raft import NUM_UPDATES
from preprocessing.pairs import MODES, WINDOW
from utils.atomic import atomic_path
from utils.errors import InputError
from utils.flow_files import STEPS_PER_PX
from utils.paths import SequencePaths

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
FORMAT = 1
ADVICE = "add --redo to make anew what depends on it, or ask for what is there"
PACKAGES = ("torch", "torchvision", "kornia", "opencv-python", "numpy")


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

    def __post_init__(self) -> None:
        for name, known in (("flow", FLOWS), ("features", FEATURES), ("pairs", MODES)):
            if getattr(self, name) not in known:
                raise InputError(f"unknown method: --{name} {getattr(self, name)!r}; choose among {', '.join(known)}")
        if self.features == "auto":
            object.__setattr__(self, "features", AUTO_FEATURES[self.flow])

    @classmethod
    def of(cls, args: Namespace) -> "Settings":
        """From parsed flags."""
        values = {field.name: getattr(args, field.name) for field in fields(cls)}
        weights = {name: Path(values[name]) for name in ("raft_weights", "dino_weights") if values[name]}
        return cls(**values | weights)

    def by_stage(self) -> dict[str, dict[str, object]]:
        """The settings that decide each stage's products; None agrees with anything."""
        raft, dino, sparse = self.flow == "raft", self.features == "dino", self.pairs == "sparse"
        return {
            "flow": {
                "format": FORMAT,
                "flow": self.flow,
                "pairs": self.pairs,
                "window": WINDOW if sparse else None,
                "steps per pixel": STEPS_PER_PX,
                "updates": NUM_UPDATES if raft else None,
                "raft_weights": digest(self.raft_weights) if raft else None,
                "raft_half": self.raft_half if raft else None,
            },
            "features": {"features": self.features, "dino_weights": digest(self.dino_weights) if dino else None},
            "filter": {"cycle threshold": CYCLE_THRESHOLD, "cosine threshold": COSINE_THRESHOLD[self.features]},
            "chain": {"colour threshold": RGB_THRESHOLD},
        }


def digest(path: Path | None) -> str | None:
    """SHA-256 of a file; None without one."""
    if path is None:
        return None
    if not Path(path).is_file():
        raise InputError(f"no weights file at {path}")
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def manifest_path(paths: SequencePaths) -> Path:
    """The record of a sequence folder."""
    return paths.root / "preprocess.json"


def read_manifest(paths: SequencePaths) -> dict | None:
    """The record, None without one. Raises InputError if it is damaged."""
    path = manifest_path(paths)
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): delete it and what preprocessing made beside it") from error


def reconcile(paths: SequencePaths, names: list[str], settings: Settings, redo: bool) -> None:
    """Make sure that what the folder holds was made like this from these frames, and record it before it grows.

    Raises:
        InputError: naming what differs; with `redo` that is deleted instead, and all that depends on it.
    """
    found, wanted = read_manifest(paths) or {"settings": {}, "frames": {}}, settings.by_stage()
    if "settings" not in found:  # a record of an earlier version, with other files
        found = {"settings": {"flow": {"format": 0}}, "frames": {}}
    frames = {name: digest(paths.color / name) for name in names}
    changed = [name for name in names if found["frames"].get(name, frames[name]) != frames[name]]
    differing = _differences(found["settings"], wanted)
    if not redo and changed:
        raise InputError(f"{paths.color / changed[0]} has changed since its flow was computed: {ADVICE}")
    if not redo and differing:
        _, name, was, now = differing[0]
        raise InputError(f"{paths.root} was preprocessed with {name} {was}, but {now} is asked for: {ADVICE}")
    stale = set(PRODUCTS) if changed else {later for stage, *_ in differing for later in DEPENDENTS[stage]}
    for product in (product for stage in stale for product in PRODUCTS[stage]):
        _delete(paths.root / product)
    for stage, values in wanted.items():
        kept = {} if stage in stale else found["settings"].get(stage, {})
        values |= {name: kept.get(name) for name, value in values.items() if value is None}
    record = {"settings": wanted, "versions": {p: version(p) for p in PACKAGES}, "frames": found["frames"] | frames}
    with atomic_path(manifest_path(paths)) as temporary:
        temporary.write_text(json.dumps(record, indent=1))


def _differences(found: dict, wanted: dict) -> list[tuple[str, str, object, object]]:
    """(stage, setting, recorded, wanted) of what differs where both are known."""
    both = [(s, name, found.get(s, {}).get(name), now) for s, values in wanted.items() for name, now in values.items()]
    return [(s, name, was, now) for s, name, was, now in both if None not in (was, now) and was != now]


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
