"""Which samples of the frames' rays are empty, so that many points can be tested for occlusion without marching them.

As occupancy grids of NeRFs (Müller et al., "Instant Neural Graphics Primitives", 2022), but in the frames: rays through
a coarse grid of pixels are marched once, and a sample is empty if its alpha and its neighbours' are negligible.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from networks.ray_marcher import RayMarcher
from utils.coords import is_inside_image, normalize_px

SPACING = 2  # pixels between the marched rays, at most: alphas of trained models vary over several pixels
EMPTY_ALPHA = 1e-4  # with fewer than a hundred of these, a score changes by less than the distance of 0.99 from 1


def grid_size(height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the marched rays of an image; its corners are among them."""
    return -(-(height - 1) // SPACING) + 1, -(-(width - 1) // SPACING) + 1


@dataclass(frozen=True)
class Occupancy:
    """The samples of all T frames that may be dense."""

    dense: Tensor  # bool [T,h,w,K]
    height: int  # of the frames
    width: int

    @classmethod
    @torch.no_grad()
    def of_model(cls, model: RayMarcher, rays_at_once: int) -> "Occupancy":
        """March the grid of rays in every frame of the model's clip."""
        height, width = model.config.height, model.config.width
        rows, columns = grid_size(height, width)
        ys, xs = torch.linspace(0, height - 1, rows), torch.linspace(0, width - 1, columns)
        px = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1).reshape(-1, 2).to(model.device)
        dense = []
        for frame in range(model.config.num_frames):
            warp = model.warp.at(torch.tensor([frame]))
            alphas = [model.march(warp, model.rays(some).unsqueeze(0)).alphas[0] for some in px.split(rays_at_once)]
            largest = F.max_pool2d(torch.cat(alphas).T.reshape(1, -1, rows, columns), 3, stride=1, padding=1)
            dense.append(largest[0].movedim(0, -1) > EMPTY_ALPHA)
        return cls(torch.stack(dense), height, width)

    def at(self, frame_ids: Sequence[int], px: Tensor) -> Tensor:
        """Return which samples [F,N,K] of the rays of pixels [F,N,2] may be dense; none outside the image."""
        last = torch.tensor(self.dense.shape[2:0:-1], device=px.device) - 1
        x, y = (
            ((normalize_px(px, self.height, self.width) + 1) / 2 * last).round().clamp(min=0).minimum(last).unbind(-1)
        )
        frames = torch.tensor(frame_ids, device=px.device).unsqueeze(-1)
        inside = is_inside_image(px, self.height, self.width).unsqueeze(-1)
        return self.dense[frames, y.long(), x.long()] & inside
