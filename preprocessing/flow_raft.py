"""All-pairs flow by RAFT-large, each i→j started from the low-resolution flow of i→j−1 (backwards i→j+1).

The network is torchvision's; its forward pass has no such start, so its parts are called here. Flow is in
pixels, channels first inside this module ([B,2,H,W]); the low-resolution flow counts cells of 8 pixels. B are
neighbouring source frames side by side.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import RAFT, Raft_Large_Weights, raft_large
from torchvision.models.optical_flow._utils import make_coords_grid, upsample_flow

from preprocessing.flow_pairs import Pair, Sweeps
from preprocessing.weights import (
    StateDict,
    check_remembered,
    download,
    inference_precision,
    load_strictly,
    read_state_dict,
)

NUM_UPDATES = 20  # as the released preprocessing
CELL = 8  # pixels of a low-resolution cell
# The correlation pyramid halves the cells three times and needs two of them left.
MIN_SIDE = 16 * CELL
# Bytes: what the correlations of the pairs that go side by side may take, and the encoded frames that are kept.
CORRELATION_MEMORY, ENCODED_MEMORY = 2**31, 2**30
# Bytes of a pair for each pair of cells while its correlations are made: the finest level twice, for torchvision scales
# a copy of it, and the coarser ones.
CORRELATION_BYTES = 10

# Princeton's names (regular expressions) → torchvision's, applied one after the other.
_PRINCETON_NAMES = [
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"(encoder\.layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(encoder\.layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"^(feature_encoder|context_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(feature_encoder|context_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(feature_encoder|context_encoder)\.conv2\.", r"\1.conv."),
    (r"^update_block\.encoder\.conv([cf])(\d)\.", r"update_block.motion_encoder.conv\1\2.0."),
    (r"\.motion_encoder\.convc", ".motion_encoder.convcorr"),
    (r"\.motion_encoder\.convf", ".motion_encoder.convflow"),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
]


def from_princeton(state: StateDict) -> StateDict:
    """Princeton's state dict (with or without `module.`) under torchvision's names.

    A block's `norm3` is the same tensor as its `downsample.1` and is left out.
    """
    renamed = {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        if ".norm3." in name:
            continue
        for pattern, replacement in _PRINCETON_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def load_raft(weights: Path | None, device: torch.device | str) -> RAFT:
    """RAFT-large in evaluation mode, weights from a file (torchvision's or Princeton's names) or downloaded.

    Raises:
        InputError: unusable file, or no way to download.
    """
    if weights is not None:
        state, origin = read_state_dict(weights), str(weights)
        if any(name.removeprefix("module.").startswith("fnet.") for name in state):
            state = from_princeton(state)
    else:
        released = Raft_Large_Weights.C_T_V1
        origin = released.url
        advice = "download it elsewhere and give it with --raft_weights FILE, or choose --flow dis"
        state = download(lambda: released.get_state_dict(progress=True, check_hash=True), origin, advice)
    network = raft_large(weights=None)
    load_strictly(network, state, origin)
    if weights is None:
        check_remembered(Path(torch.hub.get_dir()) / "checkpoints" / Path(released.url).name)
    return network.to(device).eval().requires_grad_(False)


def pad_frames(frames: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Frames [B,3,H,W] with borders repeated to multiples of 8, at least `MIN_SIDE`; and (top, left) added.

    The padding is shared between both sides, as in the released model's.
    """
    height, width = frames.shape[-2:]
    extra_y, extra_x = (max(-side % CELL, MIN_SIDE - side) for side in (height, width))
    top, left = extra_y // 2, extra_x // 2
    return F.pad(frames, (left, extra_x - left, top, extra_y - top), mode="replicate"), (top, left)


