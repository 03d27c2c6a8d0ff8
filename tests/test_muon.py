"""Muon in float32: the same update as torch's, and as one computed from a singular value decomposition."""

from typing import Any

import pytest
import torch
from torch import nn

from networks.muon import BatchedMuon, orthogonalise

COEFFICIENTS, STEPS, EPS = (3.4445, -4.7750, 2.0315), 5, 1e-7  # of Jordan et al.'s Muon
SHAPES = [(6, 9), (9, 6), (6, 9), (5, 5), (6, 9)]
OPTIONS: dict[str, Any] = {"weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw", "lr": 0.05}


def by_singular_values(matrix: torch.Tensor) -> torch.Tensor:
    """The same polynomial, iterated on the singular values alone."""
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = COEFFICIENTS
    s = s / s.norm()
    for _ in range(STEPS):
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag(s) @ vt


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (5, 5)])
def test_newton_schulz_maps_the_singular_values(shape):
    matrices = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([by_singular_values(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonalise(matrices, COEFFICIENTS, STEPS, EPS), expected)


def test_a_zero_gradient_gives_no_update():
    assert (orthogonalise(torch.zeros(1, 3, 4), COEFFICIENTS, STEPS, EPS) == 0).all()


def trained(kind: type[torch.optim.Muon], steps: int = 4) -> tuple[list[torch.Tensor], dict]:
    """Parameters and state after some updates by seeded gradients; the last matrix has a gradient only at times."""
    generator = torch.Generator().manual_seed(1)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    optimizer = kind([{"params": parameters}], **OPTIONS)
    for step in range(steps):
        for k, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = None if k == len(SHAPES) - 1 and step % 2 == 0 else gradient
        optimizer.step()
    return [parameter.detach() for parameter in parameters], optimizer.state_dict()


def test_updates_are_those_of_torch_but_for_its_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # torch's Muon then computes in float32, too
    (ours, state), (theirs, their_state) = trained(BatchedMuon), trained(torch.optim.Muon)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=0)
    assert state["param_groups"] == their_state["param_groups"]
    for number, values in their_state["state"].items():
        torch.testing.assert_close(state["state"][number], values)


def test_bfloat16_is_off_by_no_more_than_its_rounding():
    (ours, _), (theirs, _) = trained(BatchedMuon, 1), trained(torch.optim.Muon, 1)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=0.05 * 0.2 * 3 * 0.05, rtol=0)  # 5 % of an update's scale


def test_a_loss_is_returned_and_parameters_without_gradient_stay():
    parameter = nn.Parameter(torch.ones(2, 3))
    optimizer = BatchedMuon([{"params": [parameter]}], **OPTIONS)
    assert optimizer.step(lambda: torch.tensor(3.0)) == 3 and (parameter == 1).all()
