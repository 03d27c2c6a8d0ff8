"""All-pairs flow by RAFT-large, each i→j initialised with the low-resolution flow of i→j−1 (backwards i→j+1).

The network is torchvision's. Its forward pass accepts no initial flow, so this module calls its parts. Flow is here
[B,2,H,W] in pixels, or [B,2,h,w] in cells of 8 pixels (low resolution), of B pairs that are estimated together. The
memory of the device decides how many, and whether the correlations of all pairs of cells are kept or looked up.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import RAFT

from preprocessing.flow_pairs import PairFlow
from preprocessing.pairs import Pair, Sweep
from preprocessing.raft_correlation import OnDemandCorrelation
from preprocessing.settings import RELEASED_UPDATES
from preprocessing.weights import inference_precision
from utils.coords import pixel_grid
from utils.device import to_numpy
from utils.errors import InputError
from utils.parallel import raise_if_stopped

CELL = 8  # pixels
MIN_SIDE = 16 * CELL  # the correlation pyramid halves the cells three times, and at least two must remain
MAX_BLOCK = 16
# Cells of a block: cuDNN's sampler, which torchvision's lookup uses, fails on 65,536 (PyTorch's issue 88380).
MAX_CELLS = 2**16 - 1
# Bytes per pair of cells while a pair's correlations are computed: the finest level twice, because torchvision scales a
# copy of it, and the coarser levels.
CORRELATION_BYTES = 10


class Limits(NamedTuple):
    """Memory in bytes for the correlations of a block, for those of a pair by itself, and for cached encoded frames."""

    block: int
    pair: int
    encoded: int


# A pair of 1920x1080 has correlations of 10.5 GB: on a CPU, looking them up on demand takes many times as long.
CPU_LIMITS = Limits(block=2**31, pair=2**34, encoded=2**30)


def memory_limits(device: torch.device) -> Limits:
    """Return the limits of a device: on a GPU shares of all its memory, so that a resumed run forms the same blocks."""
    if device.type != "cuda":
        return CPU_LIMITS
    memory = torch.cuda.get_device_properties(device).total_memory
    return Limits(block=memory // 6, pair=memory // 3, encoded=memory // 12)


class RaftFlow:
    """RAFT as a `FlowEstimator`.

    Each frame is encoded once if the features of all frames fit into the limit (on a CPU 160 frames of 854x480),
    otherwise once per block. Correlations of a pair that exceed their limit are looked up on demand.

    Args:
        read: Returns the frame of an index, uint8 [H,W,3].
        network: RAFT, on the device to use.
        block: Pairs estimated together; None: as many as `memory_limits` and `MAX_CELLS` allow, at most `MAX_BLOCK`.
        updates: Updates of each pair's flow.

    Raises:
        InputError: A given block has more cells than a GPU can look up.
    """

    workers = 1  # one device

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        network: RAFT,
        block: int | None = None,
        updates: int = RELEASED_UPDATES,
    ) -> None:
        self.read, self.network, self.updates = read, network, updates
        self.size = read(0).shape[:2]
        self.device = next(network.parameters()).device
        padded, self.corner = pad_frames(self._frame(0))
        cells = padded[0, 0].numel() // CELL**2
        limits, pair_bytes = memory_limits(self.device), CORRELATION_BYTES * cells**2
        on_demand = pair_bytes > limits.pair or cells > MAX_CELLS
        if block and self.device.type == "cuda" and not on_demand:
            check_block(block, cells)
        self.block = block or max(1, min(MAX_BLOCK, MAX_CELLS // cells, limits.block // pair_bytes))
        self.correlation = OnDemandCorrelation.like(network.corr_block) if on_demand else network.corr_block
        # Each cell has 256 float32 features. A block needs the features of its sources and of one more target.
        frames = max(self.block + 1, limits.encoded // (256 * 4 * cells))
        self.features = lru_cache(frames)(lambda index: self._encode(self.network.feature_encoder, index))
        self.context = lru_cache(self.block)(lambda index: self._encode(self.network.context_encoder, index))

    def estimate_sweeps(self, sweeps: list[Sweep]) -> Iterator[PairFlow]:
        """Yield the flows of the sweeps, each initialised with the flow to the target before."""
        previous: dict[int, Tensor] = {}  # source: low-resolution flow to the target before
        for gap in range(max(len(targets) for _, targets in sweeps)):
            pairs = [(source, targets[gap]) for source, targets in sweeps if gap < len(targets)]
            start = torch.stack([previous[source] for source, _ in pairs]) if gap else None
            flow, low = self._refine_pairs(pairs, start)
            previous = {source: cells for (source, _), cells in zip(pairs, low, strict=True)}
            yield from zip(pairs, flow, strict=True)

    def estimate_from(self, pairs: list[Pair], starts: list[np.ndarray]) -> Iterator[PairFlow]:
        """Yield the flows of the pairs, each initialised with a flow [H,W,2]."""
        flow = torch.from_numpy(np.stack(starts)).to(self.device).permute(0, 3, 1, 2)
        low = F.avg_pool2d(pad_frames(flow)[0], CELL) / CELL
        yield from zip(pairs, self._refine_pairs(pairs, low)[0], strict=True)

    @torch.inference_mode()
    def refine(self, features: Tensor, context: Tensor, target: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        """Estimate flow between encoded frames.

        Args:
            features: Features of the sources [B,256,h,w].
            context: Context of the sources [B,256,h,w].
            target: Features of the targets [B,256,h,w].
            start: Initial low-resolution flow [B,2,h,w]; None: zero.

        Returns:
            Flow [B,2,H,W], and the low-resolution flow [B,2,h,w] that it was upsampled from.
        """
        network = self.network
        self.correlation.build_pyramid(features, target)
        size = network.update_block.hidden_state_size
        hidden, context = torch.tanh(context[:, :size]), F.relu(context[:, size:])
        batch, _, height, width = features.shape
        grid = pixel_grid(height, width, features.device).permute(2, 0, 1).repeat(batch, 1, 1, 1)
        coords = grid if start is None else grid + start
        for _ in range(self.updates):
            raise_if_stopped()  # a block's update takes a second or two on a CPU
            correlation = self.correlation.index_pyramid(coords)
            with inference_precision(self.device):
                hidden, delta = network.update_block(hidden, context, correlation, coords - grid)
            coords = coords + delta.float()
        with inference_precision(self.device):
            mask = network.mask_predictor(hidden)
        self.correlation.corr_pyramid = []  # frees the pyramid before the next one is built
        low = coords - grid
        return upsample_flow(low, mask.float()), low

    def _refine_pairs(self, pairs: list[Pair], start: Tensor | None) -> tuple[np.ndarray, Tensor]:
        """Return the flows [B,H,W,2] of the pairs, and their low-resolution flows [B,2,h,w]."""
        features, target = (torch.cat([self.features(index) for index in side]) for side in zip(*pairs, strict=True))
        context = torch.cat([self.context(source) for source, _ in pairs])
        flow, low = self.refine(features, context, target, start)
        (height, width), (top, left) = self.size, self.corner
        return to_numpy(flow[..., top : top + height, left : left + width].permute(0, 2, 3, 1)), low

    def _encode(self, encoder: nn.Module, index: int) -> Tensor:
        """Encode a frame: [1,256,h,w]."""
        raise_if_stopped()
        with torch.inference_mode(), inference_precision(self.device):
            return encoder(normalize(pad_frames(self._frame(index))[0])).float()

    def _frame(self, index: int) -> Tensor:
        """Read a frame as float32 [1,3,H,W] in 0…255."""
        return torch.from_numpy(self.read(index)).to(self.device).permute(2, 0, 1)[None].float()


def check_block(block: int, cells: int) -> None:
    """Raise InputError if a block of pairs, `cells` cells each, has more than `MAX_CELLS` cells."""
    if block * cells > MAX_CELLS:
        raise InputError(f"--raft_batch is {block}, expected at most {MAX_CELLS // cells} for frames of this size")


def normalize(frames: Tensor) -> Tensor:
    """Scale frames from 0…255 to −1…1, as RAFT expects them."""
    return frames / 127.5 - 1


def pad_frames(frames: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Pad frames to sides that are multiples of 8 and at least `MIN_SIDE`, by repeating their borders.

    Opposite sides share the padding, as in the released model.

    Args:
        frames: [B,C,H,W].

    Returns:
        The padded frames, and (top, left) of the padding.
    """
    height, width = frames.shape[-2:]
    extra_y, extra_x = (max(-side % CELL, MIN_SIDE - side) for side in (height, width))
    top, left = extra_y // 2, extra_x // 2
    return F.pad(frames, (left, extra_x - left, top, extra_y - top), mode="replicate"), (top, left)


def upsample_flow(low: Tensor, mask: Tensor) -> Tensor:
    """Upsample flow: each pixel mixes the 3x3 cells around its own (RAFT, section 3.3).

    Args:
        low: [B,2,h,w] in cells.
        mask: Logits of the mixing weights [B,9·8·8,h,w].

    Returns:
        [B,2,8h,8w] in pixels.
    """
    batch, _, height, width = low.shape
    weights = mask.view(batch, 1, 9, CELL, CELL, height, width).softmax(2)
    cells = F.unfold(CELL * low, kernel_size=3, padding=1).view(batch, 2, 9, 1, 1, height, width)
    mixed = (weights * cells).sum(2)  # [B,2,8,8,h,w]
    return mixed.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, CELL * height, CELL * width)
