"""RAFT's correlations looked up without the volume of all pairs of cells, for frames whose volume would be too large.

Same interface and numbers as torchvision's `CorrBlock`, which is faster and holds the volume. Averaging correlations
over target cells is averaging the targets' features, so each level needs only pooled features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow.raft import CorrBlock

# Bytes of the features that are gathered at a time. A CPU takes half the time if they fit into its cache, a GPU needs
# many at a time.
LOOKUP_MEMORY, GPU_LOOKUP_MEMORY = 2**24, 2**29


class OnDemandCorrelation:
    """Correlations of cells with the neighbourhoods of their targets, computed when they are looked up.

    Args:
        num_levels: Levels of the pyramid; each halves the one before.
        radius: Radius r of the neighbourhood of (2r+1)² cells.
    """

    def __init__(self, num_levels: int, radius: int) -> None:
        self.num_levels, self.radius = num_levels, radius
        self.corr_pyramid: list[Tensor] = []  # features of the targets [B,h,w,C], by level
        self.source = torch.empty(0)  # features of the sources [B,h·w,C], scaled

    @classmethod
    def like(cls, block: CorrBlock) -> "OnDemandCorrelation":
        """Return one of the same levels and radius as torchvision's block."""
        return cls(block.num_levels, block.radius)

    def build_pyramid(self, source: Tensor, target: Tensor) -> None:
        """Take the features of source and target, both [B,C,h,w]."""
        self.source = source.flatten(2).mT / source.shape[1] ** 0.5
        self.corr_pyramid = []
        for level in range(self.num_levels):
            target = F.avg_pool2d(target, 2) if level else target
            self.corr_pyramid.append(target.movedim(1, -1).contiguous())  # the channels of a cell lie together

    def index_pyramid(self, centroids_coords: Tensor) -> Tensor:
        """Look up the correlations around the targets of all cells; a cell outside the image correlates with 0.

        Args:
            centroids_coords: Targets (x, y) of the source cells, in cells of the finest level [B,2,h,w].

        Returns:
            [B, levels·(2r+1)², h, w]; the neighbourhood is in the order of its columns.
        """
        height, width = centroids_coords.shape[-2:]
        gathered = (2 * self.radius + 2) ** 2 * self.source[0, 0].nbytes  # for a cell
        memory = LOOKUP_MEMORY if self.source.device.type == "cpu" else GPU_LOOKUP_MEMORY
        cells = max(1, memory // gathered)
        found = []
        for source, centres, *pyramid in zip(
            self.source, centroids_coords.flatten(2).mT, *self.corr_pyramid, strict=True
        ):
            chunks = zip(source.split(cells), centres.split(cells), strict=True)
            found.append(torch.cat([self._correlate(*chunk, pyramid) for chunk in chunks]))
        return torch.stack(found).mT.unflatten(-1, (height, width)).contiguous()

    def _correlate(self, source: Tensor, centres: Tensor, pyramid: list[Tensor]) -> Tensor:
        """Correlate cells of features [M,C] around their targets [M,2]: [M,levels·(2r+1)²]."""
        levels = [self._correlate_level(source, centres / 2**level, maps) for level, maps in enumerate(pyramid)]
        return torch.cat(levels, -1)

    def _correlate_level(self, source: Tensor, centres: Tensor, target: Tensor) -> Tensor:
        """Correlate cells [M,C] with a level [h,w,C] around `centres` [M,2] of that level: [M,(2r+1)²].

        The neighbours of a centre share its fractional part: correlations with whole cells are mixed, not features.
        """
        height, width, _ = target.shape
        first = centres.floor()
        reach = torch.arange(-self.radius, self.radius + 2, device=centres.device)
        xs, ys = (first[:, k, None] + reach for k in (0, 1))  # [M,2r+2]
        inside = ((xs >= 0) & (xs < width))[:, :, None] & ((ys >= 0) & (ys < height))[:, None]
        cells = torch.where(inside, ys[:, None] * width + xs[:, :, None], 0).long()  # [M,2r+2,2r+2]
        around = F.embedding(cells.flatten(1), target.flatten(0, 1))  # [M,(2r+2)²,C]
        whole = (around @ source[:, :, None]).view_as(cells) * inside
        fx, fy = ((centres - first)[:, k, None, None] for k in (0, 1))
        columns = (1 - fx) * whole[:, :-1] + fx * whole[:, 1:]
        return ((1 - fy) * columns[..., :-1] + fy * columns[..., 1:]).flatten(1)
