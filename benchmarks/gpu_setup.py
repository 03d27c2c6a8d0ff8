"""What the parts of `benchmarks.gpu` are given, and where their reports go."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from utils.atomic import write_atomic

CLIP, WEIGHTS = Path("data/davis/dog"), Path("weights/raft-sintel.pth")  # in the shared folder
GOLDEN, TAPVID = Path("golden"), Path("tools/tapvid32.py")


@dataclass(frozen=True)
class Setup:
    """What all parts are given."""

    shared: Path
    configs: Path
    device: str
    out: Path

    def folder(self, part: str) -> Path:
        """Return the folder of a part's files, which it makes."""
        folder = self.out / part
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def report_of(self, part: str) -> Path:
        """Return the file of what a part reports."""
        return self.out / part / "report.json"

    def report(self, part: str, result: Mapping) -> None:
        """Write what a part has found so far."""
        write_atomic(self.report_of(part), json.dumps(result, indent=1).encode())

    def flags(self) -> list[str]:
        """Return the flags of `benchmarks.gpu` that give the same."""
        given = {"shared": self.shared, "configs": self.configs, "device": self.device, "out": self.out}
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]

    @property
    def is_gpu(self) -> bool:
        """Whether the device is one of CUDA."""
        return self.device.startswith("cuda")

    def measured_configs(self) -> list[Path]:
        """Return the settings to measure, those of whole runs first."""
        names = ("fast_gpu.txt", "fast.txt", "default.txt")
        return [self.configs / name for name in names if (self.configs / name).is_file()]

    def run_flags(self) -> list[str]:
        """Return flags of whole runs: RAFT on a GPU, and features that need no weights."""
        flow = ["raft", "--raft_weights", str(self.shared / WEIGHTS)] if self.is_gpu else ["dis"]
        return ["--device", self.device, "--features", "sift", "--flow", *flow]


@dataclass(frozen=True)
class Part:
    """A part: `missing` returns why it cannot run, or an empty string."""

    run: Callable[[Setup], None]
    share: float
    missing: Callable[[Setup], str] = lambda setup: ""
    is_check: bool = False


def lacks(*paths: Path) -> Callable[[Setup], str]:
    """Return a function that names the first of these that the shared folder lacks; weights are for GPUs alone."""

    def missing(setup: Setup) -> str:
        wanted = [setup.shared / path for path in paths if setup.is_gpu or path != WEIGHTS]
        return next((f"no {path}" for path in wanted if not path.exists()), "")

    return missing
