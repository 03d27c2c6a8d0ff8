"""Loss terms against brute force, finite wherever training can lead them; their table, weights and schedules."""

import json
from pathlib import Path

import pytest
import torch

import criterion
from criterion import Schedule, Term, loss_weights
from tests.test_same_computation import make_batch, make_model, rays_of
from train import main
from trainer import batch_losses

ALL = torch.ones(4, dtype=torch.bool)
BUILT_IN = ["flow", "rgb", "rgb_gradient", "depth_range", "distortion", "scene_flow_smoothness"]
BUILT_IN += ["canonical_unit_sphere", "flow_gradient", "depth_prior"]


def test_distortion_against_the_double_sum():
    generator = torch.Generator().manual_seed(0)
    depths = torch.rand(3, 9, generator=generator, dtype=torch.float64).sort(-1).values * 2
    weights = torch.rand(3, 9, generator=generator, dtype=torch.float64)
    ends = torch.cat([depths, depths[:, -1:]], -1)
    expected = torch.zeros((), dtype=torch.float64)
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
    loss = criterion.scene_flow_smoothness_loss(x, x - velocity, x + velocity, ALL[:2])
    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)
    assert criterion.scene_flow_smoothness_loss(x, x - velocity, x + 2 * velocity, ALL[:2]) > 0.05


def test_scene_flow_of_pairs_at_the_ends_does_not_count():
    x, before, after = torch.rand(3, 4, 5, 2, 3, dtype=torch.float64)
    inner = torch.tensor([True, False, True, False])
    of_inner = criterion.scene_flow_smoothness_loss(x[inner], before[inner], after[inner], ALL[:2])
    torch.testing.assert_close(criterion.scene_flow_smoothness_loss(x, before, after, inner), of_inner)


POINT_LOSSES = {
    "flow": lambda a, b: criterion.flow_loss(a, b, torch.ones(len(a)), ALL[: len(a)]),
    "flow without weight": lambda a, b: criterion.flow_loss(a, b, torch.zeros(len(a)), ALL[: len(a)]),
    "flow_gradient": lambda a, b: criterion.flow_gradient_loss(a, b, torch.ones(len(a)), ALL[: len(a)]),
    "flow_gradient without weight": lambda a, b: criterion.flow_gradient_loss(a, b, torch.zeros(len(a)), ALL[: len(a)]),
    "rgb": lambda a, b: criterion.rgb_loss(a, b, ALL[: len(a)]),
    "rgb_gradient": lambda a, b: criterion.rgb_gradient_loss(a, b, ALL[: len(a)]),
    "depth_range": lambda a, b: criterion.depth_range_loss(a - b, 0.0, 2.0),
    "distortion": criterion.distortion_loss,
    "scene_flow_smoothness": lambda a, b: criterion.scene_flow_smoothness_loss(a, b, b, ALL[: len(a)]),
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
    assert pred.grad is not None and torch.isfinite(pred.grad).all()


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
        for rgb_loss in (criterion.rgb_loss, criterion.rgb_gradient_loss):
            torch.testing.assert_close(rgb_loss(a, b, valid), rgb_loss(a[kept], b[kept], everything[kept]))


def test_loss_weights_by_hand():
    first, later = loss_weights(Schedule(0)), loss_weights(Schedule(42_000))
    assert "rgb" not in first and "distortion" not in first and first["flow"] == 1
    assert later["rgb"] == later["rgb_gradient"] == 8.4
    assert later["distortion"] == 1.0 and later["flow_gradient"] == 0.084
    released = {
        "flow": 1.0, "rgb": 10.0, "rgb_gradient": 10.0, "depth_range": 10.0, "distortion": 10.0,
        "scene_flow_smoothness": 20.0, "flow_gradient": 0.1,
    }  # fmt: skip
    assert {name: weight for name, weight in loss_weights(Schedule(200_000)).items() if name in BUILT_IN} == released
    assert loss_weights(Schedule(420, scale=0.01)) == later


def test_the_depth_prior_fades_in_the_first_fifth_of_a_run():
    found = [loss_weights(Schedule(s, num_iters=500, depth_prior=5.0)) for s in (0, 50, 100, 400)]
    assert [weights.get("depth_prior") for weights in found] == [5.0, 2.5, None, None]


def test_near_samples_are_masked_at_first():
    assert Schedule(3999).masks_near and not Schedule(4000).masks_near
    assert Schedule(39, scale=0.01).masks_near and not Schedule(40, scale=0.01).masks_near


def test_terms_without_weight_are_left_out_of_the_sum():
    weights = loss_weights(Schedule(0))
    assert [name for name in weights if name in BUILT_IN] == ["flow", "depth_range", "scene_flow_smoothness"]
    terms = {name: torch.tensor(torch.nan) for name in BUILT_IN} | {name: torch.tensor(1.0) for name in weights}
    assert criterion.weighted_sum(terms, weights) == 1 + 10 + 20


TOY = Term("toy", lambda x: x.prediction.rgb.mean(), lambda schedule: 2.0 + schedule.step)


@pytest.fixture
def toy(monkeypatch) -> Term:
    """A term that one line adds."""
    monkeypatch.setattr(criterion, "TERMS", (*criterion.TERMS, TOY))
    return TOY


def test_an_added_term_is_computed_weighted_and_differentiated(toy):
    model, batch = make_model(torch.float64), make_batch(torch.float64)
    weights = loss_weights(Schedule(1))
    terms = batch_losses(model, batch, rays_of(model, batch))
    without = criterion.weighted_sum(terms, {name: weight for name, weight in weights.items() if name != "toy"})
    total = criterion.weighted_sum(terms, weights)
    torch.testing.assert_close(total, without + 3 * terms["toy"])
    parameters = list(model.volume.parameters())

    def gradient(value: torch.Tensor) -> torch.Tensor:
        found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        return torch.cat([part.flatten() for part in found if part is not None])

    whole, rest, of_toy = map(gradient, (total, without, terms["toy"]))
    assert of_toy.abs().max() > 0
    torch.testing.assert_close(whole, rest + 3 * of_toy)


def test_an_added_term_is_trained_on_and_logged(tiny_flags, toy):
    main([*tiny_flags, "--num_iters", "2", "--i_print", "1"])
    lines = [json.loads(line) for line in Path("logs/tiny_scene/metrics.jsonl").read_text().splitlines()]
    for step, line in enumerate(line for line in lines if "loss/Loss" in line):
        weights = loss_weights(Schedule(step))
        total = sum(weight * line[f"loss/loss_{name}"] for name, weight in weights.items())
        assert 0 < line["loss/loss_toy"] < 1 and line["loss/Loss"] == pytest.approx(total, rel=1e-5)


def test_an_added_term_is_named_when_it_is_not_finite(tiny_flags, monkeypatch):
    broken = Term("toy", lambda x: x.prediction.rgb.mean() * torch.inf, lambda schedule: 1.0)
    monkeypatch.setattr(criterion, "TERMS", (*criterion.TERMS, broken))
    with pytest.raises(SystemExit, match=r"step 0: the value of loss_toy is not finite for the pair .*\.png → "):
        main([*tiny_flags, "--num_iters", "2"])
