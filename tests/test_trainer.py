"""Training resumes bit for bit, stops when a value is not finite, and saves its last good state however it ends."""

import shutil
import signal
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

import trainer as trainer_module
from criterion import TrainingDiverged
from loaders.batches import SamplingConfig
from loaders.clip import load_video
from loaders.flow_batches import FlowBatches
from loaders.flow_store import FlowStore
from networks.checkpoints import newest_checkpoint, read_checkpoint
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion, load_model
from networks.optimizer import SkippableAdam
from preprocessing.sequence_paths import SequencePaths
from train import main
from trainer import Trainer
from utils.coords import with_time
from utils.errors import InputError
from utils.images import write_image

RUN = Path("out") / "tiny_scene"
E = TypeVar("E", bound=BaseException)


def train(flags: list[str], *more: str) -> dict:
    """The last checkpoint of a training that draws nothing, which would take longer than the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train._show_results", lambda *values: None)
        patch.setattr("visualization.tensorboard.training_images", lambda *values, **options: {})
        main([*flags, *more])
    return read_checkpoint(newest_checkpoint(RUN))


def assert_same_state(a, b, path: str = "") -> None:
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same_state(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, list):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same_state(x, y, f"{path}.{i}")
    else:
        assert a == b, path


def without_flags(checkpoint: dict) -> dict:
    return {key: value for key, value in checkpoint.items() if key != "flags"}


@pytest.mark.parametrize("stop_at", [3, 4, 6])
def test_stopped_and_resumed_equals_uninterrupted(tiny_flags, monkeypatch, tmp_path, stop_at):
    # i_cache is 4: the stops lie before, at, and after the first set of error maps.
    whole = train(tiny_flags, "--num_iters", "9")
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    train(tiny_flags, "--num_iters", str(stop_at))
    resumed = train(tiny_flags, "--num_iters", "9", "--num_workers", "2")
    assert whole["step"] == 9
    assert_same_state(without_flags(whole), without_flags(resumed))


def test_training_moves_every_parameter(tiny_flags):
    before, after = train(tiny_flags, "--num_iters", "1"), train(tiny_flags, "--num_iters", "8")
    frozen = [name for name in before["model"] if torch.equal(before["model"][name], after["model"][name])]
    assert frozen == []


@pytest.mark.parametrize(("flags", "expected"), [([], 1), (["--num_threads", "3"], 3)])
def test_steps_are_computed_with_the_threads_asked_for(tiny_flags, monkeypatch, flags, expected):
    threads, step = set(), Trainer.train_step

    def watched(self, batch):
        threads.add(torch.get_num_threads())
        return step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", watched)
    train(tiny_flags, *flags, "--num_iters", "2")
    assert threads == {expected} and torch.get_num_threads() == 1  # of all tests, see conftest.py


def test_a_batch_can_be_fitted(scene_dir):
    paths = SequencePaths(scene_dir)
    names, video = load_video(paths)
    sampling = SamplingConfig(num_pairs=4, num_pts=32, start_interval=1, use_count_map=True, seed=0)
    batch = FlowBatches(video, FlowStore(paths, names), sampling)[0]
    sizes: dict[str, Any] = {"coupling_width": 32, "code_size": 16, "code_width": 32, "volume_width": 16}
    num_frames, height, width = video.shape[:3]
    config = ModelConfig(num_frames, height, width, num_samples_ray=4, **sizes)
    model = OmniMotion.initialised(config, seed=0)
    optimizer, losses = torch.optim.Adam(model.parameters(), 2e-3), []
    for _ in range(200):
        optimizer.zero_grad()
        losses.append(trainer_module.batch_losses(model, batch, model.depths().expand(4, 32, 4))["flow"])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]


def test_num_iters_is_a_total(tiny_flags):
    train(tiny_flags, "--num_iters", "5")
    written = (RUN / "model_000005.pth").stat().st_mtime_ns
    assert train(tiny_flags, "--num_iters", "5")["step"] == 5
    assert (RUN / "model_000005.pth").stat().st_mtime_ns == written
    assert train(tiny_flags, "--num_iters", "7")["step"] == 7


def test_no_reload_sets_the_earlier_run_aside(tiny_flags):
    train(tiny_flags, "--num_iters", "6")
    assert train(tiny_flags, "--num_iters", "2", "--no_reload")["step"] == 2
    assert (RUN / "earlier_1" / "model_000006.pth").exists()


def interrupt_after(step_number: int, monkeypatch, number: signal.Signals = signal.SIGINT) -> None:
    """Ctrl-C, or another signal, in the middle of step `step_number`."""
    step = Trainer.train_step

    def interrupted(self, batch):
        terms = step(self, batch)
        if self.step == step_number:
            signal.raise_signal(number)
        return terms

    monkeypatch.setattr(Trainer, "train_step", interrupted)


def stopped_by(error: type[E], flags: list[str]) -> E:
    with pytest.raises(error) as stopped:
        main(flags)
    return stopped.value


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_the_same_command_resumes(tiny_flags, monkeypatch, number):
    with monkeypatch.context() as patch:
        interrupt_after(3, patch, number)
        assert stopped_by(SystemExit, [*tiny_flags, "--num_iters", "8"]).code == 130
    assert newest_checkpoint(RUN).name == "model_000003.pth"
    assert train(tiny_flags, "--num_iters", "8")["step"] == 8


def test_an_interrupt_in_the_last_step_is_a_finished_run(tiny_flags, monkeypatch, capsys):
    interrupt_after(3, monkeypatch)
    main([*tiny_flags, "--num_iters", "3"])
    assert newest_checkpoint(RUN).name == "model_000003.pth"
    assert "files to look at" in capsys.readouterr().out


def test_a_failure_while_drawing_loses_no_step(tiny_flags, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("cannot draw")

    monkeypatch.setattr("visualization.tensorboard.training_images", fail)
    stopped_by(RuntimeError, [*tiny_flags, "--num_iters", "8", "--i_img", "3"])
    assert newest_checkpoint(RUN).name == "model_000003.pth"


def test_a_stop_while_the_last_step_is_saved_loses_nothing(tiny_flags, monkeypatch):
    # As torchrun sends it when another process was lost.
    save = Trainer.save

    def stopped_save(self):
        signal.raise_signal(signal.SIGTERM)
        return save(self)

    def fail(self, terms, bar):
        if self.step == 3:
            raise InputError("another process was lost")

    monkeypatch.setattr(Trainer, "save", stopped_save)
    monkeypatch.setattr(Trainer, "_report", fail)
    assert stopped_by(SystemExit, [*tiny_flags, "--num_iters", "8"]).code == 2
    assert newest_checkpoint(RUN).name == "model_000003.pth"


def test_a_half_done_update_is_not_saved(tiny_flags, monkeypatch):
    update = SkippableAdam.step

    def cut_short(self, *args):
        update(self, *args)
        raise KeyboardInterrupt

    train(tiny_flags, "--num_iters", "2")
    monkeypatch.setattr(SkippableAdam, "step", cut_short)
    assert stopped_by(SystemExit, [*tiny_flags, "--num_iters", "8"]).code == 130
    assert newest_checkpoint(RUN).name == "model_000002.pth"


def rates(checkpoint: dict) -> list[float]:
    return [group["lr"] for group in checkpoint["optimizer"]["param_groups"]]


def test_changed_rates_take_effect_at_a_resume(tiny_flags):
    decay = ["--lrate_decay_steps", "2", "--lrate_decay_factor", "0.7"]
    assert rates(train(tiny_flags, *decay, "--num_iters", "4")) == pytest.approx([0.49e-3, 0.49e-4, 1.47e-4])
    changed = [*decay, "--lr_deform", "1e-5", "--lrate_decay_factor", "0.5"]
    assert rates(train(tiny_flags, *changed, "--num_iters", "5")) == pytest.approx([0.25e-3, 0.25e-5, 0.75e-4])
    fresh = train(tiny_flags, *changed, "--load_scheduler", "0", "--num_iters", "6")
    assert rates(fresh) == pytest.approx([1e-3, 1e-5, 3e-4]) and fresh["scheduler"]["last_epoch"] == 1


@pytest.mark.parametrize(
    "flags",
    [
        ["--lrate_decay_steps", "1", "--lrate_decay_factor", "0.7"],
        ["--motion_share", "0.9", "--use_error_map", "false"],
    ],
    ids=["decay", "motion share"],
)
def test_flags_have_an_effect_and_resume_bit_for_bit(tiny_flags, monkeypatch, tmp_path, flags):
    whole = train(tiny_flags, *flags, "--num_iters", "7")
    for folder in ("again", "without"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "again")
    train(tiny_flags, *flags, "--num_iters", "5")
    assert_same_state(without_flags(whole), without_flags(train(tiny_flags, *flags, "--num_iters", "7")))
    monkeypatch.chdir(tmp_path / "without")
    without = train(tiny_flags, *flags[2:], "--num_iters", "7")["model"]
    assert any(not torch.equal(whole["model"][name], without[name]) for name in without), (
        "the first flag does something"
    )


def test_a_run_from_a_given_checkpoint_is_resumed(tiny_flags, monkeypatch, capsys):
    train(tiny_flags, "--num_iters", "3")
    kept = str((RUN / "model_000003.pth").rename(RUN.parent / "kept.pth"))
    train(tiny_flags, "--num_iters", "2")
    command = [*tiny_flags, "--ckpt_path", kept, "--num_iters", "9"]
    with monkeypatch.context() as patch:
        interrupt_after(7, patch)
        assert stopped_by(SystemExit, command).code == 130
    assert [p.name for p in sorted(RUN.glob("model_*"))] == ["model_000007.pth"], "the run before is set aside"
    assert (RUN / "earlier_1" / "model_000002.pth").exists()
    main(command)
    assert "model_000007.pth (step 7)" in capsys.readouterr().out
    main([*command, "--no_reload"])
    assert "kept.pth (step 3)" in capsys.readouterr().out
    assert (RUN / "earlier_2" / "model_000009.pth").exists()


def test_a_run_can_restart_from_an_earlier_checkpoint(tiny_flags):
    train(tiny_flags, "--num_iters", "6", "--i_weight", "3")
    assert train(tiny_flags, "--ckpt_path", str(RUN / "model_000003.pth"), "--num_iters", "5")["step"] == 5
    assert (RUN / "model_000003.pth").exists() and (RUN / "earlier_1" / "model_000006.pth").exists()


def test_other_pictures_under_the_same_name_are_refused(tiny_flags, scene_dir, tmp_path, capsys):
    for parent, shade in (("a", 0), ("b", 255)):
        folder = tmp_path / parent / "clip"
        shutil.copytree(scene_dir, folder)
        video = load_video(SequencePaths(folder))[1]
        write_image(folder / "color" / "00002.png", np.full_like(video[0], shade))
        (folder / "preprocess.json").unlink()  # as in published data: flow that no record ties to the frames
    main([*tiny_flags, "--data_dir", str(tmp_path / "a" / "clip"), "--num_iters", "1"])
    flags = [*tiny_flags, "--data_dir", str(tmp_path / "b" / "clip"), "--num_iters", "2"]
    assert stopped_by(SystemExit, flags).code == 2
    assert "other pictures" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tiny_flags, monkeypatch, capsys):
    good = train(tiny_flags, "--num_iters", "3")
    compute = trainer_module.batch_losses

    def poisoned(model, batch, *args, **kwargs):
        terms = compute(model, batch, *args, **kwargs)
        bad = torch.where((batch.src_ids == batch.src_ids.max()).any(), torch.nan, 1.0)
        return {**terms, "depth_range": terms["depth_range"] * bad}

    monkeypatch.setattr(trainer_module, "batch_losses", poisoned)
    with pytest.raises(SystemExit) as stopped:
        main([*tiny_flags, "--num_iters", "8"])
    message = str(stopped.value.code)
    assert "step 3" in message and "depth_range" in message and "→" in message and ".png" in message
    assert newest_checkpoint(RUN).name == "model_000003.pth"
    assert_same_state(without_flags(good), without_flags(read_checkpoint(newest_checkpoint(RUN))))


def test_an_infinite_gradient_is_reported_with_its_term(tiny_flags, monkeypatch):
    compute = trainer_module.batch_losses

    def steep(model, *args, **kwargs):
        terms = compute(model, *args, **kwargs)
        zero = (model.volume.net.output.bias * 0).sum()
        return {**terms, "flow": terms["flow"] + zero.sqrt()}  # value 0, gradient infinite

    monkeypatch.setattr(trainer_module, "batch_losses", steep)
    with pytest.raises(SystemExit, match="gradient of loss_flow"):
        main([*tiny_flags, "--num_iters", "2"])
    assert issubclass(TrainingDiverged, Exception)


def test_an_overflowing_sum_is_reported_with_its_largest_term(tiny_flags, monkeypatch):
    compute = trainer_module.batch_losses

    def large(model, *args, **kwargs):
        terms = compute(model, *args, **kwargs)
        # Weights 10 and 20: each product is below the largest float32, 3.4e38, their sum is not.
        return terms | {"depth_range": 2e37 + terms["depth_range"] * 0, "flow": 3e38 + terms["flow"] * 0}

    monkeypatch.setattr(trainer_module, "batch_losses", large)
    with pytest.raises(SystemExit, match=r"value of loss_flow overflows in the sum for the pair .*none is saved"):
        main([*tiny_flags, "--num_iters", "2"])


def test_a_checkpoint_of_other_networks_is_refused_before_anything_else(tiny_flags, capsys, monkeypatch):
    train(tiny_flags, "--num_iters", "1")
    monkeypatch.setattr("loaders.training_data.open_store", None)
    assert stopped_by(SystemExit, [*tiny_flags, "--num_iters", "2", "--coupling_width", "12"]).code == 2
    assert "coupling_width 8" in capsys.readouterr().err


def test_an_official_checkpoint_is_trained_on(tiny_flags, golden, monkeypatch, scene_dir, capsys):
    sizes = {"--coupling_width": "256", "--coupling_depth": "3", "--code_size": "128", "--code_width": "256"}
    sizes |= {"--volume_width": "512", "--volume_depth": "3"}
    flags = list(tiny_flags)
    for name, value in sizes.items():
        flags[flags.index(name) + 1] = value
    checkpoint = golden / "model_000060.pth"
    result = train(flags, "--use_affine", "--num_iters", "62", "--ckpt_path", str(checkpoint))
    assert result["step"] == 62 and result["scheduler"]["last_epoch"] == 62
    assert result["optimizer"]["param_groups"][1]["lr"] == 1e-3, "the released run's learning rate is kept"


def test_checkpoint_is_ready_for_inference(tiny_flags):
    model = load_model(train(tiny_flags, "--num_iters", "2"))
    px = torch.rand(30, 2) * torch.tensor([55.0, 39.0])
    whole, pieces = model.track(with_time(1, px)), model.track(with_time(1, px), chunk_size=7)
    torch.testing.assert_close(whole.px, pieces.px, atol=1e-4, rtol=0)
    torch.testing.assert_close(whole.occlusion, pieces.occlusion, atol=1e-5, rtol=0)
    assert torch.equal(whole.px[1], px) and (whole.occlusion[1] == 0).all()
    for a, b in zip(model.render(2, px), model.render(2, px, chunk_size=11), strict=True):
        torch.testing.assert_close(a, b)
