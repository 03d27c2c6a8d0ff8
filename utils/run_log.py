"""One log of a training run: console, TensorBoard and `metrics.jsonl`, which agree after a resume too."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from utils.atomic import atomic_path
from utils.figures import figure_image

MAX_ROWS = 28  # groups in the weight figure; more would not be legible
TINY = 1e-12  # ends of the figure's logarithmic axes: zero and infinite weights must not break the picture


class RunLog:
    """Writes what happens to the run into `log_dir`.

    Args:
        log_dir: created if missing.
        resume_step: the last step that counts; later entries of an earlier run in the folder are dropped.
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
        """Log named numbers (`loss/flow`, …) of a step; one line {"step": …, name: value, …} of the JSONL."""
        numbers = {name: float(value) for name, value in values.items()}
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)
        self._lines.write(json.dumps({"step": step, **numbers}) + "\n")
        self._lines.flush()  # a run that is killed loses nothing

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log a picture, uint8 RGB [H,W,3]."""
        self._writer.add_image(name, image, step, dataformats="HWC")
        self._writer.flush()

    def weight_stats(self, step: int, module: nn.Module) -> None:
        """Log a figure of the weights' size, under the tag `weight_stats`."""
        self.image(step, "weight_stats", weight_figure(module))

    def print(self, text: str) -> None:
        """A line on the console that leaves progress bars intact."""
        tqdm.write(text)

    def close(self) -> None:
        """Write out what is buffered; the log takes nothing afterwards."""
        self._lines.close()
        self._writer.close()


def weight_figure(module: nn.Module) -> NDArray[np.uint8]:
    """Mean, standard deviation and largest magnitude of a module's weights by group, uint8 [H,W,3].

    Bars show magnitudes, on logarithmic axes because groups differ by powers of ten; the numbers are signed.
    """
    groups = parameter_groups(module)
    stats = np.array([_stats(tensors) for tensors in groups.values()]).T
    figure = Figure(figsize=(12, 1.3 + 0.27 * len(groups)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, values, title in zip(panels, stats, ("mean", "standard deviation", "max |w|"), strict=True):
        lengths = np.nan_to_num(np.abs(values)).clip(TINY, 1 / TINY)
        bars = axes.barh(range(len(groups)), lengths, color="tab:blue")
        axes.bar_label(bars, [f"{value:.3g}" for value in values], fontsize=9, padding=3)
        axes.set_xscale("log")
        axes.set_xlim(lengths.min() / 3, (lengths.max() / lengths.min()) ** 0.3 * lengths.max() * 3)
        axes.set_title(title)
    sizes = [sum(t.numel() for t in tensors) for tensors in groups.values()]
    labels = [f"{name} ({size:,})" for name, size in zip(groups, sizes, strict=True)]
    panels[0].set_yticks(range(len(groups)), labels)
    panels[0].invert_yaxis()
    return figure_image(figure)


def parameter_groups(module: nn.Module) -> dict[str, list[Tensor]]:
    """Parameters by the module that holds them, as finely as `MAX_ROWS` groups allow (at least by child)."""
    named = list(module.named_parameters())
    finest = max((name.count(".") for name, _ in named), default=0)
    for depth in range(max(finest, 1), 0, -1):
        groups: dict[str, list[Tensor]] = {}
        for name, parameter in named:
            owner = name.split(".")[:-1] or [name]
            groups.setdefault(".".join(owner[:depth]), []).append(parameter.detach())
        if len(groups) <= MAX_ROWS:
            break
    return groups


def _stats(tensors: list[Tensor]) -> tuple[float, float, float]:
    """Mean, population standard deviation and largest magnitude of all values together."""
    values = torch.cat([tensor.flatten().float() for tensor in tensors])
    return values.mean().item(), values.std(correction=0).item(), values.abs().max().item()


def _drop_lines_after(path: Path, last_step: int) -> None:
    """Keep the lines of a JSONL with `step` ≤ `last_step`; a line cut short by a crash is dropped as well."""
    if path.exists():
        kept = [line for line in _lines_of(path) if _step(line) <= last_step]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _lines_of(path: Path) -> list[str]:
    """The lines of a JSONL; what is no text, as a machine that lost power leaves it, makes them unreadable alone."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _step(line: str) -> float:
    """Step of a line, infinite where it cannot be read."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return float("inf")


def read_curves(metrics: Path, most: int = 300) -> dict[str, list[tuple[int, float]]]:
    """The finite values (step, value) of every scalar in a `metrics.jsonl`, at most `most` of each, evenly thinned."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in _lines_of(metrics) if metrics.is_file() else ():
        step = _step(line)
        for name, value in json.loads(line).items() if math.isfinite(step) else ():
            if name != "step" and math.isfinite(value):
                curves.setdefault(name, []).append((step, value))
    chosen = {name: np.linspace(0, len(all_) - 1, min(most, len(all_))).astype(int) for name, all_ in curves.items()}
    return {name: [curves[name][k] for k in ids] for name, ids in chosen.items()}
