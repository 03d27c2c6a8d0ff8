"""How learning rates change over a run."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import StepLR

FLOOR = 0.01  # what a square ends at: the last steps still move the networks


class RateSchedule(StepLR):
    """The released decay, or a fall by the square of what is left down to `FLOOR` of the rates; after a linear rise.

    A rate is a function of the step alone: a run that goes on has the rates of one that was never stopped.

    Args:
        optimizer: its groups' rates are the ones to reach.
        step_size, gamma: every `step_size` steps the rates are multiplied by `gamma`.
        warmup: steps of the rise.
        square_steps: length of the fall, (1 − step / length)², which then takes the place of the decay; 0 for none.
    """

    ASKED = ("base_lrs", "step_size", "gamma", "warmup", "square_steps")  # what flags decide

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float, warmup: int = 0, square_steps: int = 0):
        self.warmup, self.square_steps = warmup, square_steps
        super().__init__(optimizer, step_size, gamma)

    def get_lr(self) -> list[float]:
        """The rates of the coming step."""
        done = self.last_epoch
        if self.square_steps:
            left = 1 - min(done / self.square_steps, 1)
            factor = FLOOR + (1 - FLOOR) * left**2
        else:
            factor = self.gamma ** (done // self.step_size)
        return [rate * factor * min((done + 1) / max(self.warmup, 1), 1) for rate in self.base_lrs]

    def apply(self) -> None:
        """Give the optimiser's groups their rates, after a state was loaded."""
        for group, base, rate in zip(self.optimizer.param_groups, self.base_lrs, self.get_lr(), strict=True):
            group["initial_lr"], group["lr"] = base, rate
