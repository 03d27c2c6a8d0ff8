"""Checkpoint files: atomic, safe to load, the newest found; and the schedules."""

import pickle
from pathlib import Path

import pytest
import torch

from networks.checkpoints import (
    checkpoint_path,
    find_checkpoint,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
    set_aside,
)
from networks.gabor import GaborNet
from networks.model_config import ModelConfig
from networks.released_checkpoint import load_released_checkpoint
from utils.atomic import atomic_path
from utils.errors import InputError


def test_the_newest_is_found_by_number(tmp_path):
    for step in (999_999, 1_000_001, 5):
        save_checkpoint(checkpoint_path(tmp_path, step), {"step": step})
    assert read_checkpoint(newest_checkpoint(tmp_path)) == {"step": 1_000_001}
    assert find_checkpoint(tmp_path / "empty", None) is None


def test_equal_states_are_equal_bytes(tmp_path):
    state = {"step": 3, "model": {"step": torch.ones(2)}, "groups": [{"betas": (0.9, 0.99), "lr": 0.1}] * 2}
    save_checkpoint(tmp_path / "a.pth", state)
    read = read_checkpoint(tmp_path / "a.pth")  # equal, of other objects
    save_checkpoint(tmp_path / "another name.pth", {"".join("step"): read.pop("step"), **read})
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "another name.pth").read_bytes()


def test_a_wrong_path_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        find_checkpoint(tmp_path, str(tmp_path / "model.pth"))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Evil()}, tmp_path / "evil.pth", pickle_module=pickle)
    with pytest.raises(InputError, match="cannot be read"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_broken_file_is_an_error(tmp_path, content):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pth"):
        read_checkpoint(tmp_path / "model.pth")


def test_a_foreign_dict_is_an_error(tmp_path):
    save_checkpoint(tmp_path / "model.pth", {"weights": torch.zeros(2)})
    with pytest.raises(InputError, match="lacks model_config"):
        load_released_checkpoint(tmp_path / "model.pth", ModelConfig(1, 8, 8))


def test_sizes_are_compared_without_drawing(monkeypatch):
    """Torch 2.11 has no gamma distribution without memory: every checkpoint was called damaged there."""

    def refuse(*args, **kwargs):
        raise NotImplementedError

    monkeypatch.setattr("torch.distributions.gamma._standard_gamma", refuse)
    with pytest.raises(NotImplementedError):
        GaborNet(3, 8, 4, num_layers=1, alpha=1.0)
    with torch.device("meta"):
        net = GaborNet(3, 8, 4, num_layers=1, alpha=1.0)
    assert [len(gabor.gamma) for gabor in net.filters] == [8, 8]


def test_earlier_runs_are_kept_apart(tmp_path):
    assert set_aside(tmp_path) is None
    for number in (1, 2):
        save_checkpoint(checkpoint_path(tmp_path, 3), {})
        assert set_aside(tmp_path) == tmp_path / f"earlier_{number}"
    assert find_checkpoint(tmp_path, None) is None
