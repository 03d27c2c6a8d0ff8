"""The model and its losses written plainly, nothing computed once for many: oracle of tests, reference of benchmarks.

Functions of our model's parameters. A frame's code is computed again for every call, repeated for every sample and
concatenated with the encoding; the smoothness term warps its points to the canonical volume a second time; tracking
evaluates source and target rays anew for every target frame; nothing works in place.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loaders.batches import Batch
from networks.coupling import CouplingLayer
from networks.frame_affine import FrameAffine
from networks.gabor import GaborNet
from networks.omnimotion import OmniMotion
from networks.planes import SpaceTimePlanes, TriPlane
from networks.tracks import Tracks


def affine_map(linear: nn.Linear, x: Tensor) -> Tensor:
    """Return W·x + b by torch's own product."""
    return F.linear(x, linear.weight, linear.bias)


def gabor_net(net: GaborNet, x: Tensor) -> Tensor:
    """Return the outputs [*,size_out] at x [*,size_in], with distances as |x|² + |μ|² − 2x·μ."""

    def filtered(k: int) -> Tensor:
        gabor = net.filters[k]
        distance = x.square().sum(-1, keepdim=True) + gabor.mu.square().sum(-1) - 2 * x @ gabor.mu.T
        return torch.sin(affine_map(gabor.linear, x)) * torch.exp(-0.5 * distance * gabor.gamma)

    z = filtered(0)
    for k, linear in enumerate(net.linears):
        z = filtered(k + 1) * affine_map(linear, z)
    return affine_map(net.output, z)


def run_mlp(net: nn.Sequential, x: Tensor) -> Tensor:
    """Apply the layers of a perceptron one after the other, none in place."""
    for layer in net:
        if isinstance(layer, nn.Linear):
            x = affine_map(layer, x)
        else:
            x = F.relu(x) if isinstance(layer, nn.ReLU) else F.leaky_relu(x)
    return x


def waves(x: Tensor, num_freqs: int) -> list[Tensor]:
    """Return the sines and the cosines of all octaves of x [*,1], each [*,F]."""
    angles = torch.cat([x * (torch.pi * 2**k) for k in range(num_freqs)], -1)
    return [angles.sin(), angles.cos()]


def planes_of(planes: SpaceTimePlanes, time: Tensor) -> Tensor:
    """Return planes [P,C,h,w] at time codes [P]: sums over all moments, weighted by a B-spline of the distance."""
    frame = (time * planes.num_frames - 1).clamp(0, planes.num_frames - 1)
    moment = frame / (planes.num_frames - 1) * (len(planes.features) - 3)
    weights = cubic_hat(moment[:, None] + 1 - torch.arange(len(planes.features)))
    return (weights[:, :, None, None, None] * planes.features).sum(1)


def cubic_hat(x: Tensor) -> Tensor:
    """Return the cubic B-spline centred at 0 by its truncated powers: Σ_i (−1)^i (4 over i) (x + 2 − i)₊³ / 6."""
    return sum((-1) ** i * math.comb(4, i) * (x + 2 - i).clamp(min=0) ** 3 for i in range(5)) / 6


