"""The optimised computation equals the plain one (`tests.oracles.plain_model`), values and gradients, in float64."""

from copy import deepcopy
from typing import Any

import pytest
import torch

from criterion import weighted_sum
from loaders.batches import Batch
from networks.gabor import GaborNet
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.rendering import jitter_depths
from tests.oracles import plain_model
from trainer import batch_losses
from utils.coords import pixel_grid, with_time

SIZES = {
    **{"coupling_width": 16, "code_size": 8, "code_width": 16, "affine_width": 16, "affine_depth": 3},
    **{"volume_width": 16, "num_samples_ray": 6},
}
# Each of weight 1 beside the others: every term must reach every parameter in the same way.
FACTORS = {
    **{"flow": 1.0, "rgb": 2.0, "rgb_gradient": 2.0, "depth_range": 10.0, "distortion": 3.0},
    **{"scene_flow_smoothness": 20.0, "canonical_unit_sphere": 0.5, "flow_gradient": 0.1},
}
PLANES: dict[str, Any] = {"use_affine": False, "plane_size": 6, "plane_channels": 4, "plane_interval": 2}
VOLUME_PLANES: dict[str, Any] = {"volume_plane_size": 8, "volume_plane_channels": 3}
KINDS: dict[str, dict[str, Any]] = {
    **{"affine": {}, "no affine": {"use_affine": False}, "planes": PLANES, "volume planes": VOLUME_PLANES},
    "both": {**PLANES, **VOLUME_PLANES},
    "soft scales": {"use_affine": False, "soft_bound": 0.3},
}


def make_model(dtype: torch.dtype, use_affine: bool = True, **sizes) -> OmniMotion:
    config = ModelConfig(num_frames=7, height=40, width=56, use_affine=use_affine, **{**SIZES, **sizes})
    return OmniMotion.initialised(config, seed=0).to(dtype)


def make_lively(model: OmniMotion) -> OmniMotion:
    """Features as large as trained ones, where there are planes, and maps that carry points beyond their border."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("planes.features"):
                parameter.normal_(generator=generator)
        for layer in model.warp.layers:
            if layer.planes is not None:
                layer.scale_shift.last.weight *= 10
    return model


def make_batch(dtype: torch.dtype, num_pts: int = 9) -> Batch:
    """Neighbours in both directions, far pairs, both ends of the clip, a frame twice; points at the border."""
    generator = torch.Generator().manual_seed(1)
    src, tgt = torch.tensor([1, 2, 0, 6, 3, 3]), torch.tensor([2, 1, 5, 5, 0, 6])
    px, shift, rgb, weights = (torch.rand(6, num_pts, c, generator=generator).to(dtype) for c in (2, 2, 3, 1))
    px = px * torch.tensor([58.0, 42.0]) - 1
    return Batch(src, tgt, px, px + 4 * shift, rgb, weights[..., 0])


def rays_of(model: OmniMotion, batch: Batch) -> torch.Tensor:
    depths = jitter_depths(model.depths(), tuple(batch.src_px.shape[:2]), torch.Generator().manual_seed(2))
    return depths.to(batch.src_px)


def gradients(model: OmniMotion, terms: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Gradients of the weighted sum of the released terms."""
    released = {name: terms[name] for name in FACTORS}
    return list(torch.autograd.grad(weighted_sum(released, FACTORS), list(model.parameters())))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask_near", [True, False])
