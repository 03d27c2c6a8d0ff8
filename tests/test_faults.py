"""Interrupted runs end as promised; the same command, run again, ends with an uninterrupted run's bytes."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from networks.checkpoints import newest_checkpoint, read_checkpoint, save_checkpoint
from networks.optimizer import SkippableAdam
from tests.conftest import REPOSITORY
from tests.oracles.faults import make_commands, run_trials
from tests.oracles.process_harness import contents
from train import main

RUN = Path("out") / "tiny_scene"


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    torch.set_num_threads(1)
    return make_commands(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            ("preprocessing", kind)
            for kind in ("kill -9", "Ctrl-C", "full disk", "read-only folder", "two runs at once")
        ),
        *(("training", kind) for kind in ("kill -9", "SIGTERM", "full disk", "two runs at once")),
    ],
)
def test_the_same_command_makes_the_same_bytes(commands, tmp_path, name, kind):
    try:
        row = run_trials(commands[name], kind, 1, np.random.default_rng(5), tmp_path)
    except PermissionError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    assert row.pop("trials") == 1 and row.pop("steps repeated") <= 4  # i_weight
    assert row.pop("finished files remade") <= 10 * (os.cpu_count() or 1)  # a sweep's flows and masks, of each thread
    assert row == dict.fromkeys(row, 0)


def test_the_comparison_sees_what_is_wrong(commands, tmp_path, monkeypatch):
    command, folder = commands["preprocessing"], tmp_path / "made"
    shutil.copytree(command.template, folder)
    assert command.finish(folder) == 0
    (folder / "scene" / "raft_masks" / "00000.png_00003.png.png").write_bytes(b"")
    (folder / "scene" / "leftover").touch()
    monkeypatch.setattr(command, "main", lambda flags: next(folder.rglob("*.flow")).touch())
    row = command.repeat(folder, stopped=False)
    assert (row["files that differ"], row["files left over"], row["finished files remade"]) == (1, 1, 1)


def test_a_new_process_with_other_hashes_makes_the_same_bytes(commands, tmp_path):
    """From the frames to the checkpoints, in the interpreter of a user."""
    command = commands["training"]
    shutil.copytree(commands["preprocessing"].template, tmp_path, dirs_exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "train.py"), *command.flags],
        cwd=tmp_path,
        env=os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == command.expected


def test_the_number_of_workers_changes_the_flags_alone(commands, tmp_path):
    for step in (4, 16):
        alone, shared = (
            commands[name].reference / "out" / "_scene" / f"model_{step:06d}.pth"
            for name in ("training", "training with workers")
        )
        state = read_checkpoint(alone)
        state["flags"]["num_workers"] = 2
        save_checkpoint(tmp_path / "changed.pth", state)
        assert alone.read_bytes() != shared.read_bytes() == (tmp_path / "changed.pth").read_bytes()


def test_a_worker_killed_in_an_update_costs_no_step(tiny_flags, monkeypatch, capsys):
    update, updates = SkippableAdam.step, iter(range(100))

    def with_a_loss(self, *values):
        if next(updates) == 2:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid or 0, signal.SIGKILL)
            worker.join()  # the signal of its death has come
        return update(self, *values)

    monkeypatch.setattr(SkippableAdam, "step", with_a_loss)
    large = ["--num_pairs", "16", "--num_pts", "256"]  # a worker's pipe holds few such batches
    flags = [*tiny_flags, *large, "--num_iters", "12", "--i_cache", "100", "--num_workers", "1"]
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    assert "a process that prepares batches was killed" in capsys.readouterr().err.splitlines()[-1]
    assert newest_checkpoint(RUN).name >= "model_000003.pth"
    main(flags)
    assert newest_checkpoint(RUN).name == "model_000012.pth"


@pytest.mark.parametrize("after", [1, 4])
def test_a_disk_that_is_full_stops_training_in_one_sentence(tiny_flags, monkeypatch, capsys, after):
    """Replaces the trials with a full disk where none can be mounted."""
    replace, room = os.replace, iter(range(after))

    def until_full(source, target):
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    flags = [*tiny_flags, "--num_iters", "6", "--i_weight", "2"]
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", until_full)
        with pytest.raises(SystemExit) as stopped:
            main(flags)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: cannot write in out/tiny_scene (No space left")
    main(flags)
    assert read_checkpoint(RUN / "model_000006.pth")["step"] == 6 and not list(RUN.rglob("*.partial*"))


def test_a_folder_of_another_user_is_refused_in_one_sentence(tiny_flags, scene_dir, tmp_path, capsys):
    """Replaces the trials with a read-only disk where none can be mounted: the folder's permissions forbid writing."""
    shutil.copytree(scene_dir, tmp_path / "scene")
    (tmp_path / "out").mkdir(mode=0o555)
    root = os.geteuid() == 0
    if root:  # permissions do not apply to root
        tmp_path.chmod(0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(SystemExit) as stopped:
            main([*tiny_flags, "--data_dir", "scene", "--num_iters", "2"])
    finally:
        if root:
            os.seteuid(0)
    assert stopped.value.code == 2
    assert "no permission to write out/tiny_scene (Permission denied)" in capsys.readouterr().err.splitlines()[-1]
