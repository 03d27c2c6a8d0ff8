"""Optimizers of the networks and their learning rates: Adam, and optionally Muon for the coupling nets' matrices."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

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


class SkippableAdam(torch.optim.Adam):
    """Adam whose fused steps change nothing while `found_inf` is 1.0, which torch's GradScaler sets likewise."""

    found_inf: Tensor | None = None


class ModelOptimizer:
    """All optimizers of a model and the schedules of their learning rates, used as one.

    Muon (Jordan et al., 2024, `torch.optim.Muon`) orthogonalises a matrix's update, so that directions with small
    gradients advance as fast as those with large ones. Adam holds all parameters in the three released groups, Muon's
    matrices too, so that a checkpoint numbers parameters alike with and without Muon; Adam skips these matrices.

    Args:
        groups: Parameters by name in the groups `feature`, `deform`, `color`, all on one device.
        matrices: The parameters among these that Muon updates if `config.lr_muon` is above 0.
        config: Learning rates and schedule.
        recorded: Whether a CUDA graph records the updates.
    """

    def __init__(
        self,
        groups: dict[str, dict[str, nn.Parameter]],
        matrices: list[nn.Parameter],
        config: OptimizerConfig,
        recorded: bool = False,
    ):
        self.config = config
        self.num_updates = 0  # those done, on which the rates of the next one depend
        self._adam_config, self._adam_rates = config, [config.lr_feature, config.lr_deform, config.lr_color]
        parameters = [list(groups[name].values()) for name in ("feature", "deform", "color")]
        self.adam = SkippableAdam([{"params": group} for group in parameters], fused=True, capturable=recorded)
        self.muon: BatchedMuon | None = None
        if config.lr_muon > 0 and matrices:  # coupling nets of width 2 have none
            # `match_rms_adamw` scales the rate so that an entry's typical update is like Adam's.
            options: dict[str, Any] = {"weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"}
            self.muon = BatchedMuon([{"params": matrices}], **options)

    @property
    def rates(self) -> list[float]:
        """Learning rates of the next update: those of Adam's three groups and, with Muon, that of its matrices."""
        rates = [learning_rate(self.num_updates, rate, self._adam_config) for rate in self._adam_rates]
        if self.muon is not None:
            rates.append(learning_rate(self.num_updates, self.config.lr_muon, self.config))
        return rates

    def zero_grad(self) -> None:
        """Drop all gradients."""
        self.adam.zero_grad()

    def update(self, rates: Tensor, accepted: Tensor) -> None:
        """Update the parameters by their gradients, without waiting for the device; Muon's gradients are dropped.

        Args:
            rates: `rates` [G], on the device.
            accepted: Whether to update, bool []; otherwise parameters and moments keep their values.
        """
        if rates.device.type == "mps" and not accepted:  # torch's fused Adam of that device cannot skip an update
            return
        optimizers: list[SkippableAdam | BatchedMuon] = [self.adam] if self.muon is None else [self.muon, self.adam]
        for group, rate in zip(self._groups(), rates.unbind(), strict=True):
            group["lr"] = rate
        for optimizer in optimizers:
            optimizer.found_inf = (~accepted).to(rates.dtype)  # as torch's GradScaler skips updates
            optimizer.step()
            if optimizer is self.muon:
                optimizer.zero_grad()  # Adam skips parameters without gradient

    def _groups(self) -> list[dict]:
        return self.adam.param_groups + ([] if self.muon is None else self.muon.param_groups)

    def state(self) -> dict:
        """Return the checkpoint's entries `optimizer`, `scheduler` and, with Muon, `muon`: tensors and plain data."""
        # A released checkpoint's decay is not stored: after the next resume, the run follows its own flags.
        scheduler = {"base_lrs": list(self._adam_rates), "last_epoch": self.num_updates}
        adam, muon = self.adam.state_dict(), {} if self.muon is None else {"muon": self.muon.state_dict()}
        groups = adam["param_groups"] + (muon["muon"]["param_groups"] if muon else [])
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate
        return {"optimizer": adam, "scheduler": scheduler} | muon

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
        scheduler = checkpoint["scheduler"]
        self.num_updates = scheduler["last_epoch"]
        if "flags" not in checkpoint:
            self._adam_rates = list(scheduler["base_lrs"])
            self._adam_config = replace(
                self.config, lrate_decay_steps=scheduler["step_size"], lrate_decay_factor=scheduler["gamma"]
            )


def _load_moments(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Load the moments of a saved state; options stay those of this version."""
    optimizer.load_state_dict({"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]})
