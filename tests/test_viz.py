"""viz.py from its command line on, with tiny untrained networks."""

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import viz
from networks.omnimotion import ModelConfig, OmniMotion
from utils.video_io import read_video, write_image

HEIGHT, WIDTH, FRAMES = 20, 32, 3
SIZES = {"code_size": 8, "code_width": 8, "coupling_width": 8, "affine_width": 8, "volume_width": 8}


@pytest.fixture
def run(tmp_path: Path):
    """A sequence without masks and the checkpoint of its run; calls viz with extra flags."""
    rng = np.random.default_rng(0)
    for i in range(FRAMES):
        (tmp_path / "clip" / "color").mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 255, (5, 8, 3), np.uint8)
        write_image(tmp_path / "clip" / "color" / f"{i:05d}.png", cv2.resize(noise, (WIDTH, HEIGHT)))
    save_model(tmp_path / "out" / "test_clip" / "model_000003.pth", FRAMES)

    def call(*flags: str) -> Path:
        fixed = {
            "data_dir": tmp_path / "clip",
            "save_dir": tmp_path / "out",
            "expname": "test",
            "device": "cpu",
        }
        viz.main([text for name, value in fixed.items() for text in (f"--{name}", str(value))] + list(flags))
        return tmp_path / "out" / "test_clip" / "vis"

    return call


def save_model(path: Path, num_frames: int) -> None:
    config = ModelConfig(num_frames, HEIGHT, WIDTH, num_samples_ray=4, **SIZES)
    model = OmniMotion.initialised(config, num_layers=2, seed=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model_config": asdict(model.config), "model": model.state_dict(), "step": 3}
    torch.save({**state, "optimizer": {}, "scheduler": {}}, path)


def write_mask(folder: Path, name: str, value: int = 255) -> Path:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:15, 8:20] = value
    folder.mkdir(exist_ok=True)
    write_image(folder / name, mask)
    return folder / name


def fails(call, capsys, *flags: str) -> str:
    """The message with which viz refuses; it must be one sentence on stderr and exit status 2."""
    with pytest.raises(SystemExit) as stop:
        call(*flags)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_all_pictures_are_written_and_named(run, capsys):
    folder = run("--query_frame_id", "1")
    names = ["00001_grid", "00001_trails", "color", "depth", "flow"]
    printed = capsys.readouterr().out
    assert "no foreground mask" in printed
    for name in names:
        assert len(list(read_video(folder / f"{name}.mp4"))) == FRAMES
        assert str(folder / f"{name}.mp4") in printed and str(folder / f"{name}.png") in printed
    assert {path.name for path in folder.iterdir()} == {f"{n}{s}" for n in names for s in (".mp4", ".png")}


def test_exports_take_the_place_of_pictures(run, capsys):
    folder = run("--export", "npz,nuke", "--query_frame_id", "1").with_name("export")
    assert {path.name for path in folder.iterdir()} == {"tracks.npz", "tracks.nk"}
    assert not folder.with_name("vis").exists()
    assert str(folder / "tracks.nk") in capsys.readouterr().out
    assert (np.load(folder / "tracks.npz")["queries"][:, 0] == 1).all()


def test_the_sequences_own_mask_is_found(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(viz, "save_dense_videos", lambda *_: [])
    write_mask(tmp_path / "clip" / "mask", "00000.png")
    run()
    assert "no foreground mask" not in capsys.readouterr().out
    run("--query_frame_id", "2")
    assert "no foreground mask" in capsys.readouterr().out


def test_a_mask_file_can_be_given(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(viz, "save_dense_videos", lambda *_: [])
    run("--foreground_mask_path", str(write_mask(tmp_path / "masks", "any.png")))
    assert "no foreground mask" not in capsys.readouterr().out


def test_wrong_masks_are_refused(run, tmp_path, capsys):
    assert "nothing.png" in fails(run, capsys, "--foreground_mask_path", str(tmp_path / "nothing.png"))
    empty = write_mask(tmp_path / "masks", "empty.png", 0)
    assert "selects nothing" in fails(run, capsys, "--foreground_mask_path", str(empty))
    small = tmp_path / "masks" / "small.png"
    write_image(small, np.full((4, 4), 255, np.uint8))
    assert "4x4" in fails(run, capsys, "--foreground_mask_path", str(small))


@pytest.mark.parametrize("frame", [-1, FRAMES])
def test_a_query_frame_outside_the_clip_is_refused(run, capsys, frame):
    assert f"0 to {FRAMES - 1}" in fails(run, capsys, "--query_frame_id", str(frame))


def test_missing_and_foreign_checkpoints_are_refused(run, tmp_path, capsys):
    assert "train first" in fails(run, capsys, "--expname", "never_trained")
    save_model(tmp_path / "longer.pth", FRAMES + 1)
    message = fails(run, capsys, "--ckpt_path", str(tmp_path / "longer.pth"))
    assert "(4, 20, 32)" in message and "(3, 20, 32)" in message


def test_a_slow_model_is_asked_for_fewer_pixels_on_a_cpu():
    small, large = (OmniMotion(ModelConfig(FRAMES, HEIGHT, WIDTH, [0, 1], num_samples_ray=k, **SIZES)) for k in (4, 64))
    assert viz.affordable_side(small) == pytest.approx(4 * viz.affordable_side(large), rel=0.01)
