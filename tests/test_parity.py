"""Parity with the released implementation: same weights, same batch, same depths, same numbers."""

import json
import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from criterion import weighted_sum
from loaders.batches import Batch
from networks.checkpoints import save_checkpoint
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion, load_model
from networks.prediction import SCENE_FLOW_SUBSAMPLE
from networks.released_checkpoint import NETS, convert, load_released_checkpoint, our_name
from networks.rendering import composite, points_on_rays, project
from tests.oracles.relu_sides import UNDECIDED, Gradients, ReluSides, Unit, search_sides
from trainer import batch_losses
from utils.coords import with_time
from utils.errors import InputError

pytestmark = pytest.mark.parity
WHOLE = {  # gradients that the golden file holds whole, by our names
    "grad_color_out": "volume.net.output.weight",
    "grad_deform_l0": "warp.layers.0.scale_shift.0.weight",
    "grad_feat_l0": "warp.code_net.linears.0.weight",
}
CLIP = ModelConfig(1, 48, 72)  # of a clip that the checkpoint could be of: it holds no size


@pytest.fixture(scope="module")
def numbers(golden, device):
    with np.load(golden / "golden_model.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])).to(device) for key in file.files}


@pytest.fixture(scope="module")
def official(golden):
    return torch.load(golden / "model_000060.pth", weights_only=True)


def clip_of(numbers) -> ModelConfig:
    """The size of the golden clip, which its checkpoint does not hold."""
    return ModelConfig(1, int(numbers["h"]), int(numbers["w"]))


@pytest.fixture(scope="module")
def model(official, numbers, device) -> OmniMotion:
    return load_model(convert(official, clip_of(numbers))).to(device)


@pytest.fixture(scope="module")
def batch(numbers) -> Batch:
    return Batch(
        src_ids=numbers["batch_ids1"],
        tgt_ids=numbers["batch_ids2"],
        src_px=numbers["batch_pts1"],
        tgt_px=numbers["batch_pts2"],
        src_rgb=numbers["batch_gt_rgb1"],
        weights=numbers["batch_weights"][..., 0],
    )


def test_intermediate_tensors(model, batch, numbers):
    height, width = model.config.height, model.config.width
    x_src = points_on_rays(batch.src_px, numbers["depths"], height, width)
    rays = model.render_rays(x_src, batch.src_ids)
    x_tgt = model.warp.to_local(rays.x_canonical, batch.tgt_ids)
    weights = rays.weights * ((x_tgt[..., 2] >= 0) & (x_tgt[..., 2] <= 2))
    x_pred = composite(weights, x_tgt)
    torch.testing.assert_close(x_src, numbers["out_x1s"], rtol=0, atol=1e-4)
    torch.testing.assert_close(rays.x_canonical, numbers["out_xs_canonical"], rtol=0, atol=1e-4)
    torch.testing.assert_close(rays.alphas, numbers["out_alphas"], rtol=0, atol=1e-4)
    torch.testing.assert_close(weights, numbers["out_blending_weights"], rtol=0, atol=1e-4)
    torch.testing.assert_close(x_pred, numbers["out_x2s_pred"], rtol=0, atol=1e-4)
    torch.testing.assert_close(x_pred[..., 2:], numbers["out_px2s_proj_depths"], rtol=0, atol=1e-4)
    torch.testing.assert_close(project(x_pred, height, width), numbers["out_px2s_proj"], rtol=0, atol=1e-4)


def golden_weights(numbers) -> dict[str, float]:
    return {
        "flow": 1.0,
        "rgb": float(numbers["w_rgb"]),
        "rgb_gradient": float(numbers["w_rgb"]),
        "depth_range": float(numbers["w_depth_range"]),
        "distortion": float(numbers["w_distortion"]),
        "scene_flow_smoothness": float(numbers["w_scene_flow_smooth"]),
        "canonical_unit_sphere": 0.0,
        "flow_gradient": float(numbers["w_flow_grad"]),
    }


def test_losses(model, batch, numbers, record_property):
    terms = batch_losses(model, batch, numbers["depths"])
    # The golden file has the gradient of colours in its total alone.
    golden = {name: numbers[f"loss_loss_{name}"] for name in terms if name != "rgb_gradient"}
    record_property("losses, relative error", max(_relative(terms[name], golden[name]).item() for name in golden))
    for name, value in golden.items():
        torch.testing.assert_close(terms[name].double(), value, rtol=1e-4, atol=1e-6)
    total = weighted_sum(terms, golden_weights(numbers))
    torch.testing.assert_close(total.double(), numbers["loss_Loss"], rtol=1e-4, atol=1e-6)


def golden_gradients(model, batch, numbers, sides: ReluSides) -> Gradients:
    """Return gradients of the golden total by our parameters' names, on the CPU."""
    sides.start()
    model.zero_grad()
    weighted_sum(batch_losses(model, batch, numbers["depths"]), golden_weights(numbers)).backward()
    return {name: parameter.grad.cpu().clone() for name, parameter in model.named_parameters()}


def effects_of_flips(model, batch, numbers, sides: ReluSides, units: list[Unit]) -> dict[Unit, Gradients]:
    """Return what the flip of each unit adds to the gradients, on the CPU, by a pass through its point alone."""
    depths = numbers["depths"]
    names, parameters = zip(*model.named_parameters(), strict=True)
    arriving = {unit: sides.slope_change(unit) * sides.gradient(unit) for unit in units}
    shapes = {unit: sides.inputs[unit.call].shape for unit in arriving}
    effects = {}
    for unit, gradient in arriving.items():
        pair, point, row = place_alone(unit, shapes[unit], depths.shape)
        points = [point] * SCENE_FLOW_SUBSAMPLE  # so many that the smoothness term looks at the first
        alone = batch.pairs(pair, pair + 1)
        alone = replace(alone, **{n: getattr(alone, n)[:, points] for n in ("src_px", "tgt_px", "src_rgb", "weights")})
        sides.start()
        batch_losses(model, alone, depths[pair : pair + 1, points])
        x = sides.inputs[unit.call].flatten(0, -2)[row, unit.index[-1]]
        parts = torch.autograd.grad(x, parameters, allow_unused=True)
        effects[unit] = {
            name: (gradient * part).cpu() for name, part in zip(names, parts, strict=True) if part is not None
        }
    return effects


def place_alone(unit: Unit, shape: torch.Size, depths_shape) -> tuple[int, int, int]:
    """Return a pair and point that a unit belongs to, and its row in the same call for that point alone."""
    num_pairs, num_pts, num_samples = depths_shape
    flat, rows = int(np.ravel_multi_index(unit.index[:-1], shape[:-1])), math.prod(shape[:-1])
    if rows == 4 * num_pairs:  # the code's networks: source, target and neighbouring frames of all pairs
        frame, pair = divmod(flat, num_pairs)
        return pair, 0, frame
    if rows == num_pairs * num_pts * num_samples:
        ray, sample = divmod(flat, num_samples)
        return ray // num_pts, ray % num_pts, sample
    of_neighbours = 2, num_pairs, num_pts // SCENE_FLOW_SUBSAMPLE, num_samples
    assert rows == math.prod(of_neighbours)
    side, pair, point, sample = (int(index) for index in np.unravel_index(flat, of_neighbours))
    return pair, point, side * num_samples + sample


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients(model, batch, numbers, monkeypatch, dtype, record_property):
    """Every norm is within 1e-3, with undecided units on the released run's sides (see `tests.oracles.relu_sides`).

    float64 has some units on other sides than float32, so that it needs the search on any processor.
    """
    model = deepcopy(model).to(dtype)
    numbers = {key: value.to(dtype) if value.is_floating_point() else value for key, value in numbers.items()}
    batch = Batch(*(v.to(dtype) if v.is_floating_point() else v for v in vars(batch).values()))
    expected = {key: value.cpu() for key, value in numbers.items()}
    norms = {our_name(key.removeprefix("gradnorm_")): key for key in numbers if key.startswith("gradnorm_")}
    assert set(norms) == {name for name, _ in model.named_parameters()}

    def errors(gradients: Gradients) -> torch.Tensor:
        """Return relative errors of all norms, then of the three gradients that are stored whole."""
        norm_errors = [_relative(gradients[name].norm(), expected[key].to(dtype)) for name, key in norms.items()]
        return torch.stack(norm_errors + [_relative(gradients[name], expected[key]) for key, name in WHOLE.items()])

    sides = ReluSides(monkeypatch)
    gradients = plain = golden_gradients(model, batch, numbers, sides)
    for bound in UNDECIDED:
        if errors(gradients).max() <= 1e-3:
            break
        sides.flipped.clear()
        golden_gradients(model, batch, numbers, sides)
        units = sides.undecided(bound)
        assert len(units) <= 250  # of 31 million: all others are decided
        effects = effects_of_flips(model, batch, numbers, sides, units)
        sides.flipped = search_sides(plain, effects, lambda found: errors(found).norm())
        gradients = golden_gradients(model, batch, numbers, sides)
    record_property(f"gradients, relative error, {dtype}", errors(gradients).max().item())
    assert errors(gradients).max() <= 1e-3


def _relative(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    return (ours - theirs).norm() / (theirs.norm() + 1e-6)  # below 1e-6 a gradient is rounding


@pytest.mark.parametrize(("use_max_loc", "key"), [(True, "track_maxloc"), (False, "track_composited")])
def test_tracks(model, numbers, use_max_loc, key, record_property):
    query, px = int(numbers["query_id"]), numbers["query_px"]
    tracks = model.track(with_time(query, px), None, use_max_loc)
    record_property(f"{key}, median error, px", (tracks.px - numbers[key]).norm(dim=-1).median().item())
    # Where the two largest weights tie, rounding decides which sample is taken.
    assert share_beyond((tracks.px - numbers[key]).norm(dim=-1), 0.01) <= 0.01
    if use_max_loc:
        assert share_beyond((tracks.depth - numbers["track_depth"]).abs(), 1e-4) <= 0.01
        assert share_beyond((tracks.occlusion - numbers["occlusion_score"]).abs(), 1e-4) <= 0.01
    rgb, depth = model.render(query, px)
    torch.testing.assert_close(rgb, numbers["render_rgb"], rtol=0, atol=1e-4)
    torch.testing.assert_close(depth, numbers["render_depth"][:, 0], rtol=0, atol=1e-4)


def share_beyond(errors: torch.Tensor, bound: float) -> float:
    return (~(errors <= bound)).float().mean().item()


def test_every_official_key_has_its_place(golden, model):
    keys = json.loads((golden / "official_keys.json").read_text())
    ours = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    official = {
        our_name(f"{net}.{key}"): shape for net in NETS for key, shape in keys[net].items() if not key.endswith(".mask")
    }
    assert official == ours


def test_moments_follow_their_parameters(official, numbers):
    ours = convert(official, clip_of(numbers))
    model = load_model(ours)
    groups = model.named_parameter_groups()
    optimizer = torch.optim.Adam([{"params": list(group.values())} for group in groups.values()])
    optimizer.load_state_dict(ours["optimizer"])
    names = [f"{net}.{key}" for net in NETS for key in official[net] if not key.endswith(".mask")]
    parameters = dict(model.named_parameters())
    for index, name in enumerate(names):
        moments = optimizer.state[parameters[our_name(name)]]
        assert torch.equal(moments["exp_avg"], official["optimizer"]["state"][index]["exp_avg"])
        assert torch.equal(moments["exp_avg_sq"], official["optimizer"]["state"][index]["exp_avg_sq"])
    assert [group["lr"] for group in optimizer.param_groups] == official["scheduler"]["_last_lr"]
    assert ours["step"] == official["scheduler"]["last_epoch"]


def without_masks(official: dict) -> dict:
    deform = {key: value for key, value in official["deform_mlp"].items() if not key.endswith(".mask")}
    return {**official, "deform_mlp": deform}


def test_order_of_couplings_without_masks_is_rebuilt(official):
    assert convert(without_masks(official), CLIP)["model_config"] == convert(official, CLIP)["model_config"]


def test_order_of_couplings_of_another_seed_is_refused(official):
    code = {k: v.flip(0) if k.endswith("linear.weight") else v for k, v in official["feature_mlp"].items()}
    with pytest.raises(InputError, match="cannot be rebuilt"):
        convert({**without_masks(official), "feature_mlp": code}, CLIP)


@pytest.mark.parametrize("entry", ["num_imgs", "optimizer", "scheduler"])
def test_an_incomplete_released_file_is_refused(official, entry, tmp_path):
    save_checkpoint(tmp_path / "model.pth", {key: value for key, value in official.items() if key != entry})
    with pytest.raises(InputError, match=f"lacks '{entry}'"):
        load_released_checkpoint(tmp_path / "model.pth", CLIP)


def test_file_is_read_as_ours(golden, numbers):
    state = load_released_checkpoint(golden / "model_000060.pth", clip_of(numbers))
    assert state["model_config"]["num_frames"] == int(numbers["num_imgs"])
