"""What makes steps cheaper on an accelerator leaves the numbers where they have to be."""

import torch
from test_same_computation import gradients, make_batch, make_model, rays_of

from losses import compute_losses

WIDE = {"coupling_width": 64, "volume_width": 256, "affine_width": 64, "code_size": 32, "code_width": 64}


def test_bfloat16_in_the_volume_keeps_losses_and_leaves_the_warp_alone():
    model, batch = make_model(torch.float32, **WIDE), make_batch(torch.float32, num_pts=32)
    depths = rays_of(model, batch)
    exact = compute_losses(model, batch, depths)
    exact_gradients = gradients(model, exact)
    model.volume.amp = True
    ours = compute_losses(model, batch, depths)
    torch.testing.assert_close(ours, exact, rtol=3e-4, atol=1e-6)
    for name in ("scene_flow_smoothness", "canonical_unit_sphere", "depth_range"):
        assert ours[name] == exact[name], "the warp alone decides it"
    assert ours["rgb"] != exact["rgb"], "nothing is in bfloat16"
    errors = [(a - b).norm() / b.norm() for a, b in zip(gradients(model, ours), exact_gradients, strict=True)]
    assert max(errors) < 0.03


def test_bfloat16_recomputed_is_bfloat16_kept():
    model, batch = make_model(torch.float32, **WIDE), make_batch(torch.float32)
    model.volume.amp = True
    depths = rays_of(model, batch)
    kept = compute_losses(model, batch, depths)
    expected = gradients(model, kept)
    model.checkpoint_activations()
    ours = compute_losses(model, batch, depths)
    torch.testing.assert_close(ours, kept, rtol=1e-5, atol=1e-7)
    errors = [(a - b).norm() / b.norm() for a, b in zip(gradients(model, ours), expected, strict=True)]
    assert max(errors) < 0.03