def bilinear(planes: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return bilinear features [P,*,C] of planes [P,C,h,w] at x, y [P,*]; −1 and 1 are the border cells' centres."""
    height, width = planes.shape[-2:]
    column, row = (x.clamp(-1, 1) + 1) / 2 * (width - 1), (y.clamp(-1, 1) + 1) / 2 * (height - 1)
    plane = torch.arange(len(planes)).view(-1, *[1] * (x.ndim - 1))
    features = torch.zeros(())
    for i in (row.floor(), row.floor() + 1):
        for j in (column.floor(), column.floor() + 1):
            share = (1 - (row - i).abs()) * (1 - (column - j).abs())
            cell = planes[plane, :, i.long().clamp(max=height - 1), j.long().clamp(max=width - 1)]
            features = features + share.unsqueeze(-1) * cell
    return features


def couple(layer: CouplingLayer, x: Tensor, code: Tensor, time: Tensor, sign: int) -> Tensor:
    """Apply one coupling to x [P,N,K,3] given time codes [P,1,1,1] and ψ [P,C]; sign −1 to canonical, 1 back."""
    kept = [x[..., axis : axis + 1] for axis in layer.kept]
    encoding = torch.cat(kept + [wave for v in kept for wave in waves(v, layer.num_freqs)], -1)
    encoding = affine_map(layer.encode, encoding)
    if layer.planes is not None:
        a, b = ((x[..., axis] - (1 if axis == 2 else 0)) / 1.1 for axis in layer.kept)  # depth is around 1
        encoding = encoding + affine_map(layer.look_up, bilinear(planes_of(layer.planes, time.flatten()), a, b))
    encoding = F.leaky_relu(encoding)
    code = run_mlp(layer.code_mlp, code)[:, None, None].expand(*x.shape[:-1], -1)
    log_scale, shift = run_mlp(layer.scale_shift, torch.cat([code, encoding], -1)).unbind(-1)
    bound, value = layer.soft_bound, x[..., layer.axis]
    log_scale = bound * torch.tanh(log_scale / bound) if bound else log_scale.clamp(-8, 8)
    shift = 2 * bound * torch.tanh(shift / (2 * bound)) if bound else shift
    value = (value - shift) * torch.exp(-log_scale) if sign < 0 else value * torch.exp(log_scale) + shift
    coordinates = list(x.clone().unbind(-1))
    coordinates[layer.axis] = value
    return torch.stack(coordinates, -1)


def affine(net: FrameAffine, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Return the matrix [P,N,K,2,2] and shift [P,N,K,2] of every sample."""
    z = x[..., 2:]
    octaves = [z * torch.pi * 2**k for k in range(net.num_freqs)]
    interleaved = [wave for octave in octaves for wave in (octave.sin(), octave.cos())]
    theta = run_mlp(net.theta, torch.cat([*interleaved, time.expand_as(z), z], -1))
    angle, scale, shift = theta[..., 0], theta[..., [1, 3]].exp(), theta[..., [2, 4]]
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).unflatten(-1, (2, 2))
    return scale.unsqueeze(-1) * rotation, shift


def times_and_codes(model: OmniMotion, ids: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return (i + 1)/N as [P,1,1,1] and ψ [P,C]."""
    time = ((ids + 1) / model.config.num_frames).to(like.dtype)[:, None]
    return time[:, None, None], gabor_net(model.warp.code_net, time)


def to_canonical(model: OmniMotion, x: Tensor, ids: Tensor) -> Tensor:
    """Map local points [P,N,K,3] of frames [P] to the canonical volume."""
    time, code = times_and_codes(model, ids, x)
    if model.warp.affine is not None:
        matrix, shift = affine(model.warp.affine, x, time)
        x = torch.cat([(matrix @ x[..., :2, None])[..., 0] + shift, x[..., 2:]], -1)
    for layer in model.warp.layers:
        x = couple(layer, x, code, time, -1)
    return x


def to_local(model: OmniMotion, x: Tensor, ids: Tensor) -> Tensor:
    """Map canonical points [P,N,K,3] to frames [P]."""
    time, code = times_and_codes(model, ids, x)
    for layer in reversed(model.warp.layers):
        x = couple(layer, x, code, time, 1)
    if model.warp.affine is not None:
        matrix, shift = affine(model.warp.affine, x, time)
        x = torch.cat([(torch.linalg.inv(matrix) @ (x[..., :2] - shift)[..., None])[..., 0], x[..., 2:]], -1)
    return x


def three_planes(planes: TriPlane, x: Tensor) -> Tensor:
    """Return features [*,3C] of the planes of (x, y), (x, z) and (y, z) at points [*,3] in [−1, 1]."""
    pairs = zip(planes.features, ((0, 1), (0, 2), (1, 2)), strict=True)
    return torch.cat([bilinear(plane[None], x[None, ..., a], x[None, ..., b])[0] for plane, (a, b) in pairs], -1)


def volume(model: OmniMotion, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return colours [*,3] and alphas [*] at canonical points [*,3]."""
    norm = torch.linalg.norm(x, dim=-1, keepdim=True).clamp(min=1e-9)
    contracted = torch.where(norm <= 1, x, (2 - 1 / norm) * (x / norm))
    planes, net = model.volume.planes, model.volume.net
    if isinstance(net, GaborNet):
        out = gabor_net(net, contracted)
    else:
        assert planes is not None
        out = run_mlp(net, three_planes(planes, contracted / 2))
    return torch.sigmoid(out[..., :3]), 1 - torch.exp(-F.softplus(out[..., 3] - 1))


def blend(alphas: Tensor) -> Tensor:
    """Return the weights T·α along the last axis."""
    through = torch.cumprod(torch.cat([torch.ones_like(alphas[..., :1]), 1 - alphas + 1e-10], -1), -1)
    return alphas * through[..., :-1]


def pixels_to_rays(model: OmniMotion, px: Tensor, depths: Tensor) -> Tensor:
    """Return samples [P,N,K,3] on the rays of pixels [P,N,2]."""
    size = px.new_tensor([model.config.width - 1, model.config.height - 1])
    xy = (2 * px / size - 1).unsqueeze(-2).repeat(1, 1, depths.shape[-1], 1)
    return torch.cat([xy, depths.unsqueeze(-1)], -1)


def rays_to_pixels(model: OmniMotion, x: Tensor) -> Tensor:
    """Project local points [*,3] to pixels [*,2]."""
    return (x[..., :2] + 1) / 2 * x.new_tensor([model.config.width - 1, model.config.height - 1])


def inside(model: OmniMotion, px: Tensor) -> Tensor:
    """Return which pixels [*,2] lie in the image."""
    x, y = px.unbind(-1)
    return (x >= 0) & (x <= model.config.width - 1) & (y >= 0) & (y <= model.config.height - 1)


def losses(model: OmniMotion, batch: Batch, depths: Tensor, mask_near: bool = False) -> dict[str, Tensor]:
    """Return all loss terms but the depth prior."""
    x_src = pixels_to_rays(model, batch.src_px, depths)
    x_canonical = to_canonical(model, x_src, batch.src_ids)
    rgbs, alphas = volume(model, x_canonical)
    if mask_near:
        alphas = torch.where(torch.arange(alphas.shape[-1]) < int(alphas.shape[-1] * 0.2), 0.0, alphas)
    weights = blend(alphas)
    rgb = (weights.unsqueeze(-1) * rgbs).sum(-2)
    x_tgt = to_local(model, x_canonical, batch.tgt_ids)
    z = x_tgt[..., 2]
    weights = torch.where((z < 0) | (z > 2), 0.0, weights)
    pred_px = rays_to_pixels(model, (weights.unsqueeze(-1) * x_tgt).sum(-2))
    seen, in_source = inside(model, pred_px), inside(model, batch.src_px)
    pred_px, tgt_px, pair_weights = pred_px[seen], batch.tgt_px[seen], batch.weights[seen]
    residuals = (pred_px - tgt_px).abs().mean(-1)
    kept = below_largest(residuals)
    along = ((pred_px[1:] - pred_px[:-1]) - (tgt_px[1:] - tgt_px[:-1])).abs().mean(-1)
    along_weights, along_kept = pair_weights[1:] * pair_weights[:-1], below_largest(along)
    rgb, gt_rgb = rgb[in_source], batch.src_rgb[in_source]
    rgb_along = ((rgb[1:] - rgb[:-1]) - (gt_rgb[1:] - gt_rgb[:-1])).abs().mean(-1)
    outside_sphere = torch.linalg.norm(x_canonical, dim=-1) ** 2 - 1
    outside_sphere = outside_sphere[outside_sphere >= 0]
    return {
        "flow": (residuals * pair_weights)[kept].mean(),
        "rgb": F.mse_loss(rgb, gt_rgb),
        "rgb_gradient": rgb_along[below_largest(rgb_along)].mean(),
        "depth_range": (F.relu(-z) ** 2 + F.relu(z - 2) ** 2).sum() / z.numel(),
        "distortion": distortion(depths, weights),
        "scene_flow_smoothness": smoothness(model, batch.src_ids, x_src),
        "canonical_unit_sphere": (outside_sphere**2).sum() / max(len(outside_sphere), 1),
        "flow_gradient": (along * along_weights)[along_kept].sum() / (along_weights[along_kept].sum() + 1e-8),
    }


def below_largest(residuals: Tensor) -> Tensor:
    """Return which residuals lie strictly below the largest."""
    return residuals < torch.quantile(residuals.detach(), 1)


def distortion(depths: Tensor, weights: Tensor) -> Tensor:
    """Return mip-NeRF 360's double sum over all pairs of a ray's samples."""
    ends = torch.cat([depths, depths[..., -1:]], -1)
    middles, lengths = (ends[..., 1:] + ends[..., :-1]) / 2, ends[..., 1:] - ends[..., :-1]
    gaps = (middles.unsqueeze(-1) - middles.unsqueeze(-2)).abs()
    between = (weights * (weights.unsqueeze(-2) * gaps).sum(-1)).sum(-1)
    return (between + (weights**2 * lengths).sum(-1) / 3).mean()


def smoothness(model: OmniMotion, ids: Tensor, x_src: Tensor) -> Tensor:
    """Return the second differences of the first quarter of the points, each warped to all three frames."""
    chosen = (ids >= 1) & (ids < model.config.num_frames - 1)
    x, ids = x_src[chosen][:, : x_src.shape[1] // 4], ids[chosen]
    x_canonical = to_canonical(model, x, ids)
    before, after = to_local(model, x_canonical, ids - 1), to_local(model, x_canonical, ids + 1)
    residuals = ((x - before) - (after - x)).abs().mean(-1).flatten()
    return residuals[below_largest(residuals)].mean()


def train_step(
    model: OmniMotion, optimizer: torch.optim.Optimizer, batch: Batch, depths: Tensor, factors: dict[str, float]
) -> dict[str, float]:
    """Do one update with every term computed, checked and fetched on its own."""
    terms = losses(model, batch, depths)
    if not all(torch.isfinite(term).item() for term in terms.values()):
        raise FloatingPointError("a loss is not finite")
    total = torch.stack([factor * terms[name] for name, factor in factors.items()]).sum()
    optimizer.zero_grad()
    total.backward()
    for parameter in model.parameters():
        if parameter.grad is None or not torch.isfinite(parameter.grad).all().item():
            raise FloatingPointError("a gradient is not finite")
    optimizer.step()
    return {name: term.item() for name, term in terms.items()}


@torch.no_grad()
def track(model: OmniMotion, query: int, px: Tensor, use_max_loc: bool = True, with_occlusion: bool = True) -> Tracks:
    """Track pixels [N,2] of frame `query` through all frames, everything evaluated for each of them."""
    depths = torch.linspace(model.config.min_depth, model.config.max_depth, model.config.num_samples_ray)
    everywhere = depths.expand(1, len(px), -1)
    points, scores = [], []
    for frame in range(model.config.num_frames):
        x_canonical = to_canonical(model, pixels_to_rays(model, px[None], everywhere), torch.tensor([query]))
        weights = blend(volume(model, x_canonical)[1])[0]
        x_tgt = to_local(model, x_canonical, torch.tensor([frame]))[0]
        if use_max_loc:
            point = x_tgt[torch.arange(len(px)), weights.argmax(-1)]
        else:
            point = (weights.unsqueeze(-1) * x_tgt).sum(-2)
        points.append(point)
        score = torch.zeros(len(px))
        if with_occlusion:
            tgt_px = rays_to_pixels(model, point)
            rays = pixels_to_rays(model, tgt_px[None], everywhere)
            weights = blend(volume(model, to_canonical(model, rays, torch.tensor([frame])))[1])[0]
            margin = 1.1 * (model.config.max_depth - model.config.min_depth) / len(depths)
            score = (weights * (depths < point[:, 2:] - margin)).sum(-1)
        scores.append(score)
    x_tgt, occlusion = torch.stack(points), torch.stack(scores)
    tracks = Tracks(rays_to_pixels(model, x_tgt), x_tgt[..., 2], occlusion)
    tracks.px[query], tracks.occlusion[query] = px, 0
    return tracks
