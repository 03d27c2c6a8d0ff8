"""Rows of frames in blocks: nothing is lost, and padding stays small however uneven the frames are."""

import pytest
import torch

from networks.frame_blocks import BLOCK_ROWS, FrameBlocks


@pytest.mark.parametrize(
    "counts", [[1], [7], [3, 0, 5], [440] + [1] * 59, [9940] + [1] * 60, [300] + [2] * 50, [9] * 40]
)
def test_blocks_hold_every_row_with_little_padding(counts):
    blocks = FrameBlocks.of_counts(counts, torch.device("cpu"))
    rows = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).unsqueeze(-1) + 1.0
    arranged = blocks.arrange(rows)
    assert torch.equal(blocks.rows(arranged), rows)
    frames = torch.tensor(blocks.frames).view(-1, 1, 1) + 1.0
    assert ((arranged == frames) | (arranged == 0)).all(), "each block is of one frame"
    present = sum(count > 0 for count in counts)
    assert arranged.numel() <= 2 * sum(counts) + BLOCK_ROWS * present
