"""Whether a checkpoint holds what its networks and their training need: found out before anything is built from it."""

import math

import torch
from torch import Tensor

from networks.coupling import MAX_LOG_SCALE
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion

DEPTHS = ("code_depth", "coupling_depth", "affine_depth", "volume_depth", "pe_freq")
MOST_LAYERS = 1000  # `utils.config` lets flags ask for no more


def validate_checkpoint(checkpoint: dict) -> str | None:
    """What is wrong with one of our checkpoints, in words; None if it is whole.

    Sizes are compared without memory, so that a file that promises giant networks is refused as fast as any other.
    """
    try:
        sizes = ModelConfig(**checkpoint["model_config"])
        deep = [name for name in DEPTHS if getattr(sizes, name) > MOST_LAYERS]  # these would be built one by one
        if deep:
            return f"{deep[0]} is {getattr(sizes, deep[0])}"
        if sizes.soft_bound != 0 and not 1e-3 <= sizes.soft_bound <= MAX_LOG_SCALE:
            return f"soft_bound is {sizes.soft_bound}"
        with torch.device("meta"):
            model = OmniMotion(sizes)
        if not set(sizes.axes) <= {0, 1, 2} or not -math.inf < sizes.min_depth < sizes.max_depth < math.inf:
            return f"axes {sizes.axes}, depths from {sizes.min_depth} to {sizes.max_depth}"
        return _fault_of_weights(model, checkpoint["model"]) or _fault_of_training(model, checkpoint)
    except Exception as error:  # sizes of any type may have come out of a damaged file
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no networks of these sizes'}"


def _fault_of_weights(model: OmniMotion, weights: dict[str, Tensor]) -> str | None:
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        return "model holds other things than tensors"
    own = model.state_dict()
    odd = own.keys() ^ weights.keys() or [name for name, value in weights.items() if value.shape != own[name].shape]
    if odd:
        name = sorted(odd)[0]
        if name.endswith("planes.features") and name in own.keys() & weights.keys():
            here, there = list(own[name].shape), list(weights[name].shape)
            return f"{name} is {there}, this version's is {here}: another version trained it, which can go on with it"
        return f"{name} is missing, unknown or of another shape than its model_config says"
    bad = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    return f"{bad[0]} is not finite" if bad else None


def _fault_of_training(model: OmniMotion, checkpoint: dict) -> str | None:
    """Of the step, the schedule and the optimizer, where it has them: for questions to the model it need not."""
    if "step" in checkpoint and not _is_count(checkpoint["step"]):
        return f"step is {checkpoint['step']!r}"
    if "scheduler" in checkpoint and not _is_count(checkpoint["scheduler"].get("last_epoch")):
        return "its scheduler has no last_epoch"
    if "scheduler" in checkpoint and "flags" not in checkpoint and not _gives_rates(checkpoint["scheduler"]):
        return "its scheduler gives no rates"
    if "optimizer" not in checkpoint:
        return None
    parameters = [p for group in model.named_parameter_groups().values() for p in group.values()]
    optimizer = checkpoint["optimizer"]
    numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
    if len(optimizer["param_groups"]) != 3 or numbers != list(range(len(parameters))):
        return "its optimizer is that of other networks"
    for number, state in optimizer["state"].items():
        shapes = {state[name].shape for name in ("exp_avg", "exp_avg_sq")}
        kept = [torch.as_tensor(value) for value in state.values()]  # torch 1.10, the release's, counts steps as int
        fits = shapes == {parameters[number].shape} and torch.as_tensor(state["step"]).numel() == 1
        if not fits or float(state["step"]) < 0 or not all(torch.isfinite(value).all() for value in kept):
            return f"the optimizer's state of parameter {number} is of another shape or not finite"
    return _fault_of_muon(model, checkpoint["muon"]) if "muon" in checkpoint else None


def _fault_of_muon(model: OmniMotion, muon: dict) -> str | None:
    shapes = dict(enumerate(p.shape for p in model.coupling_matrices()))
    if [group["params"] for group in muon["param_groups"]] != [list(shapes)]:
        return "its muon is that of other networks"
    for number, state in muon["state"].items():
        momentum = state["momentum_buffer"]
        if momentum.shape != shapes[number] or not torch.isfinite(momentum).all():
            return f"muon's state of matrix {number} is of another shape or not finite"
    return None


def _gives_rates(schedule: dict) -> bool:
    """Whether what a released run goes on with is there: flags say nothing of it."""
    rates = schedule["base_lrs"]
    return len(rates) == 3 and all(map(math.isfinite, (*rates, schedule["gamma"]))) and schedule["step_size"] >= 1


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
