"""Validate a checkpoint's content before networks or optimizers are built from it."""

import math
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion

MOMENTS = {"optimizer": ("exp_avg", "exp_avg_sq"), "muon": ("momentum_buffer",)}  # tensors of a parameter's state


def validate_checkpoint(checkpoint: dict) -> str | None:
    """Return a description of the first problem of one of our checkpoints, None for a valid one.

    Entries that only training needs may be missing, but not wrong. The networks are built on the meta device, so that
    giant sizes in a damaged file take no memory.
    """
    try:
        config = ModelConfig(**checkpoint["model_config"])
        if problem := _config_problem(config):
            return problem
        with torch.device("meta"):
            model = OmniMotion(config)
        model.load_state_dict(checkpoint["model"], assign=True)
        if infinite := [name for name, value in checkpoint["model"].items() if not value.isfinite().all()]:
            return f"{infinite[0]} is not finite"
        groups = model.named_parameter_groups().values()
        return (
            _progress_problem(checkpoint)
            or _optimizer_problem(checkpoint, "optimizer", [p for group in groups for p in group.values()])
            or _optimizer_problem(checkpoint, "muon", model.coupling_matrices())
        )
    except Exception as error:  # a damaged file may hold values of any type anywhere
        reason = " ".join(str(error).split())
        return f"{type(error).__name__}: {reason[:300]}"


def _config_problem(config: ModelConfig) -> str | None:
    for field in fields(config):
        value, bounds = getattr(config, field.name), field.metadata
        if "least" in bounds and not bounds["least"] <= value <= bounds["most"]:
            return f"{field.name} is {value}"
    if 0 < config.soft_bound < 1e-3:  # it is a divisor
        return f"soft_bound is {config.soft_bound}"
    if not set(config.axes) <= {0, 1, 2} or not config.min_depth < config.max_depth:
        return f"axes {config.axes}, depths from {config.min_depth} to {config.max_depth}"
    return None


def _progress_problem(checkpoint: dict) -> str | None:
    """Check the step and the schedule."""
    if not _is_count(checkpoint.get("step", 0)):
        return f"step is {checkpoint['step']!r}"
    if "scheduler" not in checkpoint:
        return None
    schedule = checkpoint["scheduler"]
    if not _is_count(schedule.get("last_epoch")):
        return "its scheduler has no last_epoch"
    if "flags" not in checkpoint:  # a released one, whose learning rates are in its schedule
        rates = schedule["base_lrs"]
        if len(rates) != 3 or not all(map(math.isfinite, (*rates, schedule["gamma"]))) or schedule["step_size"] < 1:
            return "its scheduler holds no usable learning rates"
    return None


def _optimizer_problem(checkpoint: dict, name: str, parameters: Sequence[Tensor]) -> str | None:
    """Check an optimizer's state, if there is one, against its parameters in their order."""
    if name not in checkpoint:
        return None
    optimizer = checkpoint[name]
    numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
    if numbers != list(range(len(parameters))):
        return f"its {name} belongs to other networks"
    for number, state in optimizer["state"].items():
        shapes = {state[moment].shape for moment in MOMENTS[name]}
        finite = all(torch.as_tensor(value).isfinite().all() for value in state.values())
        # Adam counts steps, as a tensor or (in torch 1.10, which the release used) as an int; Muon does not.
        steps = torch.as_tensor(state["step"] if name == "optimizer" else 0)
        if shapes != {parameters[number].shape} or not finite or steps.numel() != 1 or steps < 0:
            return f"the {name}'s state of parameter {number} has another shape or is not finite"
    return None


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
