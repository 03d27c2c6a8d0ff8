"""Shared fixtures: the golden folder and a tiny prepared sequence."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with numbers of the released implementation; tests that need it skip where there is none."""
    folder = Path(os.environ.get("OMNIMOTION_GOLDEN", REPOSITORY.parent / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no golden folder at {folder} (set OMNIMOTION_GOLDEN)")
    return folder


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request) -> torch.device:
    """The CPU, and a GPU where there is one: what a test shows must hold on both."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return torch.device(request.param)


GPU_ALONE = pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.cuda)], indirect=True)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tests are small: more threads would only wait for one another, above all beside other work."""
    torch.set_num_threads(1)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and an empty cache of weights."""

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture(scope="session")
def scene_dir(tmp_path_factory) -> Path:
    """A small synthetic scene with exact tracks, preprocessed without weights. Read only."""
    from preprocessing.pipeline import preprocess
    from preprocessing.sequence_paths import SequencePaths
    from preprocessing.settings import Settings
    from preprocessing.synthetic import make_scene, write_scene

    paths = SequencePaths(tmp_path_factory.mktemp("sequences") / "scene")
    write_scene(make_scene(num_frames=6, height=40, width=56, seed=3), paths)
    preprocess(paths, Settings(flow="dis"))
    return paths.root


TINY = """
--num_pairs 4 --num_pts 16 --num_workers 0 --num_samples_ray 4
--coupling_width 8 --coupling_depth 1 --code_size 8 --code_width 8 --volume_width 8 --volume_depth 1
--flow dis --device cpu --use_count_map --use_error_map --mask_near --use_max_loc --vis_occlusion
--i_print 2 --i_img 1000 --i_weight 1000 --i_cache 4 --schedule_scale 1
--expname tiny
"""


def tiny_config() -> str:
    """The same flags as a config file."""
    lines = [part.strip().split(" ", 1) for part in TINY.replace("\n", " ").split("--") if part.strip()]
    return "".join(f"{name} = {value[0] if value else 'true'}\n" for name, *value in lines)


@pytest.fixture
def tiny_flags(scene_dir, tmp_path, monkeypatch) -> list[str]:
    """Flags of a run of seconds on the small scene; outputs go below the test's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("visualization.page.QUICK_SHARE", 1e-6)  # a coarse grid on the page of every run
    return [*TINY.split(), "--data_dir", str(scene_dir)]


@pytest.fixture
def train_to_flow(tiny_flags, monkeypatch, capsys) -> Callable[..., str]:
    """Calls train.py's entry up to the data of the training, all flow included; returns what it prints."""
    import train

    monkeypatch.setattr(train, "_train", lambda *args: None)
    monkeypatch.setattr(train, "_show_results", lambda *args: None)

    def call(source: Path, *flags: str) -> str:
        capsys.readouterr()
        train.main([*tiny_flags, "--data_dir", str(source), *flags])
        return capsys.readouterr().out

    return call


@pytest.fixture
def refused_by_train(tiny_flags, tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    """Calls train.py on what it must refuse: status 2, one sentence, no file changed; returns the sentence."""
    import train

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def call(source: Path | str, *flags: str) -> str:
        before = files()
        capsys.readouterr()
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
            patch.setattr(train, "_train", lambda *args: pytest.fail("it was not refused"))
            train.main([*tiny_flags, "--data_dir", str(source), *flags])
        assert stopped.value.code == 2 and files() == before
        said = capsys.readouterr().err
        assert "Traceback" not in said and said.count("error: ") == 1
        return said.strip().splitlines()[-1]

    return call
