"""Loss terms against brute force, and finite wherever training can lead them."""

import pytest
import torch

import criterion

ALL = torch.ones(4, dtype=torch.bool)


def test_distortion_against_the_double_sum():
    generator = torch.Generator().manual_seed(0)
    depths = torch.rand(3, 9, generator=generator, dtype=torch.float64).sort(-1).values * 2
    weights = torch.rand(3, 9, generator=generator, dtype=torch.float64)
    ends = torch.cat([depths, depths[:, -1:]], -1)
    expected = 0.0
    for ray in range(3):
        middles = [(ends[ray, k] + ends[ray, k + 1]) / 2 for k in range(9)]
        for i in range(9):
            for j in range(9):
                expected += weights[ray, i] * weights[ray, j] * abs(middles[i] - middles[j])
            expected += weights[ray, i] ** 2 * (ends[ray, i + 1] - ends[ray, i]) / 3
    torch.testing.assert_close(criterion.distortion_loss(depths, weights), expected / 3)


def test_flow_loss_by_hand():
    pred = torch.tensor([[0.0, 0.0], [1.0, 3.0], [10.0, 10.0]])
    tgt = torch.zeros(3, 2)
    weights = torch.tensor([1.0, 0.5, 1.0])
    # Residuals 0, 2, 10: the largest is dropped.
    torch.testing.assert_close(criterion.flow_loss(pred, tgt, weights, ALL[:3]), torch.tensor((0 + 0.5 * 2) / 2))


def test_flow_gradient_loss_by_hand():
    pred = torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0], [5.0, 6.0]])
    weights = torch.tensor([1.0, 0.5, 0.5, 1.0])
    # Differences 1, 4, 0.5 with weights 0.5, 0.25, 0.5: the 4 is dropped.
    expected = torch.tensor((1 * 0.5 + 0.5 * 0.5) / 1.0)
    torch.testing.assert_close(criterion.flow_gradient_loss(pred, torch.zeros(4, 2), weights, ALL[:4]), expected)


def test_rgb_losses_by_hand():
    pred = torch.tensor([[0.5, 0.5, 0.5], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    gt = torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(criterion.rgb_loss(pred, gt, ALL[:3]), torch.tensor(1 / 3))
    gt[2] = 0.5
    # Differences of the errors (0, 1, -0.5): 1 and -1.5, the larger is dropped.
    torch.testing.assert_close(criterion.rgb_gradient_loss(pred, gt, ALL[:3]), torch.tensor(1.0))


def test_depth_range_by_hand():
    depths = torch.tensor([-1.0, 0.0, 1.0, 2.0, 2.5])
    torch.testing.assert_close(criterion.depth_range_loss(depths, 0.0, 2.0), torch.tensor((1 + 0.25) / 5))


def test_unit_sphere_by_hand():
    x = torch.tensor([[0.1, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(criterion.canonical_unit_sphere_loss(x), torch.tensor((9.0 + 0.0) / 2))


def test_scene_flow_of_uniform_motion_is_smooth():
    x, velocity = torch.rand(2, 5, 4, 3), torch.rand(2, 5, 4, 3)
    loss = criterion.scene_flow_smoothness_loss(x, x - velocity, x + velocity)
    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)
    assert criterion.scene_flow_smoothness_loss(x, x - velocity, x + 2 * velocity) > 0.05


POINT_LOSSES = {
    "flow": lambda a, b: criterion.flow_loss(a, b, torch.ones(len(a)), ALL[: len(a)]),
    "flow without weight": lambda a, b: criterion.flow_loss(a, b, torch.zeros(len(a)), ALL[: len(a)]),
    "flow_gradient": lambda a, b: criterion.flow_gradient_loss(a, b, torch.ones(len(a)), ALL[: len(a)]),
    "flow_gradient without weight": lambda a, b: criterion.flow_gradient_loss(a, b, torch.zeros(len(a)), ALL[: len(a)]),
    "rgb": lambda a, b: criterion.rgb_loss(a, b, ALL[: len(a)]),
    "rgb_gradient": lambda a, b: criterion.rgb_gradient_loss(a, b, ALL[: len(a)]),
    "depth_range": lambda a, b: criterion.depth_range_loss(a - b, 0.0, 2.0),
    "distortion": criterion.distortion_loss,
    "scene_flow_smoothness": lambda a, b: criterion.scene_flow_smoothness_loss(a, b, b),
    "canonical_unit_sphere": lambda a, b: criterion.canonical_unit_sphere_loss(a - b),
}


@pytest.mark.parametrize("name", POINT_LOSSES)
@pytest.mark.parametrize("num_points", [0, 1, 2, 3])
@pytest.mark.parametrize("equal", [True, False])
def test_finite_with_few_points_or_equal_errors(name, num_points, equal):
    pred = torch.full((num_points, 3), 0.5) if equal else torch.rand(num_points, 3)
    pred.requires_grad_()
    loss = POINT_LOSSES[name](pred, torch.zeros(num_points, 3))
    assert loss.shape == () and torch.isfinite(loss)
    loss.backward()
    assert torch.isfinite(pred.grad).all()


def test_equal_errors_are_not_dropped():
    residuals = torch.tensor([2.0, 2.0])
    assert criterion.without_largest(residuals, ALL[:2]).all()


def test_masked_points_are_as_if_cut_out():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 9, 3, generator=generator, dtype=torch.float64)
    weights, everything = torch.rand(9, generator=generator, dtype=torch.float64), torch.ones(9, dtype=torch.bool)
    for kept in ([], [4], [0, 1, 5, 8], [2, 3, 7]):
        valid = torch.zeros(9, dtype=torch.bool)
        valid[kept] = True
        for loss in (criterion.flow_loss, criterion.flow_gradient_loss):
            cut = loss(a[kept], b[kept], weights[kept], everything[kept])
            torch.testing.assert_close(loss(a, b, weights, valid), cut)
        for loss in (criterion.rgb_loss, criterion.rgb_gradient_loss):
            torch.testing.assert_close(loss(a, b, valid), loss(a[kept], b[kept], everything[kept]))
