"""A training that is killed once and stopped by Ctrl-C once, beside two that are not: a part of `benchmarks.gpu`.

The same command continues it each time, and must hold exactly the state of the checkpoint before its first step. How
it ends differs from the undisturbed runs by as much as these differ from one another: a GPU adds in any order.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from torch import Tensor

from configs.flags import parse_train
from networks.checkpoints import newest_checkpoint, read_checkpoint
from tests.oracles.faults import STOPPED, train_without_pictures
from tests.oracles.process_harness import Command, last_line, log_of, newest_step
from trainer import Trainer

FIGURES = ("loss/Loss", "val/d_avg", "val/AJ")  # of the log's last line that has them
SCORE_BOUND = 0.02  # of differences between scores, beside twice the spread of undisturbed runs
NOTES = "resumed.jsonl"  # in the folder of a run: what each start found
POLL = 0.002  # seconds


def train_and_note(flags: list[str]) -> None:
    """Run train.py, but draw nothing; before the first step, note whether the state is the newest checkpoint's."""
    train = Trainer.train

    def noted(trainer: Trainer) -> bool:
        if trainer.step > 0:
            exact = same_state(trainer.state(), read_checkpoint(newest_checkpoint(trainer.run_dir)))
            with Path(NOTES).open("a") as notes:
                notes.write(json.dumps({"step": trainer.step, "exact": exact}) + "\n")
        return train(trainer)

    with patch.object(Trainer, "train", noted), patch("train._show_results"):
        train_without_pictures(flags)


def same_state(a: object, b: object) -> bool:
    """Return whether two states hold the same bits, on whatever devices."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same_state, a, b))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool((a.cpu() == b.cpu()).all())
    return a == b


def interrupt(command: Command, folder: Path, step: int, number: signal.Signals) -> int | None:
    """Start the command, send a signal once there is a checkpoint of `step`, and return the exit status."""
    process = command.start(folder)
    while process.is_alive() and newest_step(folder) < step:
        time.sleep(POLL)
    if process.is_alive() and process.pid:
        os.kill(process.pid, number)
    process.join()
    return process.exitcode


def last_figures(folder: Path) -> dict[str, float]:
    """Return the last value of each figure in the log of a folder's run."""
    (log,) = folder.glob("logs/*/metrics.jsonl")
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return {name: line[name] for name in FIGURES for line in lines if name in line}


def compare_interrupted(config: Path, device: str, root: Path, report: Callable[[dict], None]) -> str:
    """Run all trainings; return what is wrong, or an empty string.

    Args:
        config: Settings of a clip with exact tracks, at least three times as many steps as between checkpoints.
        device: Where to train. This process must not have used it: the trainings are its forks.
        root: Folder for the runs, which a second call makes anew.
        report: Called with what is found.
    """
    args = parse_train(["--config", str(config)])
    command = Command("training", train_and_note, ["--config", str(config), "--device", device], root)
    attempt = root / f"attempt_{len(list(root.glob('attempt_*')))}"
    whole, again, cut = (attempt / name for name in ("whole", "again", "interrupted"))
    cut.mkdir(parents=True)
    killed = interrupt(command, cut, args.i_weight, signal.SIGKILL)
    stopped = interrupt(command, cut, 2 * args.i_weight, signal.SIGINT)
    promised = {"killed": killed == -signal.SIGKILL, "stopped by Ctrl-C": stopped == STOPPED}
    ended = [command.finish(cut)]
    for folder in (whole, again):  # with the scene and its flow, if the config makes them there
        shutil.copytree(cut, folder, ignore=shutil.ignore_patterns("out", "logs", NOTES))
        ended.append(command.finish(folder))
    notes = (cut / NOTES).read_text().splitlines() if (cut / NOTES).exists() else []
    resumed = [json.loads(line) for line in notes]
    found: dict[str, object] = {**promised, "exit statuses at the end": str(ended)}
    found["resumed at steps"] = ", ".join(
        f"{each['step']}{'' if each['exact'] else ' (not exact)'}" for each in resumed
    )
    report(found)
    if any(ended) or not all(promised.values()):
        lines = {last_line(log_of(folder)) for folder in (cut, whole, again)}
        return f"not ended as expected: killed {killed}, Ctrl-C {stopped}, to the end {ended} ({'; '.join(lines)})"
    wrong = [] if len(resumed) == 2 and all(each["exact"] for each in resumed) else ["the resumed state is another"]
    figures = {name: last_figures(folder) for name, folder in (("whole", whole), ("again", again), ("cut", cut))}
    for name, value in figures["whole"].items():
        difference, spread = (abs(figures[other][name] - value) for other in ("cut", "again"))
        found |= {name: value, f"{name}, interrupted differs by": difference, f"{name}, repeated differs by": spread}
        if name.startswith("val/") and difference > SCORE_BOUND + 2 * spread:
            wrong.append(f"{name} differs by {difference:.3f}, of runs that were not interrupted by {spread:.3f}")
    report(found)
    return "; ".join(wrong)
