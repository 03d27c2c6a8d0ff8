"""Dense pictures of a model: its colours, depths and flow as videos, uint8 RGB [T,h,w,3].

The model is given as a callback that answers for pixels [N,2]. Where answers are slow (`longest_side`), it is
asked at fewer points, spread evenly over the image, and the pictures are enlarged to the video's size.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm, trange

from utils.coords import pixel_grid
from utils.draw import (
    depth_to_color,
    enlarge,
    flow_to_color,
    stack_truth_over_prediction,
    to_uint8,
    with_color_bar,
)


def dense_px(size: tuple[int, int], longest_side: int | None = None) -> tuple[Tensor, tuple[int, int]]:
    """Points spread evenly over an image of `size` (H, W), at most `longest_side` along either side.

    Returns:
        Pixels [h·w,2] float32 and (h, w): every pixel, or the centres of h·w equal cells.
    """
    shrink = min(1.0, (longest_side or max(size)) / max(size))
    rows, cols = (max(1, round(side * shrink)) for side in size)
    scale = torch.tensor([size[1] / cols, size[0] / rows])
    return ((pixel_grid(rows, cols) + 0.5) * scale - 0.5).reshape(-1, 2), (rows, cols)


def color_and_depth_frames(
    video: NDArray[np.uint8],
    render: Callable[[int, Tensor], tuple[Tensor, Tensor]],
    longest_side: int | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Every frame as the model renders it.

    Args:
        video: the true frames [T,H,W,3].
        render: (frame number, pixels [N,2]) → colours [N,3] in [0,1] and depths [N].
    Returns:
        The true colours above the rendered ones, and the depths beside their scale, which all frames share.
    """
    size = video.shape[1:3]
    px, shape = dense_px(size, longest_side)
    colors, depths = [], []
    for frame_id in trange(len(video), desc="render"):
        rgb, depth = render(frame_id, px)
        colors.append(_to_size(to_uint8(rgb.reshape(*shape, 3).cpu().numpy()), size))
        depths.append(_to_size(depth.reshape(shape).cpu().numpy(), size))
    low, high = np.percentile(depths, (1, 99)).tolist()  # a few stray depths must not set the scale
    bars = [with_color_bar(depth_to_color(depth, low, high), low, high, "depth") for depth in depths]
    both = stack_truth_over_prediction(video, np.stack(colors))
    return np.stack([enlarge(frame)[0] for frame in both]), np.stack(bars)


def flow_frames(
    size: tuple[int, int],
    track: Callable[[Tensor], Tensor],
    chunk_size: int,
    longest_side: int | None = None,
) -> NDArray[np.uint8]:
    """Flow from one frame to all frames as a colour wheel, on one scale that is printed.

    Args:
        size: (H, W) of the video.
        track: pixels [N,2] of the query frame → their places [T,N,2] in all frames.
        chunk_size: most points in one call of `track`.
    """
    px, shape = dense_px(size, longest_side)
    parts = tqdm(px.split(chunk_size), desc="flow")
    flow = torch.cat([track(part).cpu() - part for part in parts], 1).reshape(-1, *shape, 2).numpy()
    scale = float(np.percentile(np.linalg.norm(flow, axis=-1), 99))  # nor must a few stray points here
    tqdm.write(f"flow: full colour is {scale:.1f} pixels or more")
    return np.stack([enlarge(_to_size(flow_to_color(frame, scale), size))[0] for frame in flow])


def _to_size(image: NDArray, size: tuple[int, int]) -> NDArray:
    """A picture evaluated at `dense_px`, enlarged to (H, W)."""
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
