"""What TensorBoard shows of a running optimisation."""

from argparse import Namespace

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.flow_store import FlowStore
from networks.omnimotion import OmniMotion
from visualization import draw
from visualization.dense import dense_px
from visualization.flow_colors import flow_to_color
from visualization.query_points import grid_points

CORRESPONDENCES = 40  # lines between two frames; more cannot be followed by eye
LOG_SIDE = {"cpu": 80}  # pixels: longest side of the dense pictures logged in training, seconds instead of minutes
DEFAULT_LOG_SIDE = 240


def training_images(
    model: OmniMotion, video: NDArray, store: FlowStore | None, step: int, args: Namespace
) -> dict[str, NDArray[np.uint8]]:
    """The pictures of one moment of the optimisation, uint8 RGB, by their TensorBoard names.

    `correspondence/*`: points of the first frame in later ones and of a random pair that is trained; `depth`, `images`
    (truth above prediction) and, with a `store`, `flow` (input above prediction, to the next frame) of a random frame.
    """
    num_frames = len(video)
    rng = np.random.default_rng([args.loader_seed, step])
    i = int(rng.integers(num_frames - 1))
    partner = int(np.clip(i + rng.integers(1, args.start_interval + 1), 0, num_frames - 1))
    pairs = {
        "trained": (i, partner),
        "fix_10": (0, min(10, num_frames - 1)),
        "fix_half": (0, num_frames // 2),
        "fix_whole": (0, num_frames - 1),
    }
    images = {f"correspondence/{name}": _correspondence(model, video, *pair, args) for name, pair in pairs.items()}
    return images | _dense_images(model, video, store, i, args)


def _correspondence(model: OmniMotion, video: NDArray, i: int, j: int, args: Namespace) -> NDArray[np.uint8]:
    height, width = video.shape[1:3]
    px = grid_points(height, width, CORRESPONDENCES)
    tracks = model.map_points(i, torch.from_numpy(px), [j], args.use_max_loc, args.chunk_size)
    occluded = tracks.occluded(args.occlusion_th, height, width)[0].cpu().numpy()
    return draw.draw_correspondences(video[i], video[j], px, tracks.px[0].cpu().numpy(), occluded)


def _dense_images(
    model: OmniMotion, video: NDArray, store: FlowStore | None, i: int, args: Namespace
) -> dict[str, NDArray[np.uint8]]:
    """Flow to the next frame, depth and colour of frame i, at a reduced size."""
    side = LOG_SIDE.get(model.device.type, DEFAULT_LOG_SIDE)
    px, (rows, cols) = dense_px(video.shape[1:3], side)
    tracks = model.map_points(i, px, [i + 1], args.use_max_loc, args.chunk_size, with_occlusion=False)
    predicted = (tracks.px[0].cpu() - px).reshape(rows, cols, 2).numpy()
    nearest = px.round().long().numpy()
    rgb, depth = model.render(i, px, args.chunk_size)
    depth = depth.reshape(rows, cols).cpu().numpy()
    low, high = model.config.min_depth, model.config.max_depth
    truth = video[i][nearest[:, 1], nearest[:, 0]].reshape(rows, cols, 3)
    prediction = draw.to_uint8(rgb.reshape(rows, cols, 3).cpu().numpy())
    images = {
        "depth": draw.with_color_bar(draw.depth_to_color(depth, low, high), low, high, "depth"),
        "images": draw.stack_truth_over_prediction(truth, prediction),
    }
    if store is not None:
        given = store.flow(i, i + 1)[nearest[:, 1], nearest[:, 0]].reshape(rows, cols, 2)
        scale = float(np.linalg.norm(given, axis=-1).max())
        flows = (flow_to_color(flow, scale) for flow in (given, predicted))
        images["flow"] = draw.stack_truth_over_prediction(*flows)
    return images
