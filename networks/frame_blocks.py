"""Rows of several frames, arranged as `FrameWarp` reads them: in blocks of one length, each of one frame.

So a few large products replace many small ones, whose overhead dominates on a CPU and idles a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_ROWS = 32  # computing the maps of a block takes about as long as that many rows


@dataclass(frozen=True)
class FrameBlocks:
    """An arrangement of R rows, ordered by frame, in B blocks of M rows; what remains of a block is padding."""

    frames: list[int]  # [B]: which of the frames each block belongs to
    filled: Tensor  # bool [B,M], R of them True

    @classmethod
    def of_counts(cls, counts: Sequence[int], device: torch.device) -> "FrameBlocks":
        """Arrange `counts[f]` rows of every frame f, at least one row in all, with little padding in few blocks."""

        def cost(length: int) -> int:
            return (length + BLOCK_ROWS) * sum(-(-count // length) for count in counts)

        length = min((2**k for k in range(max(counts).bit_length() + 1)), key=cost)
        blocks = [(f, min(length, n - at)) for f, n in enumerate(counts) for at in range(0, n, length)]
        sizes = torch.tensor([size for _, size in blocks])
        filled = torch.arange(length) < sizes.unsqueeze(-1)
        return cls([f for f, _ in blocks], filled.to(device))

    def arrange(self, rows: Tensor) -> Tensor:
        """Return rows [R,*] in blocks [B,M,*], padded with zeros."""
        blocks = rows.new_zeros(*self.filled.shape, *rows.shape[1:])
        blocks[self.filled] = rows
        return blocks

    def rows(self, blocks: Tensor) -> Tensor:
        """Return the rows [R,*] of blocks [B,M,*], the inverse of `arrange`."""
        return blocks[self.filled]
