"""Feature planes: their values by position and frame; maps and volume that read them keep every property."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from networks.checkpoint_validation import validate_checkpoint
from networks.encoding import join_coordinates, split_coordinates
from networks.planes import PLANE_EXTENT, SpaceTimePlanes, TriPlane, sample_planes
from tests.test_same_computation import PLANES, VOLUME_PLANES, gradients, make_batch, make_lively, make_model, rays_of
from trainer import batch_losses
from utils.coords import time_code


def planes_at(frames: list[int], num_frames: int, interval: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The planes of frames, and those that are stored."""
    planes = SpaceTimePlanes(num_frames, interval, channels=2, rows=3, columns=5).double()
    return planes.interpolate(planes.weights_at(time_code(torch.tensor(frames), num_frames).double())), planes.features


@pytest.mark.parametrize(("num_frames", "interval", "stored"), [(2, 5, 4), (24, 1, 26), (24, 4, 9), (3, 100, 4)])
def test_planes_of_frames_are_a_cubic_spline_of_the_stored_ones(num_frames, interval, stored):
    found, features = planes_at(list(range(num_frames)), num_frames, interval)
    assert len(features) == stored
    pieces = stored - 3
    spline = BSpline(np.arange(-3, pieces + 4), features.detach().numpy(), 3)
    expected = spline(np.linspace(0, pieces, num_frames))
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-7)


def test_sampling_is_bilinear_between_cell_centers_and_repeats_the_border():
    planes = torch.arange(12.0).reshape(1, 1, 3, 4)  # value = 4·row + column
    where = torch.tensor([[[-1.0, -1.0], [1.0, 1.0], [-1 / 3, 0.0], [0.0, 0.5], [5.0, -5.0]]])
    assert sample_planes(planes, where)[0, :, 0].tolist() == pytest.approx([0, 11, 5, 7.5, 3])


def test_three_planes_read_two_coordinates_each():
    tri = TriPlane(channels=2, size=4).double()
    x = torch.rand(7, 3, dtype=torch.float64) * 2 - 1
    for axis, unread in ((0, 2), (1, 1), (2, 0)):
        moved = x.clone()
        moved[:, unread] = -moved[:, unread]
        unchanged = slice(2 * axis, 2 * axis + 2)
        torch.testing.assert_close(tri(moved)[:, unchanged], tri(x)[:, unchanged])
    assert tri(x).shape == (7, 6)


def test_a_map_with_planes_is_inverted_and_its_jacobians_are_inverse():
    warp, ids = make_lively(make_model(torch.float64, **PLANES)).warp, torch.tensor([4])
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 30, 3, generator=generator, dtype=torch.float64) * 2.4 - torch.tensor([1.2, 1.2, 0.2])
    y = warp.to_canonical(x, ids)
    assert (y - x).abs().max() > 0.1 and (warp.to_local(y, ids) - x).abs().max() < 1e-9
    for point in x[0, :3]:
        there = torch.autograd.functional.jacobian(lambda p: warp.to_canonical(p.view(1, 1, 3), ids).view(3), point)
        image = warp.to_canonical(point.view(1, 1, 3), ids).view(3).detach()
        back = torch.autograd.functional.jacobian(lambda p: warp.to_local(p.view(1, 1, 3), ids).view(3), image)
        torch.testing.assert_close(there @ back, torch.eye(3, dtype=torch.float64), atol=1e-8, rtol=0)


def test_new_maps_with_planes_are_near_the_identity_and_differ_little_between_frames():
    model = make_model(torch.float32, **PLANES)
    x = torch.rand(7, 50, 3) * 2 - torch.tensor([1.0, 1.0, 0.0])
    with torch.no_grad():
        moved = model.warp.to_canonical(x, torch.arange(7)) - x
    assert 1e-3 < moved.abs().mean() < 0.1


def test_a_cell_changes_points_near_it_in_frames_near_it_alone():
    layer = make_model(torch.float64, **PLANES).warp.layers[0]
    near, far = -PLANE_EXTENT, 0.9  # the corner cell's center; beyond its neighbors
    points = torch.tensor([[near, near, 1 + near], [far, far, 1 + far]], dtype=torch.float64).expand(2, 2, 3)
    assert layer.planes is not None
    code = torch.zeros(2, 8, dtype=torch.float64)
    spline_weights = layer.planes.weights_at(time_code(torch.tensor([0, 6]), 7).double())

    def moved() -> torch.Tensor:
        return join_coordinates(
            layer.to_canonical(split_coordinates(points, 4), layer.condition_on(code, spline_weights))
        )

    with torch.no_grad():
        before = moved()
        layer.planes.features[0, :, 0, 0] += 1  # of the first moment
        change = (moved() - before).norm(dim=-1)
    assert change[0, 0] > 1e-4 and (change > 0).sum() == 1


@pytest.mark.parametrize("how", ["checkpoint_activations", "micro_batch"])
def test_gradients_are_the_same_with_recomputed_hidden_layers(how):
    model, batch = make_model(torch.float64, **PLANES, **VOLUME_PLANES), make_batch(torch.float64)
    depths = rays_of(model, batch)
    kept = gradients(model, batch_losses(model, batch, depths))
    assert all(gradient.abs().max() > 0 for gradient in kept)
    if how == "checkpoint_activations":
        model.checkpoint_activations()
    terms = batch_losses(model, batch, depths, micro_batch=2 if how == "micro_batch" else 0)
    again = gradients(model, terms)
    torch.testing.assert_close(again, kept, rtol=1e-9, atol=1e-7)


def test_planes_of_another_version_are_refused():
    """Before the spline there were two fewer planes."""
    model = make_model(torch.float32, **PLANES)
    weights = model.state_dict()
    name = next(name for name in weights if name.endswith("planes.features"))
    weights[name] = weights[name][:-2]
    problem = validate_checkpoint({"model_config": asdict(model.config), "model": weights})
    assert problem is not None and f"size mismatch for {name}" in problem


@pytest.mark.parametrize(
    ("bound", "whole"), [(0.0, True), (1.0, True), (float("nan"), False), (-1.0, False), (9.0, False)]
)
def test_a_soft_bound_out_of_range_is_damage(bound, whole):
    model = make_model(torch.float32, **PLANES)
    config = asdict(model.config) | {"soft_bound": bound}
    assert (validate_checkpoint({"model_config": config, "model": model.state_dict()}) is None) == whole
