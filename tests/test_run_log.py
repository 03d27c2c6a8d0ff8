"""The log of a run: what is written, and what a resume leaves of it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from utils.run_log import RunLog


@pytest.fixture(autouse=True)
def event_files_in_order(monkeypatch):
    """TensorBoard sorts files of one second and process by a counter, as text: 10 would come before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def metrics(log_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (log_dir / "metrics.jsonl").read_text().splitlines()]


def board(log_dir: Path) -> EventAccumulator:
    return EventAccumulator(str(log_dir)).Reload()


def write_steps(log_dir: Path, steps: range, resume_step: int | None = None) -> None:
    log = RunLog(log_dir, resume_step)
    for step in steps:
        log.scalars(step, {"loss/flow": torch.tensor(step / 2), "lr": 1e-3})
    log.close()


def test_scalars_reach_the_file_and_tensorboard(tmp_path: Path):
    write_steps(tmp_path / "logs" / "run", range(3))
    assert metrics(tmp_path / "logs" / "run") == [{"step": s, "loss/flow": s / 2, "lr": 1e-3} for s in range(3)]
    events = board(tmp_path / "logs" / "run").Scalars("loss/flow")
    assert [(e.step, e.value) for e in events] == [(0, 0.0), (1, 0.5), (2, 1.0)]


def test_lines_are_on_disk_before_the_log_is_closed(tmp_path: Path):
    log = RunLog(tmp_path)
    log.scalars(7, {"loss": math.inf})
    assert metrics(tmp_path) == [{"step": 7, "loss": math.inf}]
    log.close()


def test_a_resume_drops_later_lines_in_the_file_and_in_tensorboard(tmp_path: Path):
    write_steps(tmp_path, range(10))
    write_steps(tmp_path, range(5, 7), resume_step=4)
    assert [line["step"] for line in metrics(tmp_path)] == list(range(7))
    assert [e.step for e in board(tmp_path).Scalars("lr")] == list(range(7))


def test_a_fresh_run_in_the_same_folder_starts_anew(tmp_path: Path):
    write_steps(tmp_path, range(10))
    write_steps(tmp_path, range(2))
    assert [line["step"] for line in metrics(tmp_path)] == [0, 1]
    assert [e.step for e in board(tmp_path).Scalars("lr")] == [0, 1]


def test_a_line_cut_short_by_a_crash_does_not_break_the_resume(tmp_path: Path):
    write_steps(tmp_path, range(3))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    write_steps(tmp_path, range(3, 5), resume_step=3)
    assert [line["step"] for line in metrics(tmp_path)] == list(range(5))


def test_pictures_reach_tensorboard(tmp_path: Path):
    log = RunLog(tmp_path)
    log.image(1, "flow", np.zeros((8, 6, 3), np.uint8))
    log.close()
    events = board(tmp_path)
    assert set(events.Tags()["images"]) == {"flow"}
    picture = events.Images("flow")[0]
    assert (picture.step, picture.height, picture.width) == (1, 8, 6)
