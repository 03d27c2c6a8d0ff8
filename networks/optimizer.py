"""Optimizers of the networks and their learning rates: Adam, and optionally Muon for the coupling nets' matrices."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from networks.muon import BatchedMuon

FINAL_SHARE = 0.01  # of the base rate, at the end of `square`: the last steps still update the networks


@dataclass(frozen=True)
class OptimizerConfig:
    """Learning rates, their schedule, and what a resume loads from a checkpoint."""

    num_iters: int
    lr_feature: float = 1e-3
    lr_deform: float = 1e-4
    lr_color: float = 3e-4
    lr_muon: float = 0.0  # 0: Adam updates all parameters
    lrate_decay_steps: int = 20000
    lrate_decay_factor: float = 0.5
    lr_schedule: str = "step"  # or "square", which ignores the decay steps
    lr_warmup: int = 0  # steps
    load_opt: bool = True
    load_scheduler: bool = True


def learning_rate(step: int, base_rate: float, config: OptimizerConfig) -> float:
    """Return the learning rate of a step.

    A linear warm-up multiplies either the released decay or `square`, which falls as (1 − step/num_iters)² over the
    whole run. As the fall starts at step 0, the rate peaks at the end of a 6 % warm-up, at 0.88 of the base rate.

    Args:
        step: Number of steps done before.
        base_rate: Learning rate without warm-up and decay.
        config: The schedule and its constants.

    Returns:
        The learning rate, a function of the arguments only: a resumed run repeats that of an uninterrupted one.
    """
    if config.lr_schedule == "square":
        left = 1 - min(step / config.num_iters, 1)
        factor = FINAL_SHARE + (1 - FINAL_SHARE) * left**2
    else:
        factor = config.lrate_decay_factor ** (step // config.lrate_decay_steps)
    return base_rate * factor * min((step + 1) / max(config.lr_warmup, 1), 1)


class ModelOptimizer:
    """All optimizers of a model and the schedules of their learning rates, used as one.

    Muon (Jordan et al., 2024, `torch.optim.Muon`) orthogonalises a matrix's update, so that directions with small
    gradients advance as fast as those with large ones. Adam holds all parameters in the three released groups, Muon's
    matrices too, so that a checkpoint numbers parameters alike with and without Muon; Adam skips these matrices.

    Args:
        groups: Parameters by name in the groups `feature`, `deform`, `color`.
        matrices: The parameters among these that Muon updates if `config.lr_muon` is above 0.
        config: Learning rates and schedule.
    """

    def __init__(
        self, groups: dict[str, dict[str, nn.Parameter]], matrices: list[nn.Parameter], config: OptimizerConfig
    ):
        self.config = config
        self.adam_rates = [config.lr_feature, config.lr_deform, config.lr_color]
        names = "feature", "deform", "color"
        self.adam = torch.optim.Adam([_at_rate_1(groups[name].values()) for name in names], fused=True)
        self.muon: torch.optim.Muon | None = None
        if config.lr_muon > 0 and matrices:  # coupling nets of width 2 have none
            # `match_rms_adamw` scales the rate so that an entry's typical update is like Adam's.
            options: dict[str, Any] = {"weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"}
            on_cpu = matrices[0].device.type == "cpu"  # where bfloat16 may be emulated
            self.muon = (BatchedMuon if on_cpu else torch.optim.Muon)([_at_rate_1(matrices)], **options)
        self._start_schedules(step=0, adam_config=config)

    def _start_schedules(self, step: int, adam_config: OptimizerConfig) -> None:
        """Start the schedules at a step; `adam_config` may hold the decay of a released checkpoint."""
        # LambdaLR multiplies a base rate; with 1, the rates are exactly those of `learning_rate`.
        rates: list[Callable[[int], float]] = [
            partial(learning_rate, base_rate=rate, config=adam_config) for rate in self.adam_rates
        ]
        self.schedules = [LambdaLR(self.adam, rates, last_epoch=step - 1)]
        if self.muon is not None:
            rate = partial(learning_rate, base_rate=self.config.lr_muon, config=self.config)
            self.schedules.append(LambdaLR(self.muon, rate, last_epoch=step - 1))

    @property
    def deform_rate(self) -> float:
        """Adam's learning rate of the couplings for the next step."""
        return self.adam.param_groups[1]["lr"]

    def zero_grad(self) -> None:
        """Drop all gradients."""
        self.adam.zero_grad()

    def step(self) -> None:
        """Update the parameters by their gradients and advance the schedules; Muon's gradients are dropped."""
        if self.muon is not None:
            self.muon.step()
            self.muon.zero_grad()  # Adam skips parameters without gradient
        self.adam.step()
        for schedule in self.schedules:
            schedule.step()

    def state(self) -> dict:
        """Return the checkpoint's entries `optimizer`, `scheduler` and, with Muon, `muon`: tensors and plain data."""
        # A released checkpoint's decay is not stored: after the next resume, the run follows its own flags.
        scheduler = {"base_lrs": list(self.adam_rates), "last_epoch": self.schedules[0].last_epoch}
        muon = {} if self.muon is None else {"muon": self.muon.state_dict()}
        return {"optimizer": self.adam.state_dict(), "scheduler": scheduler} | muon

    def load(self, checkpoint: dict) -> None:
        """Load moments if `load_opt` is set, and the schedules' position if `load_scheduler` is.

        Learning rates and decay are those of the config, except that a released checkpoint, which holds no flags,
        keeps its own for Adam.

        Args:
            checkpoint: Ours, of this or an earlier version, or a converted released one.
        """
        if self.config.load_opt:
            _load_moments(self.adam, checkpoint["optimizer"])
            if self.muon is not None and "muon" in checkpoint:
                _load_moments(self.muon, checkpoint["muon"])
        if not self.config.load_scheduler:
            return
        scheduler, adam_config = checkpoint["scheduler"], self.config
        if "flags" not in checkpoint:
            self.adam_rates = list(scheduler["base_lrs"])
            adam_config = replace(
                adam_config, lrate_decay_steps=scheduler["step_size"], lrate_decay_factor=scheduler["gamma"]
            )
        self._start_schedules(scheduler["last_epoch"], adam_config)


def _at_rate_1(parameters: Iterable[nn.Parameter]) -> dict:
    return {"params": list(parameters), "lr": 1.0, "initial_lr": 1.0}


def _load_moments(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Load the moments of a saved state; options stay those of this version."""
    optimizer.load_state_dict({"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]})
