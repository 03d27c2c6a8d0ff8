"""Adam and Muon side by side: who moves what, by how much, and what a checkpoint keeps of it."""

from argparse import Namespace
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from test_trainer import assert_same_state, learned

from networks.checkpoint_validation import validate_checkpoint
from networks.checkpoints import newest_checkpoint, read_checkpoint
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.optimizer import ModelOptimizer
from train import main

FLAGS = Namespace(lr_feature=1e-3, lr_deform=2e-3, lr_color=3e-3, lr_schedule="step", num_iters=9, lr_warmup=0)
FLAGS.lrate_decay_steps, FLAGS.lrate_decay_factor, FLAGS.load_opt, FLAGS.load_scheduler = 2, 0.5, 1, 1


def make(lr_muon: float) -> tuple[OmniMotion, ModelOptimizer]:
    sizes = {"coupling_width": 12, "code_size": 8, "code_width": 8, "volume_width": 8, "use_affine": False}
    model = OmniMotion.initialised(ModelConfig(3, 8, 8, plane_size=4, **sizes), num_layers=3, seed=0)
    FLAGS.lr_muon = lr_muon
    return model, ModelOptimizer(model.named_parameter_groups(), model.coupling_matrices(), FLAGS)


def take_steps(model: OmniMotion, optimizer: ModelOptimizer, count: int) -> list[dict[str, torch.Tensor]]:
    """Steps by fixed gradients; what each changed, by name."""
    generator, changes = torch.Generator().manual_seed(1), []
    gradients = {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}
    for _ in range(count):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for name, p in model.named_parameters():
            p.grad = gradients[name].clone()
        optimizer.step()
        changes.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    return changes


def checkpoint_of(model: OmniMotion, optimizer: ModelOptimizer) -> dict:
    """What a trainer would save, as far as it can be damaged."""
    return {
        "model_config": vars(model.config),
        "model": model.state_dict(),
        "step": 2,
        "flags": {},
        **optimizer.state(),
    }


def test_muon_turns_and_levels_the_matrices_alone():
    model, optimizer = make(0.01)
    (change,) = take_steps(model, optimizer, 1)
    matrices = {id(p) for p in model.coupling_matrices()}
    rates = {"code_net": 1e-3, "layers": 2e-3, "volume": 3e-3}
    for name, p in model.named_parameters():
        if id(p) in matrices:
            # As large as Adam's steps, whose entries are the rate: 0.2·rate·√max of its sides is every singular value.
            values = torch.linalg.svdvals(change[name]) / (0.2 * 0.01 * max(p.shape) ** 0.5)
            assert values.min() > 0.5 and values.max() < 1.5, name
        else:
            rate = next(rate for part, rate in rates.items() if part in name)
            torch.testing.assert_close(change[name].abs(), torch.full_like(p, rate), rtol=1e-3, atol=1e-5)
    inner = [name for name, p in model.named_parameters() if id(p) in matrices]
    assert len(inner) == 3 * 7 and not any(name.endswith("bias") or "planes" in name for name in inner)


def test_muon_rises_and_falls_as_the_rest():
    model, optimizer = make(0.01)
    first, _, third = take_steps(model, optimizer, 3)
    name = next(name for name, p in model.named_parameters() if p is model.coupling_matrices()[0])
    assert third[name].norm() / first[name].norm() == pytest.approx(0.5, abs=0.02)
    assert third["volume.net.output.bias"].norm() / first["volume.net.output.bias"].norm() == pytest.approx(0.5, 1e-2)


def test_without_it_all_is_adam():
    model, optimizer = make(0.0)
    assert set(optimizer.state()) == {"optimizer", "scheduler"}
    (change,) = take_steps(model, optimizer, 1)
    assert all(value.abs().max() < 3.1e-3 for value in change.values())


@pytest.mark.parametrize(("schedule", "share"), [("step", 0.25), ("square", 0.01 + 0.99 * 0.25), ("cosine", 0.505)])
def test_the_flag_decides_how_rates_fall(schedule, share):
    flags = Namespace(**vars(FLAGS) | {"lr_schedule": schedule, "num_iters": 8, "lr_muon": 0.01})
    model, _ = make(0.01)
    optimizer = ModelOptimizer(model.named_parameter_groups(), model.coupling_matrices(), flags)
    take_steps(model, optimizer, 4)
    assert optimizer.rate == pytest.approx(share * 2e-3)
    assert optimizer.muon.param_groups[0]["lr"] == pytest.approx(share * 0.01)


