"""How learning rates change over a run."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import StepLR

FLOOR = 0.01  # what a fall ends at: the last steps still move the networks
# By the share of a run that is done, from 1 to 0.
FALLS = {"cosine": lambda done: (1 + math.cos(math.pi * done)) / 2, "square": lambda done: (1 - done) ** 2}


class RateSchedule(StepLR):
    """The released decay, or a fall over the whole run down to `FLOOR` of the rates; both times a linear rise at first.

    A rate is a function of the step alone: a run that goes on has the rates of one that was never stopped. The fall
    begins with the first step, so that after a rise of 6 % of a run `square` is at 0.88 of the rates, its largest.

    Args:
        optimizer: its groups' rates are what the factors here multiply.
        step_size, gamma: every `step_size` steps the rates are multiplied by `gamma`.
        warmup: steps of the rise.
        fall: one of `FALLS`, which then takes the place of the decay, or `step` for none.
        num_steps: of the run, which a fall is as long as.
    """

    ASKED = ("base_lrs", "step_size", "gamma", "warmup", "fall", "num_steps")  # what flags decide

    def __init__(
        self,
        optimizer: Optimizer,
        step_size: int,
        gamma: float,
        warmup: int = 0,
        fall: str = "step",
        num_steps: int = 0,
    ):
        self.warmup, self.fall, self.num_steps = warmup, fall, num_steps
        super().__init__(optimizer, step_size, gamma)

    def get_lr(self) -> list[float]:
        """The rates of the coming step."""
        done = self.last_epoch
        if self.fall in FALLS:
            factor = FLOOR + (1 - FLOOR) * FALLS[self.fall](min(done / self.num_steps, 1))
        else:
            factor = self.gamma ** (done // self.step_size)
        return [rate * factor * min((done + 1) / max(self.warmup, 1), 1) for rate in self.base_lrs]

    def apply(self) -> None:
        """Give the optimizer's groups their rates, after a state was loaded."""
        for group, base, rate in zip(self.optimizer.param_groups, self.base_lrs, self.get_lr(), strict=True):
            group["initial_lr"], group["lr"] = base, rate
