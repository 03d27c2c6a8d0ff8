"""The pictures of a training run for TensorBoard."""

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from loaders.flow_store import FlowStore
from networks.omnimotion import OmniMotion
from networks.tracks import TrackingOptions
from utils.figures import figure_image
from visualization.colors import depth_to_color, flow_to_color, to_uint8
from visualization.dense import evenly_spread_px
from visualization.grid import draw_correspondences
from visualization.legends import with_depth_bar
from visualization.query_points import grid_points

CORRESPONDENCES = 40  # lines between two frames; more would not be legible
LOG_SIDE = {"cpu": 80}  # pixels: longest side of dense pictures, which then take seconds instead of minutes
DEFAULT_LOG_SIDE = 240
MAX_GROUPS = 28  # of the weight figure; more would not be legible
TINY = 1e-12  # ends of the figure's logarithmic axes: zero and infinite weights must not break the picture


def training_images(
    model: OmniMotion,
    video: NDArray[np.uint8],
    store: FlowStore | None,
    step: int,
    *,
    seed: int,
    start_interval: int,
    tracking: TrackingOptions,
) -> dict[str, NDArray[np.uint8]]:
    """Draw the model at one step of its training.

    Args:
        model: The networks in training.
        video: The frames [T,H,W,3].
        store: The input flow, None without any.
        step: Training step; with `seed`, it determines the random frames.
        seed: Seed of the random frames.
        start_interval: Largest frame gap of the pair that is shown as `trained`.
        tracking: How points are tracked, and when they are occluded.

    Returns:
        uint8 RGB [h,w,3] by TensorBoard tag: `correspondence/*` (points of the first frame in later ones, and of a
        random pair), `depth` and `images` (truth above prediction) and, with a `store`, `flow` (input above
        prediction, to the next frame) of a random frame; `weight_stats`, the `weight_figure`.
    """
    num_frames = len(video)
    rng = np.random.default_rng([seed, step])
    i = int(rng.integers(num_frames - 1))
    partner = int(np.clip(i + rng.integers(1, start_interval + 1), 0, num_frames - 1))
    pairs = {
        "trained": (i, partner),
        "fix_10": (0, min(10, num_frames - 1)),
        "fix_half": (0, num_frames // 2),
        "fix_whole": (0, num_frames - 1),
    }
    images = {f"correspondence/{name}": _correspondences(model, video, *pair, tracking) for name, pair in pairs.items()}
    return images | _dense_images(model, video, store, i, tracking) | {"weight_stats": weight_figure(model)}


def _correspondences(
    model: OmniMotion, video: NDArray[np.uint8], i: int, j: int, tracking: TrackingOptions
) -> NDArray[np.uint8]:
    _, height, width, _ = video.shape
    px = grid_points(height, width, CORRESPONDENCES)
    tracks = model.map_points(i, torch.from_numpy(px), [j], tracking.use_max_loc, tracking.chunk_size)
    occluded = tracks.occluded(tracking.occlusion_th, height, width)[0].cpu().numpy()
    return draw_correspondences(video[i], video[j], px, tracks.px[0].cpu().numpy(), occluded)


def _dense_images(
    model: OmniMotion, video: NDArray[np.uint8], store: FlowStore | None, i: int, tracking: TrackingOptions
) -> dict[str, NDArray[np.uint8]]:
    """Draw flow to the next frame, depth and colour of frame i, at a reduced size."""
    _, height, width, _ = video.shape
    px, (rows, cols) = evenly_spread_px((height, width), LOG_SIDE.get(model.device.type, DEFAULT_LOG_SIDE))
    tracks = model.map_points(i, px, [i + 1], tracking.use_max_loc, tracking.chunk_size, with_occlusion=False)
    predicted = (tracks.px[0].cpu() - px).reshape(rows, cols, 2).numpy()
    nearest = px.round().long().numpy()
    rgb, depth = model.render(i, px, tracking.chunk_size)
    depth_map = depth.reshape(rows, cols).cpu().numpy()
    low, high = model.config.min_depth, model.config.max_depth
    truth = video[i][nearest[:, 1], nearest[:, 0]].reshape(rows, cols, 3)
    prediction = to_uint8(rgb.reshape(rows, cols, 3).cpu().numpy())
    images = {
        "depth": with_depth_bar(depth_to_color(depth_map, low, high), low, high, "depth"),
        "images": stack_truth_over_prediction(truth, prediction),
    }
    if store is not None:
        given = store.flow(i, i + 1)[nearest[:, 1], nearest[:, 0]].reshape(rows, cols, 2)
        scale = float(np.linalg.norm(given, axis=-1).max())
        images["flow"] = stack_truth_over_prediction(flow_to_color(given, scale), flow_to_color(predicted, scale))
    return images


def stack_truth_over_prediction(truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stack two pictures [H,W,3] into [2H+2,W,3]: the truth above, a white line, the prediction below."""
    line = np.full((2, *truth.shape[1:]), 255, np.uint8)
    return np.concatenate([truth, line, prediction])


def weight_figure(module: nn.Module) -> NDArray[np.uint8]:
    """Draw mean, standard deviation and largest magnitude of a module's weights by group, uint8 [H,W,3].

    Bars show magnitudes, on logarithmic axes because groups differ by powers of ten; the numbers are signed.
    """
    groups = parameter_groups(module)
    stats = np.array([_stats(tensors) for tensors in groups.values()]).T
    figure = Figure(figsize=(12, 1.3 + 0.27 * len(groups)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, values, title in zip(panels, stats, ("mean", "standard deviation", "max |w|"), strict=True):
        lengths = np.nan_to_num(np.abs(values)).clip(TINY, 1 / TINY)
        bars = axes.barh(range(len(groups)), lengths, color="tab:blue")
        axes.bar_label(bars, [f"{value:.3g}" for value in values], fontsize=9, padding=3)
        axes.set_xscale("log")
        axes.set_xlim(lengths.min() / 3, (lengths.max() / lengths.min()) ** 0.3 * lengths.max() * 3)
        axes.set_title(title)
    sizes = [sum(t.numel() for t in tensors) for tensors in groups.values()]
    labels = [f"{name} ({size:,})" for name, size in zip(groups, sizes, strict=True)]
    panels[0].set_yticks(range(len(groups)), labels)
    panels[0].invert_yaxis()
    return figure_image(figure)


def parameter_groups(module: nn.Module) -> dict[str, list[Tensor]]:
    """Group parameters by the module that holds them, as finely as `MAX_GROUPS` allows (at least by child)."""
    named = list(module.named_parameters())
    finest = max((name.count(".") for name, _ in named), default=0)
    for depth in range(max(finest, 1), 0, -1):
        groups: dict[str, list[Tensor]] = {}
        for name, parameter in named:
            owner = name.split(".")[:-1] or [name]
            groups.setdefault(".".join(owner[:depth]), []).append(parameter.detach())
        if len(groups) <= MAX_GROUPS:
            break
    return groups


def _stats(tensors: list[Tensor]) -> tuple[float, float, float]:
    """Return mean, population standard deviation and largest magnitude of all values together."""
    values = torch.cat([tensor.flatten().float() for tensor in tensors])
    return values.mean().item(), values.std(correction=0).item(), values.abs().max().item()
