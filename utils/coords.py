"""Image coordinates.

Pixels (x, y): integer = pixel centre, x to the right, y down. Normalised: 2·px/(W−1, H−1) − 1, so that the corner
pixels' centres are at ±1 (`align_corners=True` of torch's grid_sample). Time code of frame i (0-based): (i+1)/N.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def normalize_px(px: Tensor, height: int, width: int) -> Tensor:
    """Convert pixels [*,2] to normalised coordinates [*,2]."""
    x, y = px.unbind(-1)
    return torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)


def denormalize_px(xy: Tensor, height: int, width: int) -> Tensor:
    """Convert normalised coordinates [*,2] to pixels [*,2]; the inverse of `normalize_px`."""
    x, y = ((xy + 1) / 2).unbind(-1)
    return torch.stack([x * (width - 1), y * (height - 1)], -1)


def time_code(frame_ids: Tensor, num_frames: int) -> Tensor:
    """Convert frame numbers [*] to time codes [*] in (0, 1]."""
    return (frame_ids + 1).float() / num_frames


def is_inside_image(px: Tensor, height: int, width: int, padding: float = 0.0) -> Tensor:
    """Return which pixels [*,2] lie inside the image, widened by `padding` pixels on every side; bool [*]."""
    x, y = px.unbind(-1)
    return (x >= -padding) & (x <= width - 1 + padding) & (y >= -padding) & (y <= height - 1 + padding)


def pixel_grid(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the pixel centres of an image, [H,W,2] float32 (x, y)."""
    rows, columns = (torch.arange(size, device=device) for size in (height, width))
    ys, xs = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([xs, ys], -1).float()


def with_time(frame_id: int, px: Tensor) -> Tensor:
    """Return pixels [N,2] of one frame as query points [N,3] (t, x, y)."""
    return torch.cat([torch.full_like(px[:, :1], frame_id), px], -1)


def sample_bilinear(maps: Tensor, px: Tensor) -> Tensor:
    """Interpolate maps bilinearly at pixel positions; outside the image, the values of its border continue.

    Args:
        maps: Values at the pixel centres, [B,H,W,C].
        px: Pixels (x, y), [B,*,2].

    Returns:
        Values [B,*,C].
    """
    batch, height, width, _ = maps.shape
    grid = normalize_px(px, height, width).reshape(batch, 1, -1, 2)
    values = F.grid_sample(maps.movedim(-1, 1), grid, align_corners=True, padding_mode="border")
    return values.squeeze(2).movedim(1, -1).reshape(*px.shape[:-1], maps.shape[-1])