def test_terms_and_gradients_are_those_of_the_plain_form(kind, mask_near):
    model, batch = make_lively(make_model(torch.float64, **KINDS[kind])), make_batch(torch.float64)
    depths = rays_of(model, batch)
    plain = plain_model.losses(model, batch, depths, mask_near)
    ours = batch_losses(model, batch, depths, mask_near=mask_near)
    assert plain.keys() == FACTORS.keys() <= ours.keys()
    for name in plain:
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-9, atol=1e-12, msg=name)
    torch.testing.assert_close(gradients(model, ours), gradients(model, plain), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("micro_batch", [0, 1, 4])
@pytest.mark.parametrize("recompute", [True, False])
def test_less_memory_changes_nothing(micro_batch, recompute):
    model, batch = make_model(torch.float64), make_batch(torch.float64)
    depths = rays_of(model, batch)
    whole = batch_losses(model, batch, depths)
    expected = gradients(model, whole)
    if recompute:
        model.checkpoint_activations()
    ours = batch_losses(model, batch, depths, micro_batch=micro_batch)
    torch.testing.assert_close(ours, whole, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradients(model, ours), expected, rtol=1e-9, atol=1e-11)


def test_the_depth_prior_is_a_term_where_there_is_one():
    model, batch = make_model(torch.float32), make_batch(torch.float32)
    depths = rays_of(model, batch)
    without = batch_losses(model, batch, depths)
    terms = batch_losses(model, batch, depths, prior_depth=torch.ones(6, 9))
    assert terms.pop("depth_prior") > 0 and terms == without


def test_few_points_have_no_smoothness():
    model, batch = make_model(torch.float64), make_batch(torch.float64, num_pts=3)
    assert batch_losses(model, batch, rays_of(model, batch))["scene_flow_smoothness"] == 0


@pytest.mark.parametrize("kind", ["affine", "both"])
def test_float32_has_the_terms_and_gradients_of_float64(kind, device, record_property):
    model, batch = make_lively(make_model(torch.float32, **KINDS[kind])), make_batch(torch.float32)
    double, wide = deepcopy(model).double(), make_batch(torch.float64)
    depths = rays_of(model, batch)
    terms = batch_losses(model.to(device), batch.to(device), depths.to(device))
    exact = batch_losses(double, wide, depths.double())
    errors = {name: _relative(terms[name].cpu(), exact[name]).item() for name in FACTORS}
    ours, expected = gradients(model, terms), gradients(double, exact)
    of_gradients = torch.stack([_relative(a.cpu(), b) for a, b in zip(ours, expected, strict=True)])
    record_property(f"{kind}: terms, largest relative error", max(errors.values()))
    record_property(f"{kind}: gradients, median relative error", of_gradients.median().item())
    record_property(f"{kind}: gradients, largest relative error", of_gradients.max().item())
    assert max(errors.values()) < 3e-4
    assert of_gradients.median() < 1e-4  # near a ReLU's zero, rounding may choose the other side


def _relative(ours: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    return (ours - exact).norm() / exact.norm()


def with_dense_regions(model: OmniMotion) -> OmniMotion:
    """Thin and dense regions: the heaviest sample of a ray is not the first."""
    net = model.volume.net
    output = net.output if isinstance(net, GaborNet) else net.last
    with torch.no_grad():
        output.weight[3] *= 30
    return model


@pytest.mark.parametrize("kind", ["affine", "both"])
@pytest.mark.parametrize("use_max_loc", [True, False])
def test_tracks_are_those_of_the_plain_form(kind, use_max_loc):
    model = with_dense_regions(make_lively(make_model(torch.float32, num_samples_ray=24, **KINDS[kind])))
    px = torch.rand(40, 2, generator=torch.Generator().manual_seed(3)) * torch.tensor([55.0, 39.0])
    ours, plain = model.track(with_time(2, px), None, use_max_loc), plain_model.track(model, 2, px, use_max_loc)
    assert plain.occlusion.max() > 0.05
    torch.testing.assert_close(ours.px, plain.px, atol=1e-3, rtol=0)
    torch.testing.assert_close(ours.depth, plain.depth, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.occlusion, plain.occlusion, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["affine", "both"])
@pytest.mark.parametrize("chunk_size", [10000, 8])
def test_queries_of_several_frames_are_tracked_as_those_of_one(kind, chunk_size):
    model = with_dense_regions(make_lively(make_model(torch.float32, num_samples_ray=24, **KINDS[kind])))
    largest = 0

    def note_samples(_, inputs: tuple[torch.Tensor]) -> None:
        nonlocal largest
        largest = max(largest, inputs[0].shape[:-1].numel())

    model.volume.register_forward_pre_hook(note_samples)
    generator = torch.Generator().manual_seed(4)
    px = torch.rand(24, 2, generator=generator) * torch.tensor([55.0, 39.0])
    times = torch.tensor([5] * 15 + [0] * 8 + [3])[torch.randperm(24, generator=generator)]
    tracks = model.track(torch.cat([times[:, None], px], -1), chunk_size=chunk_size)
    assert largest <= 2 * chunk_size * 24  # blocks have padding
    for t in (0, 3, 5):
        plain, rows = plain_model.track(model, t, px[times == t]), times == t
        torch.testing.assert_close(tracks.px[:, rows], plain.px, atol=1e-3, rtol=0)
        torch.testing.assert_close(tracks.depth[:, rows], plain.depth, atol=1e-4, rtol=0)
        torch.testing.assert_close(tracks.occlusion[:, rows], plain.occlusion, atol=1e-4, rtol=0)


def test_dense_tracks_are_tracks_of_every_pixel():
    model = make_model(torch.float32)
    frames = model.dense_tracks(3, [1, 6], chunk_size=500)
    px = pixel_grid(40, 56).flatten(0, 1)
    tracks = model.map_points(3, px, [1, 6], with_occlusion=False).px
    for dense, sparse in zip(frames, tracks, strict=True):
        torch.testing.assert_close(dense.flatten(0, 1), sparse, atol=1e-3, rtol=0)
