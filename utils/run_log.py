"""The log of a training run: TensorBoard and `metrics.jsonl`, which hold the same steps even after a resume."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from utils.atomic import atomic_path


class RunLog:
    """Log of a run in a folder, for TensorBoard and as `metrics.jsonl`.

    Args:
        log_dir: Created if missing.
        resume_step: The step that the run resumes from; later entries of an earlier run in the folder are dropped.
            None starts anew and drops all of them.
    """

    def __init__(self, log_dir: Path, resume_step: int | None = None):
        log_dir = Path(log_dir)
        log_dir.mkdir(parents=True, exist_ok=True)
        last_kept = -1 if resume_step is None else resume_step
        metrics = log_dir / "metrics.jsonl"
        _drop_lines_after(metrics, last_kept)
        self._lines = metrics.open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(log_dir), purge_step=last_kept + 1)

    def scalars(self, step: int, values: Mapping[str, float | Tensor]) -> None:
        """Log named numbers (`loss/flow`, …) of a step, in the JSONL as a line {"step": …, name: value, …}."""
        numbers = {name: float(value) for name, value in values.items()}
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)
        self._lines.write(json.dumps({"step": step, **numbers}) + "\n")
        self._lines.flush()  # so that a killed run loses nothing

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log a picture, uint8 RGB [H,W,3]."""
        self._writer.add_image(name, image, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write out what is buffered, and close the files."""
        self._lines.close()
        self._writer.close()


def _drop_lines_after(path: Path, last_step: int) -> None:
    """Keep the lines of a JSONL with `step` ≤ `last_step`; also drop lines that a crash has truncated."""
    if path.exists():
        kept = [line for line in _read_lines(path) if _step(line) <= last_step]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _read_lines(path: Path) -> list[str]:
    """Read the lines of a JSONL; bytes that are not text, as after a power failure, damage only their own lines."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _step(line: str) -> float:
    """Return the step of a line; infinite if the line cannot be read."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return float("inf")


def read_curves(metrics: Path, max_points: int = 300) -> dict[str, list[tuple[float, float]]]:
    """Read the finite values of every scalar in a `metrics.jsonl`.

    Args:
        metrics: The file; a missing one has no scalars.
        max_points: Most points to return for each scalar, evenly spaced.

    Returns:
        (step, value) by scalar, in the order of the lines.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in _read_lines(metrics) if metrics.is_file() else ():
        step = _step(line)
        for name, value in json.loads(line).items() if math.isfinite(step) else ():
            if name != "step" and math.isfinite(value):
                curves.setdefault(name, []).append((step, value))
    return {name: [values[k] for k in _spread(len(values), max_points)] for name, values in curves.items()}


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` indices, spread evenly over 0 … count − 1."""
    return np.linspace(0, count - 1, min(most, count)).astype(int).tolist()
