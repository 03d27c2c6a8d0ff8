"""Contraction, density, weights and compositing, against hand-computed numbers and finite differences."""

import math
from typing import Any

import pytest
import torch

from networks.canonical import CanonicalVolume, contract
from networks.encoding import fourier_features
from networks.gabor import GaborFilter
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.rendering import (
    composite,
    density_to_alpha,
    gather_max_weight,
    jitter_depths,
    mask_near_samples,
    points_on_rays,
    project,
    render_weights,
    sample_depths,
)

SMALL: dict[str, Any] = {"coupling_width": 8, "code_size": 4, "code_width": 8, "volume_width": 8, "use_affine": False}


def test_contraction_by_hand():
    inside = torch.tensor([[0.3, -0.4, 0.5], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert torch.equal(contract(inside), inside)
    torch.testing.assert_close(contract(torch.tensor([[4.0, 0.0, 0.0]])), torch.tensor([[1.75, 0.0, 0.0]]))
    far = contract(torch.tensor([[1e6, -1e6, 1e6]]))
    assert 1.999 < far.norm() <= 2.0


@pytest.mark.parametrize("point", [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.6, 0.8, 0.0), (3.0, 1.0, 2.0)])
def test_contraction_has_finite_gradient(point):
    x = torch.tensor([point], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(contract(x).sum(), x)
    assert torch.isfinite(gradient).all()


def test_contraction_is_differentiable_on_both_sides():
    x = torch.tensor([[0.2, 0.1, -0.3], [1.5, -2.0, 0.7]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(contract, x)


def test_gabor_filter_follows_its_formula():
    torch.manual_seed(0)
    gabor = GaborFilter(3, 6, scale=20.0, alpha=1.5).double()
    x = torch.rand(10, 3, dtype=torch.float64) * 2 - 1
    distance = (x.unsqueeze(1) - gabor.mu).square().sum(-1)
    expected = torch.sin(x @ gabor.linear.weight.T + gabor.linear.bias) * torch.exp(-0.5 * gabor.gamma * distance)
    torch.testing.assert_close(gabor(x), expected)


def test_fourier_features_by_hand():
    features = fourier_features(torch.tensor([[0.25, 0.5]]), 2)
    half = math.sqrt(0.5)
    torch.testing.assert_close(features[0, 0], torch.tensor([[half, 1.0], [half, 0.0]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(features[0, 1], torch.tensor([[1.0, 0.0], [0.0, -1.0]]), atol=1e-6, rtol=0)


def test_density_and_color_ranges():
    torch.manual_seed(0)
    rgbs, sigmas = CanonicalVolume(16, 2)(torch.randn(50, 3) * 3)
    assert rgbs.shape == (50, 3) and sigmas.shape == (50,)
    assert (rgbs > 0).all() and (rgbs < 1).all() and (sigmas >= 0).all()
    torch.testing.assert_close(density_to_alpha(torch.tensor([0.0, math.log(2)])), torch.tensor([0.0, 0.5]))


def test_weights_are_the_products_written_out():
    alphas = torch.tensor([0.5, 0.2, 1.0, 0.7], dtype=torch.float64)
    expected = torch.tensor([0.5, 0.5 * 0.2, 0.5 * 0.8 * 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(render_weights(alphas), expected, atol=1e-9, rtol=0)
    assert render_weights(torch.rand(100, 32)).sum(-1).max() <= 1 + 1e-5


def test_composite_and_max_weight_by_hand():
    weights = torch.tensor([[0.1, 0.6, 0.3]])
    values = torch.tensor([[[1.0, 0.0], [2.0, 4.0], [3.0, 2.0]]])
    torch.testing.assert_close(composite(weights, values), torch.tensor([[2.2, 3.0]]))
    assert torch.equal(gather_max_weight(weights, values), torch.tensor([[2.0, 4.0]]))


def test_near_samples_are_masked():
    masked = mask_near_samples(torch.ones(2, 10), 0.2)
    assert torch.equal(masked[0], torch.tensor([0.0] * 2 + [1.0] * 8))


@pytest.mark.parametrize(("num_samples", "num_masked"), [(4, 0), (10, 2), (14, 2), (15, 3), (32, 6)])
def test_mask_near_switches_off_the_nearest_fifth_of_the_samples(num_samples, num_masked):
    config = ModelConfig(num_frames=3, height=8, width=8, **SMALL, num_samples_ray=num_samples)
    model = OmniMotion.initialised(config, seed=0)
    x = model.rays(torch.rand(2, 5, 2) * 7)
    with torch.no_grad():
        whole, masked = (model.march(model.warp.at(torch.tensor([0, 2])), x, near_off) for near_off in (False, True))
    assert (whole.alphas > 0).all() and (masked.alphas[..., :num_masked] == 0).all()
    assert torch.equal(masked.alphas[..., num_masked:], whole.alphas[..., num_masked:])


def test_rendering_gradients_against_finite_differences():
    sigmas = torch.rand(2, 6, dtype=torch.float64).requires_grad_()
    values = torch.rand(2, 6, 3, dtype=torch.float64).requires_grad_()

    def render(sigmas, values):
        return composite(render_weights(density_to_alpha(sigmas)), values)

    assert torch.autograd.gradcheck(render, (sigmas, values))


def test_opaque_samples_keep_finite_gradients():
    alphas = torch.tensor([1.0, 1.0, 0.3], requires_grad=True)
    (gradient,) = torch.autograd.grad(render_weights(alphas)[2], alphas)
    assert torch.isfinite(gradient).all()


def test_jitter_stays_in_its_interval_and_follows_its_generator():
    depths = sample_depths(8, 0.0, 2.0)
    jittered = jitter_depths(depths, (3, 50), torch.Generator().manual_seed(0))
    middles = (depths[1:] + depths[:-1]) / 2
    assert (jittered[..., 0] <= middles[0]).all() and (jittered[..., 1:] >= middles).all()
    assert (jittered[..., :-1] <= middles).all() and (jittered[..., -1] <= 2).all()
    assert jittered.std(dim=(0, 1)).min() > 0
    assert torch.equal(jittered, jitter_depths(depths, (3, 50), torch.Generator().manual_seed(0)))


def test_rays_are_orthographic():
    px = torch.tensor([[0.0, 0.0], [10.0, 6.0], [3.5, 1.25]])
    points = points_on_rays(px, sample_depths(4, 0.0, 2.0), height=7, width=11)
    assert points.shape == (3, 4, 3)
    torch.testing.assert_close(points[0, :, :2], torch.full((4, 2), -1.0))
    torch.testing.assert_close(points[1, :, :2], torch.full((4, 2), 1.0))
    torch.testing.assert_close(project(points, 7, 11), px.unsqueeze(1).expand(3, 4, 2))
