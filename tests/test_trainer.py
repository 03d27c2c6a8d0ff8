"""Training can be trusted: resumes bit for bit, stops on nonsense, saves what it has."""

import signal
from pathlib import Path

import pytest
import torch

import trainer as trainer_module
from loaders.batches import FlowBatches, SamplingConfig
from loaders.flow_store import FlowStore
from loaders.sequence import load_video
from networks.omnimotion import ModelConfig, OmniMotion, load_model
from train import main
from trainer import Trainer, TrainingDiverged
from utils.checkpoint import find_checkpoint, read_checkpoint
from utils.paths import SequencePaths

RUN = Path("out") / "tiny_scene"


def train(flags: list[str], *more: str) -> dict:
    main([*flags, *more])
    return read_checkpoint(find_checkpoint(RUN, None))


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


def learned(checkpoint: dict) -> dict:
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
    assert_same_state(learned(whole), learned(resumed))


def test_training_moves_every_parameter(tiny_flags):
    before, after = train(tiny_flags, "--num_iters", "1"), train(tiny_flags, "--num_iters", "8")
    frozen = [name for name in before["model"] if torch.equal(before["model"][name], after["model"][name])]
    assert frozen == []


def test_a_batch_can_be_learnt(scene_dir):
    paths = SequencePaths(scene_dir)
    names, video = load_video(paths)
    sampling = SamplingConfig(num_pairs=4, num_pts=32, start_interval=1, use_count_map=True, seed=0)
    batch = FlowBatches(video, FlowStore(paths, names), sampling)[0]
    sizes = {"coupling_width": 32, "code_size": 16, "code_width": 32, "volume_width": 16, "use_affine": False}
    config = ModelConfig(*video.shape[:3], num_samples_ray=4, **sizes)
    model = OmniMotion.initialised(config, num_layers=6, seed=0)
    optimizer, losses = torch.optim.Adam(model.parameters(), 2e-3), []
    for _ in range(200):
        optimizer.zero_grad()
        losses.append(trainer_module.compute_losses(model, batch, model.depths().expand(4, 32, 4))["flow"])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]


def test_num_iters_is_a_total(tiny_flags):
    train(tiny_flags, "--num_iters", "5")
    assert train(tiny_flags, "--num_iters", "5")["step"] == 5
    assert train(tiny_flags, "--num_iters", "7")["step"] == 7


def test_no_reload_sets_the_earlier_run_aside(tiny_flags):
    train(tiny_flags, "--num_iters", "6")
    assert train(tiny_flags, "--num_iters", "2", "--no_reload")["step"] == 2
    assert (RUN / "earlier_1" / "model_000006.pth").exists()


def test_interrupt_saves_and_the_same_command_goes_on(tiny_flags, monkeypatch):
    step = Trainer.train_step

    def interrupted(self, batch):
        terms = step(self, batch)
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)
        return terms

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main([*tiny_flags, "--num_iters", "8"])
    assert stopped.value.code == 130
    assert find_checkpoint(RUN, None).name == "model_000003.pth"
    monkeypatch.setattr(Trainer, "train_step", step)
    assert train(tiny_flags, "--num_iters", "8")["step"] == 8


def test_nonsense_stops_the_run_and_keeps_the_last_good_checkpoint(tiny_flags, monkeypatch, capsys):
    good = train(tiny_flags, "--num_iters", "3")
    compute = trainer_module.compute_losses

    def poisoned(model, batch, *args, **kwargs):
        terms = compute(model, batch, *args, **kwargs)
        bad = torch.where((batch.src_ids == batch.src_ids.max()).any(), torch.nan, 1.0)
        return {**terms, "depth_range": terms["depth_range"] * bad}

    monkeypatch.setattr(trainer_module, "compute_losses", poisoned)
    with pytest.raises(SystemExit) as stopped:
        main([*tiny_flags, "--num_iters", "8"])
    message = str(stopped.value.code)
    assert "step 3" in message and "depth_range" in message and "→" in message and ".png" in message
    assert find_checkpoint(RUN, None).name == "model_000003.pth"
    assert_same_state(learned(good), learned(read_checkpoint(find_checkpoint(RUN, None))))


def test_an_infinite_gradient_is_blamed_on_its_term(tiny_flags, monkeypatch):
    compute = trainer_module.compute_losses

    def steep(model, *args, **kwargs):
        terms = compute(model, *args, **kwargs)
        zero = (model.volume.net.output.bias * 0).sum()
        return {**terms, "flow": terms["flow"] + zero.sqrt()}  # value 0, gradient infinite

    monkeypatch.setattr(trainer_module, "compute_losses", steep)
    with pytest.raises(SystemExit, match="gradient of loss_flow"):
        main([*tiny_flags, "--num_iters", "2"])
    assert issubclass(TrainingDiverged, Exception)


def test_a_checkpoint_of_other_networks_is_refused(tiny_flags, capsys):
    train(tiny_flags, "--num_iters", "1")
    with pytest.raises(SystemExit) as stopped:
        main([*tiny_flags, "--num_iters", "2", "--coupling_width", "12"])
    assert stopped.value.code == 2
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
    assert result["optimizer"]["param_groups"][1]["lr"] == 1e-3, "the released run's own rate goes on"


def test_checkpoint_is_ready_for_inference(tiny_flags):
    model = load_model(train(tiny_flags, "--num_iters", "2"))
    px = torch.rand(30, 2) * torch.tensor([55.0, 39.0])
    whole, pieces = model.track(1, px), model.track(1, px, chunk_size=7)
    torch.testing.assert_close(whole.px, pieces.px, atol=1e-4, rtol=0)
    torch.testing.assert_close(whole.occlusion, pieces.occlusion, atol=1e-5, rtol=0)
    assert torch.equal(whole.px[1], px) and (whole.occlusion[1] == 0).all()
    for a, b in zip(model.render(2, px), model.render(2, px, chunk_size=11), strict=True):
        torch.testing.assert_close(a, b)
