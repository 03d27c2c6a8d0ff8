"""All-pairs flow by RAFT-large, each i→j started from the low-resolution flow of i→j−1 (backwards i→j+1).

The network is torchvision's; its forward pass has no such start, so its parts are called here. Flow is in
pixels, channels first inside this module ([B,2,H,W]); the low-resolution flow counts cells of 8 pixels.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import RAFT, Raft_Large_Weights, raft_large
from torchvision.models.optical_flow._utils import make_coords_grid, upsample_flow

from preprocessing.weights import StateDict, download, load_strictly, read_state_dict

NUM_UPDATES = 20  # as the released preprocessing
CELL = 8  # pixels of a low-resolution cell
# The correlation pyramid halves the cells three times and needs two of them left.
MIN_SIDE = 16 * CELL

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
    """Sweeps of RAFT over frames `video` uint8 [T,H,W,3]; a `FlowEstimator`. Each frame is encoded once."""

    workers = 1  # one device

    def __init__(self, video: np.ndarray, network: RAFT) -> None:
        self.video = video
        self.network = network
        self.encoded: dict[int, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Image [B,3,H,W] in 0…255, padded → matching features and context, [B,256,H/8,W/8] each."""
        image = image / 127.5 - 1
        return self.network.feature_encoder(image), self.network.context_encoder(image)

    @torch.inference_mode()
    def refine(
        self, source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], start: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Flow between two encoded frames.

        Args:
            source, target: results of `encode`.
            start: low-resolution flow [B,2,H/8,W/8] in cells to start from; None: zero.

        Returns:
            Flow [B,2,H,W] in pixels and the low-resolution flow it was upsampled from.
        """
        net = self.network
        features, context = source
        net.corr_block.build_pyramid(features, target[0])
        size = net.update_block.hidden_state_size
        hidden, context = torch.tanh(context[:, :size]), F.relu(context[:, size:])
        batch, _, height, width = features.shape
        origin = make_coords_grid(batch, height, width).to(features.device)
        coords = origin if start is None else origin + start
        for _ in range(NUM_UPDATES):
            correlation = net.corr_block.index_pyramid(centroids_coords=coords)
            hidden, delta = net.update_block(hidden, context, correlation, coords - origin)
            coords = coords + delta
        low = coords - origin
        return upsample_flow(low, net.mask_predictor(hidden)), low

    def sweep(self, source: int, targets: list[int]) -> Iterator[np.ndarray]:
        """Flows source→target [H,W,2] float32 for consecutive `targets` beginning beside `source`."""
        height, width = self.video.shape[1:3]
        low = None
        for target in targets:
            flow, low = self.refine(self._frame(source), self._frame(target), low)
            top, left = self.corner
            yield flow[0, :, top : top + height, left : left + width].permute(1, 2, 0).cpu().numpy()

    def _frame(self, index: int) -> tuple[Tensor, Tensor]:
        """Encoded frame, from memory after the first time."""
        if index not in self.encoded:
            device = next(self.network.parameters()).device
            image = torch.from_numpy(self.video[index]).to(device).permute(2, 0, 1)[None].float()
            padded, self.corner = pad_frames(image)
            self.encoded[index] = self.encode(padded)
        return self.encoded[index]