class RaftFlow:
    """RAFT between the frames `read(index)` uint8 [H,W,3]; a `FlowEstimator`. Each frame is encoded once.

    (Once for all, where their features fit into `ENCODED_MEMORY`: 160 frames of 854x480; else once for each block.)

    Args:
        read: gives a frame.
        network: RAFT, on the device to use.
        block: pairs side by side; None: as many as `CORRELATION_MEMORY` holds, at least 1, at most 16.
    """

    workers = 1  # one device

    def __init__(self, read: Callable[[int], np.ndarray], network: RAFT, block: int | None = None) -> None:
        self.read, self.network = read, network
        self.size = read(0).shape[:2]
        self.device = next(network.parameters()).device
        padded, self.corner = self._padded(0)
        cells = padded[0, 0].numel() // CELL**2
        self.block = block or max(1, min(16, CORRELATION_MEMORY // (CORRELATION_BYTES * cells**2)))
        # A target needs its features alone; the contexts of a block's sources, and some to spare.
        frames = max(self.block + 1, ENCODED_MEMORY // (256 * 4 * cells))
        self.features = lru_cache(frames)(lambda index: self._encode(self.network.feature_encoder, index))
        self.context = lru_cache(self.block)(lambda index: self._encode(self.network.context_encoder, index))

    @torch.inference_mode()
    def refine(self, features: Tensor, context: Tensor, target: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        """Flow between encoded frames.

        Args:
            features, context: of the sources, [B,256,H/8,W/8] each.
            target: features of the targets.
            start: low-resolution flow [B,2,H/8,W/8] in cells to start from; None: zero.

        Returns:
            Flow [B,2,H,W] in pixels and the low-resolution flow it was upsampled from.
        """
        net = self.network
        net.corr_block.build_pyramid(features, target)
        size = net.update_block.hidden_state_size
        hidden, context = torch.tanh(context[:, :size]), F.relu(context[:, size:])
        batch, _, height, width = features.shape
        origin = make_coords_grid(batch, height, width).to(features.device)
        coords = origin if start is None else origin + start
        with inference_precision(self.device):
            for _ in range(NUM_UPDATES):
                correlation = net.corr_block.index_pyramid(centroids_coords=coords)
                hidden, delta = net.update_block(hidden, context, correlation, coords - origin)
                coords = coords + delta.float()
            mask = net.mask_predictor(hidden)
        net.corr_block.corr_pyramid = []  # or it would stay in memory while the next one is made
        low = coords - origin
        return upsample_flow(low, mask.float()), low

    def sweep(self, sweeps: Sweeps) -> Iterator[tuple[Pair, np.ndarray]]:
        """See `FlowEstimator`."""
        lows: dict[int, Tensor] = {}
        for gap in range(max(len(targets) for _, targets in sweeps)):
            pairs = [(source, targets[gap]) for source, targets in sweeps if gap < len(targets)]
            start = torch.stack([lows[source] for source, _ in pairs]) if gap else None
            flow, low = self._refine_pairs(pairs, start)
            lows = {source: cells for (source, _), cells in zip(pairs, low, strict=True)}
            yield from zip(pairs, flow, strict=True)

    def jump(self, pairs: list[Pair], starts: list[np.ndarray]) -> Iterator[tuple[Pair, np.ndarray]]:
        """See `FlowEstimator`."""
        flow = torch.from_numpy(np.stack(starts)).to(self.device).permute(0, 3, 1, 2)
        low = F.avg_pool2d(pad_frames(flow)[0], CELL) / CELL
        yield from zip(pairs, self._refine_pairs(pairs, low)[0], strict=True)

    def _refine_pairs(self, pairs: list[Pair], start: Tensor | None) -> tuple[np.ndarray, Tensor]:
        """Flows [B,H,W,2] of the pairs, and low-resolution flows [B,2,h,w]."""
        features, target = (torch.cat([self.features(index) for index in side]) for side in zip(*pairs, strict=True))
        context = torch.cat([self.context(source) for source, _ in pairs])
        flow, low = self.refine(features, context, target, start)
        (height, width), (top, left) = self.size, self.corner
        return flow[..., top : top + height, left : left + width].permute(0, 2, 3, 1).cpu().numpy(), low

    def _encode(self, encoder: nn.Module, index: int) -> Tensor:
        """What an encoder makes of a frame, [1,256,H/8,W/8]."""
        with torch.inference_mode(), inference_precision(self.device):
            return encoder(self._padded(index)[0] / 127.5 - 1).float()

    def _padded(self, index: int) -> tuple[Tensor, tuple[int, int]]:
        return pad_frames(torch.from_numpy(self.read(index)).to(self.device).permute(2, 0, 1)[None].float())
