"""train.py as a user runs it: what it prepares, refuses, logs and writes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from loaders.flow_store import FlowStore
from preprocessing.sequence_paths import SequencePaths
from preprocessing.synthetic import make_scene, write_scene
from train import main
from utils.video import read_video, write_video

SCALARS = {
    *(f"loss/loss_{name}" for name in ("flow", "rgb", "depth_range", "distortion", "scene_flow_smoothness")),
    *("loss/Loss", "loss/loss_canonical_unit_sphere", "loss/loss_flow_gradient", "lr"),
    *("val/AJ", "val/d_avg", "val/OA"),
}
IMAGES = {
    *(f"correspondence/{name}" for name in ("trained", "fix_10", "fix_half", "fix_whole")),
    *("flow", "depth", "images", "weight_stats"),
}


def refusal(flags: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


def test_tensorboard_shows_the_optimisation(tiny_flags):
    main([*tiny_flags, "--num_iters", "4", "--i_img", "2"])
    events = EventAccumulator(str(Path("logs") / "tiny_scene"), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) >= SCALARS and set(tags["images"]) == IMAGES
    assert [event.step for event in events.Images("depth")] == [2, 4]


def test_tracks_are_drawn_and_named(tiny_flags, capsys):
    main([*tiny_flags, "--num_iters", "2", "--query_frame_id", "1"])
    printed = capsys.readouterr().out
    for name in ("00001_grid.mp4", "00001_grid.png", "00001_trails.mp4", "00001_trails.png"):
        path = Path("out") / "tiny_scene" / "vis" / name
        assert path.stat().st_size > 0 and str(path) in printed
    assert len(list(read_video(Path("out") / "tiny_scene" / "vis" / "00001_grid.mp4"))) == 6
    assert printed.split("files to look at:\n")[1].lstrip().startswith(str(path.with_name("index.html")))
    assert '"name": "tiny_scene"' in path.with_name("index.html").read_text(encoding="utf-8")
    assert "OmniMotion" in printed and "direct flow" in printed and "model_000002.pth" in printed
    assert "num_pts = 16" in (Path("out") / "tiny_scene" / "args.txt").read_text()


@pytest.mark.parametrize(
    ("stopped", "stop", "names"),
    [
        ("page.write_tracks", KeyboardInterrupt, ["00000_grid.mp4", "00000_trails.mp4"]),
        ("page.write_tracks", OSError("no space left"), ["00000_grid.mp4", "00000_trails.mp4"]),
        ("styles.save_trails", KeyboardInterrupt, ["00000_grid.mp4"]),
    ],
)
def test_a_picture_that_cannot_be_drawn_costs_nothing_else(tiny_flags, monkeypatch, capsys, stopped, stop, names):
    def fail(*_):
        raise stop

    monkeypatch.setattr(f"visualization.{stopped}", fail)
    with pytest.raises((KeyboardInterrupt, SystemExit, OSError)):
        main([*tiny_flags, "--num_iters", "1"])
    printed, folder = capsys.readouterr().out, Path("out") / "tiny_scene"
    paths = [*(folder / "vis" / name for name in names), folder / "model_000001.pth"]
    assert all(path.stat().st_size > 0 and str(path) in printed for path in paths)
    assert "index.html" not in printed and not list((folder / "vis").glob("*index*"))


def test_a_video_file_is_all_that_is_needed(tiny_flags, tmp_path, scene_dir):
    frames = np.stack([f[:32, :48] for f in _frames(scene_dir)])
    write_video(tmp_path / "a clip.mp4", frames)
    main([*tiny_flags, "--data_dir", str(tmp_path / "a clip.mp4"), "--num_iters", "1"])
    assert (Path("out") / "tiny_a clip" / "model_000001.pth").exists()
    assert SequencePaths(tmp_path / "data" / "a clip").flow_stats.exists()


def _frames(scene_dir: Path) -> list[np.ndarray]:
    from utils.images import list_frames, read_frame

    return [read_frame(path) for path in list_frames(scene_dir / "color")]


def test_preprocess_never_names_what_is_missing(tiny_flags, tmp_path, scene_dir, capsys):
    shutil.copytree(scene_dir / "color", tmp_path / "bare" / "color")
    flags = [*tiny_flags, "--data_dir", str(tmp_path / "bare"), "--preprocess", "never"]
    assert "raft_exhaustive" in refusal(flags, capsys)
    assert not (tmp_path / "bare" / "raft_exhaustive").exists()


def test_without_raft_weights_there_is_no_silent_substitute(tiny_flags, tmp_path, scene_dir, capsys, monkeypatch):
    shutil.copytree(scene_dir / "color", tmp_path / "bare" / "color")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights"))

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    message = refusal([*tiny_flags, "--data_dir", str(tmp_path / "bare"), "--flow", "raft"], capsys)
    assert "--raft_weights" in message and "--flow dis" in message
    assert not (tmp_path / "bare" / "raft_exhaustive").exists()


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--ckpt_path", "nowhere.pth"], "no such file"),
        (["--foreground_mask_path", "nowhere.png"], "nowhere.png"),
        (["--query_frame_id", "6"], "query_frame_id"),
        (["--data_dir", "nowhere"], "nowhere"),
        (["--device", "tpu"], "tpu"),
        (["--dataset_types", "flow+tracks", "--dataset_weights", "1", "1", "--tracks", "nowhere.npz"], "nowhere.npz"),
        (["--dataset_types", "tracks", "--tracks", "nowhere.npz"], "--use_error_map false"),
    ],
)
def test_mistakes_are_reported_before_training(tiny_flags, capsys, flags, part):
    assert part in refusal([*tiny_flags, *flags, "--num_iters", "2"], capsys)
    assert not Path("out").exists()


def test_the_demo_scene_is_made_in_data_dir(tiny_flags, tmp_path, monkeypatch, capsys):
    from preprocessing.synthetic import make_scene

    monkeypatch.setattr("preprocessing.synthetic.make_scene", lambda: make_scene(3, 32, 48))
    main([*tiny_flags, "--data_dir", "data/demo", "--synthetic", "--num_iters", "1"])
    assert (tmp_path / "data" / "demo" / "gt_tracks.npz").exists()


def test_sparse_pairs_train_and_are_scored(tiny_flags, tmp_path, capsys):
    write_scene(make_scene(11, 32, 48, seed=2), SequencePaths(tmp_path / "long"))
    flags = [*tiny_flags, "--data_dir", "long", "--pairs", "sparse"]
    main([*flags, "--num_iters", "6"])
    assert "direct flow" in capsys.readouterr().out
    store = FlowStore(SequencePaths(tmp_path / "long"), [f"{t:05d}.png" for t in range(11)])
    assert store.known[0, 8] and not store.known[0, 9] and store.valid_counts[0, 9] == 0
    assert "preprocessed with pairs sparse, but all" in refusal([*flags, "--pairs", "all", "--num_iters", "7"], capsys)
