"""Gradients with the slopes of chosen ReLU units flipped, for comparing gradients between processors.

Where rounding decides the sign of a unit's input, its slope depends on the processor. Values hardly change by it, but
gradient norms do, by up to 3e-2: the colours of the volume vary so fast that the samples' gradients nearly cancel. The
sides of such units are therefore unknowns of a comparison, and `search_sides` finds those of the other run; all else
must agree.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

# Bounds of |input| below which a unit is undecided: float32 and float64 differ by up to 1.3e-6 after 6 couplings.
UNDECIDED = (1e-6, 2e-6)

Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Unit:
    """Entry `index` of the activation that is called as number `call` in a forward pass."""

    call: int
    index: tuple[int, ...]


class ReluSides:
    """Replacement of (leaky) ReLUs with the same values; units in `flipped` pass gradients as on their other side."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flipped: set[Unit] = set()
        self.start()
        leaky_relu = F.leaky_relu
        monkeypatch.setattr(
            F, "leaky_relu", lambda x, slope=0.01, inplace=False: self._activate(leaky_relu(x, slope), x, slope)
        )
        monkeypatch.setattr(F, "relu", lambda x, inplace=False: self._activate(leaky_relu(x, 0.0), x, 0.0))

    def start(self) -> None:
        """Forget the calls of the last forward pass."""
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.slopes: list[float] = []  # of the negative side

    def _activate(self, y: Tensor, x: Tensor, slope: float) -> Tensor:
        call = len(self.inputs)
        self.inputs.append(x)
        self.slopes.append(slope)
        flipped = [unit for unit in self.flipped if unit.call == call]
        if flipped:
            change = torch.zeros_like(x)
            for unit in flipped:
                change[unit.index] = self.slope_change(unit)
            y = y + (x - x.detach()) * change
        y.retain_grad()
        self.outputs.append(y)
        return y

    def undecided(self, bound: float) -> list[Unit]:
        """Return the units whose side may change where inputs change by `bound`."""
        return [
            Unit(call, tuple(index))
            for call, x in enumerate(self.inputs)
            for index in torch.nonzero(x.detach().abs() < bound).tolist()
        ]

    def gradient(self, unit: Unit) -> Tensor:
        """Return the gradient of the loss with respect to a unit's output."""
        gradient = self.outputs[unit.call].grad
        assert gradient is not None
        return gradient[unit.index]

    def slope_change(self, unit: Unit) -> float:
        """Return what a flip adds to the slope of a unit."""
        return (1 - self.slopes[unit.call]) * (-1 if self.inputs[unit.call][unit.index] > 0 else 1)


def search_sides(
    gradients: Gradients, flips: dict[Unit, Gradients], mismatch: Callable[[Gradients], Tensor]
) -> set[Unit]:
    """Return the units whose flips reduce `mismatch(gradients)` most, found one by one.

    Args:
        gradients: Gradients without flips.
        flips: What each flip adds to the gradients (to first order: two flips on one path are not a sum).
        mismatch: A scalar that compares gradients with those of the other run.
    """
    flipped: set[Unit] = set()
    least = mismatch(gradients)
    while True:
        trials = {
            unit: mismatch(gradients | {name: gradients[name] + part for name, part in change.items()})
            for unit, change in flips.items()
            if unit not in flipped
        }
        best = min(trials, key=trials.__getitem__, default=None)
        if best is None or trials[best] >= least:
            return flipped
        flipped.add(best)
        least = trials[best]
        gradients = gradients | {name: gradients[name] + part for name, part in flips[best].items()}