def test_a_schedule_of_an_earlier_version_goes_on():
    """What it called the length of its cosine is forgotten; flags say how rates fall."""
    model, optimizer = make(0.01)
    take_steps(model, optimizer, 4)
    saved = checkpoint_of(model, optimizer)
    saved["scheduler"] = saved["scheduler"] | {"cosine_steps": 9}
    again = make(0.01)[1]
    again.load(saved, FLAGS)
    assert again.rate == optimizer.rate and "cosine_steps" not in again.state()["scheduler"]


def go_on(flags: list[str], *steps: tuple[float, int]) -> dict:
    """Runs of the same command one after the other, each up to a step with a rate of Muon; the last checkpoint."""
    for rate, num_iters in steps:
        main([*flags, "--lr_muon", str(rate), "--num_iters", str(num_iters)])
    return read_checkpoint(newest_checkpoint(Path("out") / "tiny_scene"))


def test_a_stopped_run_goes_on_bit_for_bit(tiny_flags, monkeypatch, tmp_path):
    whole = go_on(tiny_flags, (0.01, 6))
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    resumed = go_on(tiny_flags, (0.01, 3), (0.01, 6))
    assert_same_state(learned(resumed), learned(whole))


def test_muon_can_be_given_up_and_taken_up_again(tiny_flags):
    assert "muon" not in go_on(tiny_flags, (0.01, 3), (0.0, 6))
    last = go_on(tiny_flags, (0.01, 9))
    assert last["step"] == 9 and last["muon"]["param_groups"][0]["lr"] == 0.01


@pytest.mark.parametrize("damage", ["none", "another shape", "not finite", "another number"])
def test_damage_in_what_muon_keeps_is_told(damage):
    model, optimizer = make(0.01)
    take_steps(model, optimizer, 1)
    checkpoint = checkpoint_of(model, optimizer)
    state = checkpoint["muon"]["state"]
    if damage == "another shape":
        state[2]["momentum_buffer"] = torch.zeros(3, 3)
    elif damage == "not finite":
        state[2]["momentum_buffer"][0, 0] = torch.nan
    elif damage == "another number":
        checkpoint["muon"]["param_groups"][0]["params"].pop()
    found = validate_checkpoint(checkpoint)
    assert found is None if damage == "none" else "muon" in found


def test_nets_without_matrices_are_adams_alone():
    model, _ = make(0.01)
    assert ModelOptimizer(model.named_parameter_groups(), [], FLAGS).muon is None


def test_options_of_a_checkpoint_are_not_taken_over():
    """Those of another version, or of a damaged file, would take effect unseen or end in a traceback."""
    model, optimizer = make(0.01)
    take_steps(model, optimizer, 1)
    state, options = optimizer.state(), [optimizer.adam.state_dict()["param_groups"]]
    for group in (*state["optimizer"]["param_groups"], *state["muon"]["param_groups"]):
        for name in ("betas", "eps", "momentum", "amsgrad"):
            group.pop(name, None)
    _, other = make(0.01)
    other.load({**state, "flags": {}}, FLAGS)
    assert [other.adam.state_dict()["param_groups"]] == options
    assert other.muon.param_groups[0]["momentum"] == 0.95
    assert torch.equal(next(iter(other.adam.state.values()))["exp_avg"], state["optimizer"]["state"][0]["exp_avg"])


def test_steps_counted_as_whole_numbers_are_taken_over():
    """As torch 1.10 writes them, with which the released code is run."""
    model, optimizer = make(0.0)
    take_steps(model, optimizer, 2)
    checkpoint = deepcopy(checkpoint_of(model, optimizer))
    for state in checkpoint["optimizer"]["state"].values():
        state["step"] = int(state["step"])
    assert validate_checkpoint(checkpoint) is None
    other, again = make(0.0)
    other.load_state_dict(model.state_dict())
    again.load(checkpoint, FLAGS)
    expected, found = take_steps(model, optimizer, 1), take_steps(other, again, 1)
    assert all(torch.equal(found[0][name], value) for name, value in expected[0].items())
