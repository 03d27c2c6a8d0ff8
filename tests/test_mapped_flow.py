"""The mapped file holds the valid flow of the products on disk, and is rewritten when they change."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders.batches import SamplingConfig
from loaders.clip import load_video
from loaders.flow_batches import FlowBatches
from loaders.flow_store import FlowStore
from loaders.mapped_flow import MappedFlowStore
from preprocessing.sequence_paths import SequencePaths
from utils.errors import InputError


@pytest.fixture
def paths(scene_dir: Path, tmp_path: Path) -> SequencePaths:
    unmapped = shutil.ignore_patterns("training_flow")  # left by other tests' runs
    return SequencePaths(Path(shutil.copytree(scene_dir, tmp_path / "scene", ignore=unmapped)))


def test_masks_flow_and_batches_are_the_same(paths):
    names, video = load_video(paths)
    plain, mapped = FlowStore(paths, names), MappedFlowStore(paths, names)
    assert mapped.file.stat().st_size == mapped.bytes
    for i, j in np.argwhere(plain.known).tolist():
        a, b = plain.mask(i, j), mapped.mask(i, j)
        assert (a.consistent == b.consistent).all() and (a.rescued == b.rescued).all()
        valid = np.ones_like(a.rescued) if abs(i - j) == 1 else a.consistent | a.rescued
        index = np.random.default_rng(0).permutation(np.flatnonzero(valid))[:50]
        np.testing.assert_allclose(mapped.flow_at(i, j, b, index), plain.flow_at(i, j, a, index), atol=1 / 32)
    config = SamplingConfig(num_pairs=4, num_pts=16, start_interval=20, use_count_map=True, seed=3)
    before, after = (FlowBatches(video, store, config)[7] for store in (plain, pickle.loads(pickle.dumps(mapped))))
    for field in fields(before):
        torch.testing.assert_close(getattr(after, field.name), getattr(before, field.name), rtol=0, atol=1 / 32)


def test_the_file_is_written_once_and_again_when_the_products_change(paths):
    names, _ = load_video(paths)
    first, shorter = MappedFlowStore(paths, names), MappedFlowStore(paths, names[:4])
    made = first.file.stat().st_mtime_ns
    assert MappedFlowStore(paths, names).file.stat().st_mtime_ns == made
    stats = first.paths.flow_stats
    stats.write_text(json.dumps(json.loads(stats.read_text())) + " ")
    second = MappedFlowStore(paths, names)
    assert second.file != first.file and second.file.exists()
    assert not first.file.exists() and shorter.file.exists(), "files of other frames stay"
    second.file.write_bytes(b"cut")
    assert MappedFlowStore(paths, names).file.stat().st_size == second.bytes


def test_masks_that_contradict_the_statistics_are_refused_and_leave_nothing(paths):
    names, _ = load_video(paths)
    stats = FlowStore(paths, names).paths.flow_stats
    counts = json.loads(stats.read_text())
    counts[names[0]][names[2]] += 1
    stats.write_text(json.dumps(counts))
    with pytest.raises(InputError, match=r"valid pixels, but .* has"):
        MappedFlowStore(paths, names)
    assert not any((stats.parent / "training_flow").iterdir())


def test_a_full_disk_is_explained(paths, monkeypatch):
    names, _ = load_video(paths)

    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("loaders.mapped_flow.open", fail, raising=False)
    with pytest.raises(InputError, match="make room"):
        MappedFlowStore(paths, names)


def test_partial_files_of_a_killed_writer_are_removed_at_the_next_start(paths):
    names, _ = load_video(paths)
    made = MappedFlowStore(paths, names).file
    killed = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid()); os.kill(os.getpid(), 9)"], stdout=subprocess.PIPE
    )
    left, at_work = (made.with_name(f".6_ab.{pid}.partial.bin") for pid in (int(killed.stdout), os.getpid()))
    left.write_bytes(b"half")
    at_work.write_bytes(b"half")
    MappedFlowStore(paths, names)
    assert not left.exists() and at_work.exists() and made.exists()
