"""What a user can get wrong, in one list: each ends with status 2 and one sentence, and leaves every byte as it was.

Odd frames and videos are in test_input_kinds.py, archives of benchmarks in test_get_davis.py and test_get_tapvid.py.
"""

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
import train
import viz
from loaders.error_maps import load_error_maps
from preprocessing import get_davis, get_tapvid, main_processing
from preprocessing.flow_files import read_flow
from preprocessing.sequence_paths import SequencePaths
from tests.archive_files import davis_members, pickled, tapvid_sequence, write_zip
from tests.bad_input_cases import CHECKPOINT, NAMES, RUN, SCENE, Evil, cases, cut
from tests.conftest import TINY
from utils.errors import InputError

CASES = cases()
MAINS = {
    "train": (train.main, [*TINY.split(), "--data_dir", "scene", "--num_iters", "4"]),
    "viz": (viz.main, [*TINY.split(), "--data_dir", "scene"]),
    "evaluate": (evaluate.main, [*TINY.split(), "--data_dir", "scene"]),
    "moved": (viz.main, ["--run", "out/tiny_scene"]),
    "stored": (evaluate.main, ["--tracks", "tracks.npz", "--gt", "scene/gt_tracks.npz"]),
    "prepare": (main_processing.main, ["--data_dir", "scene", "--flow", "dis", "--device", "cpu"]),
    "davis": (get_davis.main, ["--archive", "davis.zip", "--out", "davis"]),
    "tapvid": (get_tapvid.main, ["--archive", "tapvid.pkl", "--out", "tapvid"]),
}
SECONDS = 5
ADVICE = "ask for|change|track the|needs?|expected|give|choose|delete|drop|add|convert|preprocess|move|put|try|train"
ADVICE += "|scale|save"


@pytest.fixture(scope="session")
def world(scene_dir, tmp_path_factory) -> Path:
    """A folder with a prepared scene, its trained run, tracks of it, and small archives. Read only."""
    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(scene_dir, folder / "scene")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("visualization.tensorboard.training_images", lambda *args, **kwargs: {})
        for draw in ("save_grid", "save_trails"):
            patch.setattr(f"visualization.styles.{draw}", lambda *args: [])
        train.main([*TINY.split(), "--data_dir", "scene", "--num_iters", "3", "--i_cache", "2"])
    with np.load(folder / SCENE.gt_tracks) as truth:
        np.savez(folder / "tracks.npz", tracks=truth["points"].swapaxes(0, 1), visibility=~truth["occluded"].T)
    write_zip(folder / "davis.zip", davis_members("bear"))
    pickled(folder / "tapvid.pkl", {"goat": tapvid_sequence()})
    return folder


@pytest.fixture(scope="session")
def published(world, tmp_path_factory) -> Path:
    """The same with flow as the released code leaves it: npy files, and no record of how they were made."""
    folder = tmp_path_factory.mktemp("published") / "world"
    shutil.copytree(world, folder)
    paths = SequencePaths(folder / "scene")
    for a in NAMES:
        for b in NAMES:
            if a != b:
                np.save(paths.released_flow(a, b), read_flow(paths, a, b))
                paths.flow(a, b).unlink()
    paths.manifest.unlink()
    shutil.rmtree(paths.chained.root)
    return folder


def snapshot() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(command: str, flags: list[str], capsys) -> str:
    """The sentence with which a command ends with status 2, within some seconds and without a change to any file."""
    main, fixed = MAINS[command]
    before, started = snapshot(), time.process_time()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([*fixed, *flags])
    assert stopped.value.code == 2
    assert time.process_time() - started < SECONDS
    assert snapshot() == before
    said = capsys.readouterr().err
    sentences = [line for line in said.splitlines() if "error: " in line]
    assert len(sentences) == 1 and sentences[0].startswith("error: ") and said.endswith(f"{sentences[0]}\n")
    assert "Traceback" not in said and len(sentences[0]) < 500
    return sentences[0]


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_sentence(case, request, tmp_path, monkeypatch, capsys):
    command, flags, spoil, said = CASES[case]
    template = request.getfixturevalue("published" if case.startswith("published") else "world")
    monkeypatch.chdir(template)
    if spoil:
        shutil.copytree(template, tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        spoil()
    sentence = refused(command, flags, capsys)
    assert re.search(said, sentence), sentence
    assert re.search(ADVICE, sentence), sentence
    assert not Path("touched").exists()


def test_there_are_many_of_them():
    assert len(CASES) >= 60


@pytest.fixture
def own(world, tmp_path, monkeypatch) -> Path:
    """A copy of the world, in which the test runs."""
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ended(command: str, *flags: str) -> None:
    main, fixed = MAINS[command]
    with pytest.raises(SystemExit) as stopped:
        main([*fixed, *flags])
    assert stopped.value.code == 2


@pytest.mark.parametrize("content", [np.zeros((2, 3, 4)), np.full((6, 40, 56), np.nan), np.array([Evil()])])
def test_error_maps_that_are_unusable_are_refused(tmp_path, content):
    np.save(tmp_path / "000002.npy", content, allow_pickle=True)
    with pytest.raises(InputError, match=r"000002\.npy .*: delete it"):
        load_error_maps(tmp_path / "000002.npy", (6, 40, 56))


def test_cut_error_maps_are_named_and_the_checkpoint_stays(own, capsys):
    path = RUN / "error_maps" / "000002.npy"
    cut(path)()
    before = torch.load(CHECKPOINT, weights_only=True)["model"]
    ended("train", "--i_cache", "2")
    assert "000002.npy" in capsys.readouterr().err
    after = torch.load(CHECKPOINT, weights_only=True)["model"]
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_features_that_are_unusable_are_named_and_what_is_done_stays(own, capsys):
    shutil.rmtree(SCENE.root / "raft_masks")
    cut(SCENE.feature("sift", NAMES[0]))()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.name != "report.png"}
    ended("prepare")
    assert "features/sift/00000.png.npy" in capsys.readouterr().err
    assert before.items() <= snapshot().items()


def test_weights_that_cannot_be_had_leave_no_record(own, capsys, monkeypatch):
    """The advice of the message, `--flow dis`, works."""

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", no_network)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    shutil.copytree("scene/color", "fresh/color")
    ended("prepare", "--data_dir", "fresh", "--flow", "raft")
    assert "choose --flow dis" in capsys.readouterr().err
    assert [path.name for path in Path("fresh").iterdir()] == ["color"]
    main_processing.main(["--data_dir", "fresh", "--flow", "dis", "--num_frames", "2"])
