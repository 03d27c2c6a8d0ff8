"""Every benchmark still fits the code that it measures."""

import importlib
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import preprocess
from utils.paths import SequencePaths

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_it_can_be_imported(name):
    importlib.import_module(f"benchmarks.{name}")


def test_preprocessing_is_measured(scene_dir, monkeypatch):
    for module in ("benchmarks.preprocess", "preprocessing.flow_raft"):
        monkeypatch.setattr(f"{module}.NUM_UPDATES", 1)
    monkeypatch.setattr(preprocess, "RAFT_FRAMES", 2)
    monkeypatch.setattr(preprocess, "FILTER_FRAMES", 4)
    args = Namespace(device="cpu", keep=None, num_frames=3, pairs="all")
    raft = preprocess.part_raft(SequencePaths(scene_dir), args)
    assert raft["largest difference of the flows, px"] < 1e-3 and raft["s a pair, torchvision's forward"] > 0
    assert set(preprocess.part_filter(SequencePaths(scene_dir), args)) >= {"dino: ratio", "sift: ratio"}
    for stage in preprocess.STAGES:  # which it replaces
        monkeypatch.setattr(f"preprocessing.main_processing.{stage}", getattr(preprocess.main_processing, stage))
    whole = preprocess.part_whole(SequencePaths(scene_dir), args)
    assert whole["frames, width, height, pairs"] == [3, 56, 40, 6] and whole["chain_flow, s"] > 0
