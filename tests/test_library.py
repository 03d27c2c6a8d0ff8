"""The model as a library: what its results mean, and the examples of the docs as they stand there."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from networks.checkpoints import read_checkpoint, save_checkpoint
from networks.omnimotion import OmniMotion
from tests.conftest import REPOSITORY, TINY
from train import main as train
from utils.coords import pixel_grid
from utils.errors import InputError

QUERIES = torch.tensor([[2, 10, 20], [5, 50, 3], [0, 5.5, 7], [2, 30, 30]])  # frames neither sorted nor unique


@pytest.fixture(scope="module")
def trained(scene_dir, tmp_path_factory) -> Path:
    """The folder of a run of two steps. Read only."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train([*TINY.split(), "--data_dir", str(scene_dir), "--num_iters", "2"])
    return folder / "out" / "tiny_scene"


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(trained, tmp_path / "out" / "demo_demo_scene")


@pytest.fixture
def model(trained) -> OmniMotion:
    return OmniMotion.from_run(trained, "cpu")


@pytest.mark.parametrize("page", ["README.md", "docs/visualization.md"])
def test_the_examples_of_the_docs_run(page, run, scene_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "demo_scene").symlink_to(scene_dir)
    (example,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, page, "exec"), names)
    assert names["tracks"].px.shape == (6, 2, 2)
    if page == "README.md":
        return
    assert names["later"].shape == (2, 2, 2)
    assert names["flow"].shape == (40, 56, 2) and names["rgb"].shape == (40, 56, 3) and names["depth"].shape == (40, 56)
    assert [path.name for path in names["written"] if path.is_file()] == ["tracks.npz", "tracks.nk"]


def test_queries_of_many_frames_are_tracked_in_their_order(model):
    tracks = model.track(QUERIES)
    assert tracks.px.shape == (6, 4, 2) and tracks.depth.shape == tracks.occlusion.shape == (6, 4)
    for n, query in enumerate(QUERIES):
        alone = model.track(query[None])
        torch.testing.assert_close(tracks.px[:, n : n + 1], alone.px, atol=1e-3, rtol=0)
        torch.testing.assert_close(tracks.depth[:, n : n + 1], alone.depth, atol=1e-4, rtol=0)
        assert torch.equal(tracks.px[int(query[0]), n], query[1:]) and tracks.occlusion[int(query[0]), n] == 0


def test_some_frames_are_those_of_all(model):
    some, all_frames = model.track(QUERIES, frames=[4, 2]), model.track(QUERIES)
    torch.testing.assert_close(some.px, all_frames.px[[4, 2]], atol=1e-4, rtol=0)
    assert torch.equal(some.px[1, 0], QUERIES[0, 1:])


def test_dense_results_are_those_of_all_pixels(model):
    px = pixel_grid(40, 56)
    rgb, depth = model.render(3)
    flat_rgb, flat_depth = model.render(3, px.reshape(-1, 2), chunk_size=999)
    torch.testing.assert_close(rgb.reshape(-1, 3), flat_rgb)
    torch.testing.assert_close(depth.reshape(-1), flat_depth)
    assert torch.equal(model.depth(3), depth)
    at = model.map_points(1, torch.tensor([[12.0, 9.0]]), [4]).px[0, 0]
    torch.testing.assert_close(model.flow(1, 4)[9, 12], at - torch.tensor([12.0, 9.0]), atol=1e-3, rtol=0)
    frames = list(model.dense_tracks(1))
    assert len(frames) == 6
    torch.testing.assert_close(frames[4] - px, model.flow(1, 4))


@pytest.mark.parametrize("wrong", [[[6, 1, 1]], [[-1, 1, 1]], [[0.5, 1, 1]]])
def test_frames_outside_the_clip_are_refused(model, wrong):
    with pytest.raises(InputError, match="frames are 0 to 5"):
        model.track(torch.tensor(wrong))
    for call in (model.depth, lambda t: model.flow(0, t), lambda t: model.track(QUERIES, frames=[t])):
        with pytest.raises(InputError, match="frames are 0 to 5"):
            call(wrong[0][0])


@pytest.mark.parametrize("wrong", [[[1.0, 2.0]], [1.0, 2.0, 3.0], [[0, float("nan"), 1]], torch.zeros(0, 3)])
def test_unusable_query_points_are_refused(model, wrong):
    with pytest.raises(InputError, match=r"expected rows of finite numbers \(t, x, y\)"):
        model.track(wrong)


def test_networks_alone_are_enough_and_the_newest_step_counts(run, model):
    checkpoint = read_checkpoint(run / "model_000002.pth")
    only = {name: checkpoint[name] for name in ("model_config", "model")}
    only["model"] = {name: tensor + 1 for name, tensor in only["model"].items()}
    save_checkpoint(run / "model_000010.pth", only)
    newer = OmniMotion.from_run(str(run), torch.device("cpu"))
    for a, b in zip(newer.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b + 1)


def test_unusable_runs_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        OmniMotion.from_run(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no checkpoint"):
        OmniMotion.from_run(tmp_path)
    checkpoint = read_checkpoint(run / "model_000002.pth")
    damaged = {
        "model_000003.pth": ({"feature_mlp": {}, "deform_mlp": {}, "color_mlp": {}}, "released code"),
        "model_000004.pth": ({**checkpoint, "model": {}}, "does not hold a model"),
        "model_000005.pth": ({**checkpoint, "model_config": {"height": 3}}, "does not hold a model"),
    }
    for name, (content, message) in damaged.items():
        save_checkpoint(run / name, content)
        with pytest.raises(InputError, match=message):
            OmniMotion.from_run(run, "cpu")
    whole = (run / "model_000002.pth").read_bytes()
    (run / "model_000006.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        OmniMotion.from_run(run, "cpu")
