"""The warp is a bijection: round trips, Jacobians, gradients, against finite differences and its own inverse."""

from dataclasses import replace

import pytest
import torch

from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.warp import Warp, random_axes

AXES = [1, 0, 2, 1, 0, 2]
SMALL = ModelConfig(5, 8, 8, AXES, code_size=8, code_width=16, coupling_width=16, coupling_depth=2, affine_width=16)
SMALL = replace(SMALL, affine_depth=2)
RELEASED = ModelConfig(5, 8, 8, AXES)  # sizes that users run


def make_warp(dtype: torch.dtype, config: ModelConfig = SMALL, use_affine: bool = True) -> Warp:
    torch.manual_seed(0)
    return Warp(replace(config, use_affine=use_affine)).to(dtype)


def local_points(dtype: torch.dtype) -> torch.Tensor:
    points = torch.rand(5, 40, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))
    return points * 2 - torch.tensor([1.0, 1.0, 0.0], dtype=dtype)


@pytest.mark.parametrize("use_affine", [True, False])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_round_trips(dtype, bound, use_affine):
    warp = make_warp(dtype, RELEASED, use_affine)
    x, ids = local_points(dtype), torch.arange(5)
    with torch.no_grad():
        y = warp.to_canonical(x, ids)
        assert (y - x).abs().max() > 0.01, "a warp that does nothing proves nothing"
        assert (warp.to_local(y, ids) - x).abs().max() < bound
        assert (warp.to_canonical(warp.to_local(x, ids), ids) - x).abs().max() < bound


def test_frames_have_maps_of_their_own():
    warp, x = make_warp(torch.float64), local_points(torch.float64)[:1]
    with torch.no_grad():
        assert not torch.allclose(warp.to_canonical(x, torch.tensor([0])), warp.to_canonical(x, torch.tensor([1])))


def test_a_batch_of_frames_equals_frames_one_by_one():
    warp, x, ids = make_warp(torch.float64), local_points(torch.float64), torch.tensor([3, 0, 0, 4, 2])
    together = warp.to_canonical(x, ids)
    alone = torch.cat([warp.to_canonical(x[p : p + 1], ids[p : p + 1]) for p in range(5)])
    torch.testing.assert_close(together, alone)
    grid = warp.to_canonical(x.reshape(5, 8, 5, 3), ids)
    torch.testing.assert_close(grid.reshape(5, 40, 3), together)


def test_jacobians_of_both_directions_are_inverse():
    warp, ids = make_warp(torch.float64), torch.tensor([2])
    for x in local_points(torch.float64)[2, :5]:
        y = warp.to_canonical(x.reshape(1, 1, 3), ids).reshape(3).detach()
        forward = torch.autograd.functional.jacobian(lambda p: warp.to_canonical(p.reshape(1, 1, 3), ids).reshape(3), x)
        backward = torch.autograd.functional.jacobian(lambda p: warp.to_local(p.reshape(1, 1, 3), ids).reshape(3), y)
        torch.testing.assert_close(forward @ backward, torch.eye(3, dtype=torch.float64), atol=1e-8, rtol=0)


def test_gradients_against_finite_differences():
    warp, ids = make_warp(torch.float64), torch.tensor([1, 3])
    x = local_points(torch.float64)[:2, :2].clone().requires_grad_()
    weight = warp.layers[0].encode.weight

    def there_and_back(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        swapped = {"layers.0.encode.weight": weight}
        return torch.func.functional_call(_Through(warp), {f"warp.{k}": v for k, v in swapped.items()}, (x, ids))

    assert torch.autograd.gradcheck(there_and_back, (x, weight.detach().clone().requires_grad_()))


class _Through(torch.nn.Module):
    """Canonical points of one frame, taken to another frame: both directions in one differentiable function."""

    def __init__(self, warp: Warp):
        super().__init__()
        self.warp = warp

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.warp.to_local(self.warp.to_canonical(x, ids), ids.flip(0))


def test_every_coordinate_changes_in_each_turn():
    for seed in range(10):
        axes = random_axes(6, torch.Generator().manual_seed(seed))
        assert sorted(axes[:3]) == sorted(axes[3:]) == [0, 1, 2]


def test_seed_decides_weights_and_order_and_nothing_else():
    config = ModelConfig(num_frames=3, height=8, width=8, coupling_width=8, volume_width=8, code_size=4, code_width=8)
    torch.manual_seed(5)
    first = OmniMotion.initialised(config, seed=1)
    drawn = torch.rand(1)
    second, other = OmniMotion.initialised(config, seed=1), OmniMotion.initialised(config, seed=2)
    assert first.config == second.config
    for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(first.warp.code_net.output.weight, other.warp.code_net.output.weight)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
