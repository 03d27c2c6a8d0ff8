"""Adam and Muon: which parameters each moves, by how much, at which rates, and what a checkpoint keeps."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from networks.checkpoint_validation import validate_checkpoint
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.optimizer import ModelOptimizer, OptimizerConfig, learning_rate
from tests.test_trainer import assert_same_state, train, without_flags

CONFIG = OptimizerConfig(num_iters=9, lr_feature=1e-3, lr_deform=2e-3, lr_color=3e-3, lrate_decay_steps=2)


def make(lr_muon: float, config: OptimizerConfig = CONFIG) -> tuple[OmniMotion, ModelOptimizer]:
    sizes: dict[str, Any] = {"coupling_width": 12, "code_size": 8, "code_width": 8, "volume_width": 8}
    model = OmniMotion.initialised(ModelConfig(3, 8, 8, num_layers=3, plane_size=4, **sizes), seed=0)
    config = replace(config, lr_muon=lr_muon)
    return model, ModelOptimizer(model.named_parameter_groups(), model.coupling_matrices(), config)


def step(optimizer: ModelOptimizer, accepted: bool = True) -> None:
    optimizer.update(torch.tensor(optimizer.rates), torch.tensor(accepted))
    optimizer.num_updates += 1


def rates(config: OptimizerConfig, steps: int, base_rate: float = 0.1) -> list[float]:
    return [learning_rate(step, base_rate, config) for step in range(steps)]


def test_the_decay_halves_rates():
    config = OptimizerConfig(num_iters=9, lrate_decay_steps=3)
    assert rates(config, 7) == [0.1] * 3 + [0.05] * 3 + [0.025]


def test_rates_rise_in_equal_steps_and_then_decay():
    config = OptimizerConfig(num_iters=9, lrate_decay_steps=4, lr_warmup=4)
    assert rates(config, 6) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.05, 0.05])


def test_square_falls_to_its_floor_and_stays_there():
    found = rates(OptimizerConfig(num_iters=10, lr_schedule="square", lrate_decay_steps=1), 13)
    assert found[0] == 0.1 and found[5] == pytest.approx(0.1 * (0.01 + 0.99 / 4))
    assert all(a > b for a, b in pairwise(found[:11]))
    assert found[10:] == pytest.approx([0.001] * 3)


@pytest.mark.parametrize("schedule", ["step", "square"])
def test_rates_are_the_formula_to_the_last_bit(schedule):
    """Before a device rounds them to float32."""
    config = OptimizerConfig(37, 2e-3, 2.5e-3, 5e-3, 1.75e-3, 7, 0.7, schedule, lr_warmup=6)
    optimizer = make(config.lr_muon, config)[1]
    for k in range(45):
        factor = 0.01 + (1 - 0.01) * (1 - min(k / 37, 1)) ** 2 if schedule == "square" else 0.7 ** (k // 7)
        warmup = min((k + 1) / 6, 1)
        assert optimizer.rates == [base * factor * warmup for base in (2e-3, 2.5e-3, 5e-3, 1.75e-3)]
        step(optimizer)


def take_steps(model: OmniMotion, optimizer: ModelOptimizer, count: int) -> list[dict[str, torch.Tensor]]:
    """Steps by fixed gradients; what each changed, by name."""
    generator, changes = torch.Generator().manual_seed(1), []
    gradients = {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}
    for _ in range(count):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for name, p in model.named_parameters():
            p.grad = gradients[name].clone()
        step(optimizer)
        changes.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    return changes


def checkpoint_of(model: OmniMotion, optimizer: ModelOptimizer) -> dict:
    """A checkpoint without thumbnails, in the form that a trainer saves."""
    return {
        "model_config": vars(model.config),
        "model": model.state_dict(),
        "step": 2,
        "flags": {},
        **optimizer.state(),
    }


@pytest.mark.parametrize("lr_muon", [0.0, 0.01])
@pytest.mark.parametrize("value", [torch.nan, 1.0])
def test_a_refused_update_changes_nothing(lr_muon, value):
    """Neither the networks nor the moments, whatever the gradients; the next one is as if it had not been."""
    (model, optimizer), (other_model, other) = make(lr_muon), make(lr_muon)
    take_steps(model, optimizer, 2)
    take_steps(other_model, other, 2)
    for p in model.parameters():
        p.grad = torch.full_like(p, value)
    before = deepcopy(checkpoint_of(model, optimizer))
    step(optimizer, accepted=False)
    optimizer.num_updates -= 1
    assert_same_state(checkpoint_of(model, optimizer), before)
    for each in take_steps(model, optimizer, 1), take_steps(other_model, other, 1):
        assert all(change.abs().max() > 0 for change in each[0].values())
    assert_same_state(checkpoint_of(model, optimizer), checkpoint_of(other_model, other))


def test_muon_orthogonalises_the_updates_of_matrices_alone():
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


def test_muon_has_the_decay_of_the_rest():
    model, optimizer = make(0.01)
    first, _, third = take_steps(model, optimizer, 3)
    name = next(name for name, p in model.named_parameters() if p is model.coupling_matrices()[0])
    assert third[name].norm() / first[name].norm() == pytest.approx(0.5, abs=0.02)
    assert third["volume.net.output.bias"].norm() / first["volume.net.output.bias"].norm() == pytest.approx(0.5, 1e-2)


def test_without_muon_all_is_adam():
    model, optimizer = make(0.0)
    assert set(optimizer.state()) == {"optimizer", "scheduler"}
    (change,) = take_steps(model, optimizer, 1)
    assert all(value.abs().max() < 3.1e-3 for value in change.values())


def test_muon_has_the_schedule_of_adam():
    model, optimizer = make(0.01, replace(CONFIG, lr_schedule="square", num_iters=8))
    take_steps(model, optimizer, 4)
    share = 0.01 + 0.99 * 0.25
    assert optimizer.rates == pytest.approx([share * rate for rate in (1e-3, 2e-3, 3e-3, 0.01)])


# Entries `scheduler` as earlier versions and the released code wrote them.
OF_EARLIER_VERSION = {
    **{"warmup": 3, "fall": "square", "num_steps": 20, "step_size": 20000, "gamma": 0.5, "cosine_steps": 9},
    **{"base_lrs": [7e-3, 7e-3, 7e-3], "last_epoch": 8, "_step_count": 9, "_is_initial": False},
    **{"_get_lr_called_within_step": False, "_last_lr": [1e-5, 1e-5, 1e-5]},
}
RELEASED = {
    **{"step_size": 4, "gamma": 0.7, "base_lrs": [7e-3, 8e-3, 9e-3], "last_epoch": 8, "_step_count": 9},
    **{"_is_initial": False, "_get_lr_called_within_step": False, "_last_lr": [1e-5, 1e-5, 1e-5]},
}


def resumed_rates(scheduler: dict, flags: dict, config: OptimizerConfig, lr_muon: float = 0.01) -> list[float]:
    """Rates of the three groups and of Muon in the first step after a resume."""
    _, optimizer = make(lr_muon, config)
    state = optimizer.state() | {"scheduler": scheduler}
    optimizer.load({**state, **flags})
    assert optimizer.state()["scheduler"]["last_epoch"] == (8 if config.load_scheduler else 0)
    return optimizer.rates


@pytest.mark.parametrize("schedule", ["step", "square"])
def test_a_run_of_an_earlier_version_has_the_rates_of_its_flags(schedule):
    config = replace(CONFIG, lr_schedule=schedule, num_iters=20, lr_warmup=12)
    expected = [learning_rate(8, rate, config) for rate in (1e-3, 2e-3, 3e-3, 0.01)]
    assert resumed_rates(OF_EARLIER_VERSION, {"flags": {}}, config) == expected
    config = replace(config, load_scheduler=False)
    assert resumed_rates(OF_EARLIER_VERSION, {"flags": {}}, config) == [r * (1 / 12) for r in (1e-3, 2e-3, 3e-3, 0.01)]


def test_a_released_run_keeps_its_rates_and_decay():
    config = replace(CONFIG, lr_warmup=12)
    decayed = [rate * 0.7**2 * (9 / 12) for rate in (7e-3, 8e-3, 9e-3)]
    assert resumed_rates(RELEASED, {}, config) == [*decayed, learning_rate(8, 0.01, config)]
    assert resumed_rates(RELEASED, {}, replace(config, load_scheduler=False))[0] == 1e-3 * (1 / 12)


def test_a_checkpoint_holds_what_resumes_the_schedule():
    model, optimizer = make(0.01)
    take_steps(model, optimizer, 4)
    saved = checkpoint_of(model, optimizer)
    assert saved["scheduler"] == {"base_lrs": [1e-3, 2e-3, 3e-3], "last_epoch": 4}
    _, again = make(0.01)
    again.load(saved)
    assert again.rates == optimizer.rates
    for each in (optimizer, again):
        step(each)
    assert again.rates == optimizer.rates and again.state()["scheduler"]["last_epoch"] == 5


def train_in_turn(flags: list[str], *steps: tuple[float, int]) -> dict:
    """Runs of the same command one after the other, each up to a step with a rate of Muon; the last checkpoint."""
    for rate, num_iters in steps:
        checkpoint = train(flags, "--lr_muon", str(rate), "--num_iters", str(num_iters))
    return checkpoint


def test_a_stopped_run_resumes_bit_for_bit(tiny_flags, monkeypatch, tmp_path):
    whole = train_in_turn(tiny_flags, (0.01, 6))
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    resumed = train_in_turn(tiny_flags, (0.01, 3), (0.01, 6))
    assert_same_state(without_flags(resumed), without_flags(whole))


def test_muon_can_be_switched_off_and_on_again(tiny_flags):
    assert "muon" not in train_in_turn(tiny_flags, (0.01, 3), (0.0, 6))
    last = train_in_turn(tiny_flags, (0.01, 9))
    assert last["step"] == 9 and last["muon"]["param_groups"][0]["lr"] == 0.01


@pytest.mark.parametrize("damage", ["none", "another shape", "not finite", "another number"])
def test_damage_in_the_state_of_muon_is_reported(damage):
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
    assert ("muon" in found) if found else damage == "none"


def test_without_matrices_there_is_no_muon():
    model, _ = make(0.01)
    assert ModelOptimizer(model.named_parameter_groups(), [], replace(CONFIG, lr_muon=0.01)).muon is None


def test_options_of_a_checkpoint_are_not_loaded():
    """States of another version, or of a damaged file, would have an unnoticed effect or end in a traceback."""
    model, optimizer = make(0.01)
    take_steps(model, optimizer, 1)
    state, options = optimizer.state(), deepcopy(make(0.01)[1].adam.state_dict()["param_groups"])
    for group in (*state["optimizer"]["param_groups"], *state["muon"]["param_groups"]):
        for name in ("betas", "eps", "momentum", "amsgrad"):
            group.pop(name, None)
    _, other = make(0.01)
    other.load({**state, "flags": {}})
    assert other.adam.state_dict()["param_groups"] == options
    assert other.muon is not None and other.muon.param_groups[0]["momentum"] == 0.95
    assert torch.equal(next(iter(other.adam.state.values()))["exp_avg"], state["optimizer"]["state"][0]["exp_avg"])


def test_steps_counted_as_whole_numbers_are_loaded():
    """The states are in the form of torch 1.10, with which the released code is run."""
    model, optimizer = make(0.0)
    take_steps(model, optimizer, 2)
    checkpoint = deepcopy(checkpoint_of(model, optimizer))
    for state in checkpoint["optimizer"]["state"].values():
        state["step"] = int(state["step"])
    assert validate_checkpoint(checkpoint) is None
    other, again = make(0.0)
    other.load_state_dict(model.state_dict())
    again.load(checkpoint)
    expected, found = take_steps(model, optimizer, 1), take_steps(other, again, 1)
    assert all(torch.equal(found[0][name], value) for name, value in expected[0].items())
