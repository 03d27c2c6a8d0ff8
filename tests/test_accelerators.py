"""Options that make steps faster on an accelerator change the numbers by no more than their precision."""

import shutil
from functools import partial
from typing import Any

import pytest
import torch

from networks.runtime import configure_runtime, require_compiler
from tests.test_same_computation import gradients, make_batch, make_model, rays_of
from trainer import batch_losses
from utils.coords import with_time
from utils.errors import InputError

WIDE: dict[str, Any] = {
    "coupling_width": 64,
    "volume_width": 256,
    "affine_width": 64,
    "code_size": 32,
    "code_width": 64,
}


@pytest.mark.parametrize("planes", [{}, {"volume_plane_size": 16, "volume_depth": 2}], ids=["GaborNet", "planes"])
def test_bfloat16_in_the_volume_keeps_losses_and_leaves_the_warp_alone(planes):
    model, batch = make_model(torch.float32, **WIDE, **planes), make_batch(torch.float32, num_pts=32)
    depths = rays_of(model, batch)
    exact = batch_losses(model, batch, depths)
    exact_gradients = gradients(model, exact)
    model.volume.amp = True
    ours = batch_losses(model, batch, depths)
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
    kept = batch_losses(model, batch, depths)
    expected = gradients(model, kept)
    model.checkpoint_activations()
    ours = batch_losses(model, batch, depths)
    torch.testing.assert_close(ours, kept, rtol=1e-5, atol=1e-7)
    errors = [(a - b).norm() / b.norm() for a, b in zip(gradients(model, ours), expected, strict=True)]
    assert max(errors) < 0.03


def assert_compiled_is_uncompiled(**sizes: Any) -> None:
    """Losses, gradients and tracks of compiled networks: whole batches, and checkpointed in parts of another size."""
    model, px = make_model(torch.float32, **sizes), torch.rand(20, 2, generator=torch.Generator().manual_seed(0)) * 39
    batches = [make_batch(torch.float32, num_pts) for num_pts in (9, 16)]
    expected = [batch_losses(model, batch, rays_of(model, batch)) for batch in batches]
    expected_gradients = [gradients(model, terms) for terms in expected]
    expected_px = model.track(with_time(2, px)).px
    model.compile_networks()
    for batch, terms, exact, micro_batch in zip(batches, expected, expected_gradients, (0, 4), strict=True):
        ours = batch_losses(model, batch, rays_of(model, batch), micro_batch=micro_batch)
        torch.testing.assert_close(ours, terms, rtol=1e-4, atol=1e-6)
        errors = [(a - b).norm() / b.norm() for a, b in zip(gradients(model, ours), exact, strict=True)]
        assert torch.stack(errors).median() < 1e-3  # near a ReLU's zero, rounding may choose the other side
        model.checkpoint_activations()
    torch.testing.assert_close(model.track(with_time(2, px)).px, expected_px, rtol=0, atol=1e-2)


@pytest.mark.parametrize("planes", [{}, {"plane_size": 6, "volume_plane_size": 8, "volume_depth": 2}])
def test_traced_networks_are_the_networks(monkeypatch, planes):
    """All of torch.compile but its kernels, which take minutes to build; too many recompilations are an error."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    torch.compiler.reset()
    assert_compiled_is_uncompiled(**planes)


def test_tf32_is_used_where_it_is_asked_for_alone():
    for used in (True, False):
        model = make_model(torch.float32)
        configure_runtime(model, compile=False, checkpoint_activations=False, amp=False, tf32=used)
        assert torch.backends.cuda.matmul.allow_tf32 is used


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler")
def test_compiled_networks_are_the_networks():
    torch.compiler.reset()
    assert_compiled_is_uncompiled()


def test_a_missing_compiler_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nowhere/c++",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    with pytest.raises(InputError, match=r"--compile: .* for cpu here .*leave --compile out"):
        require_compiler(torch.device("cpu"))
