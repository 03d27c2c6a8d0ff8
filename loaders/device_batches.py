"""Flow batches drawn on the training device, distributed as in `FlowBatches` but by the device's own generator.

The device holds frames and pixel weights, 7·T·H·W bytes (0.2 GB for 60 frames of 854x480). Flow stays in the mapped
file: a pair of frames transfers its valid pixels, at most 4.25·H·W bytes (1.7 MB at 854x480).
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from loaders.batches import Correspondences, PairBatches, SamplingConfig
from loaders.flow_batches import frame_probabilities, pixel_weights
from loaders.mapped_flow import MappedFlowStore
from loaders.pair_sampling import pair_weight, partner_probabilities
from preprocessing.flow_files import STEPS_PER_PX
from utils.coords import sample_bilinear


class DeviceFlowBatches(PairBatches):
    """Batches of valid flow whose pixels are drawn and looked up on `device`, for use without worker processes.

    The drawn pixels differ from those of `FlowBatches` and between kinds of devices, because generators differ.

    Args:
        video: Frames uint8 [T,H,W,3].
        store: Flow of the same clip.
        config: How batches are drawn.
        error_maps: As in `FlowBatches`.
        moving_probability: As in `FlowBatches`.
        device: The device that draws pixels.
    """

    def __init__(
        self,
        video: np.ndarray,
        store: MappedFlowStore,
        config: SamplingConfig,
        error_maps: np.ndarray | None = None,
        moving_probability: Iterable[np.ndarray] | None = None,
        *,
        device: torch.device,
    ):
        super().__init__(video, config, frame_probabilities(error_maps))
        self.store, self.has_error_maps, self.device = store, error_maps is not None, device
        weights = pixel_weights(video, store, config, error_maps, moving_probability)
        rows = [torch.from_numpy(np.asarray(each, np.float32).ravel()) for each in weights]
        self.weights = torch.stack(rows).to(device)  # [T,H·W]
        self.frames = torch.from_numpy(video).to(device)
        self._bits = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)  # numpy packs the highest bit first

    def draw_correspondences(self, i: int, max_gap: int, rng: np.random.Generator) -> Correspondences:
        """Draw valid pixels of frame i as `FlowBatches` does, as tensors on the device, without waiting for it."""
        j = int(rng.choice(len(self.video), p=partner_probabilities(i, self.store.valid_counts, max_gap)))
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        planes, steps = (torch.from_numpy(part).to(self.device, non_blocking=True) for part in self.store.packed(i, j))
        bits = planes.unsqueeze(-1).bitwise_right_shift(self._bits).bitwise_and(1).flatten(1)
        consistent, rescued = bits[:, : self.weights.shape[1]].bool()
        adjacent = abs(i - j) == 1
        valid = torch.ones_like(consistent) if adjacent else consistent | rescued
        index = self._draw_pixels(i, valid, len(steps), generator)
        row = index if adjacent else (valid.cumsum(0) - 1)[index]  # in the file, which holds only valid pixels
        width = self.frames.shape[2]
        px = torch.stack([index % width, index.div(width, rounding_mode="floor")], -1).float()
        weights = torch.full((len(index),), pair_weight(abs(i - j), max_gap), device=self.device)
        weights_back = weights * consistent[index]  # occluded in j, so the reversed pair gets weight 0
        return Correspondences(j, px, px + steps[row] / STEPS_PER_PX, weights, weights_back)

    def colors(self, frame: int, px: Tensor) -> Tensor:
        """Return the bilinear colours [N,3] in [0,1] of a frame at pixels [N,2]."""
        return sample_bilinear(self.frames[frame].unsqueeze(0).float() / 255, px.unsqueeze(0))[0]

    def _draw_pixels(self, i: int, valid: Tensor, num_valid: int, generator: torch.Generator) -> Tensor:
        """Draw `num_pts` flat indices of valid pixels of frame i; with error maps, half of them uniformly."""
        num_pts = self.config.num_pts
        if not self.has_error_maps:
            return choose_on_device(valid, num_valid, self.weights[i], num_pts, generator)
        by_error = choose_on_device(valid, num_valid, self.weights[i], num_pts // 2, generator)
        ones = torch.ones_like(self.weights[i])
        return torch.cat([by_error, choose_on_device(valid, num_valid, ones, num_pts - num_pts // 2, generator)])


def choose_on_device(valid: Tensor, num_valid: int, weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw as `loaders.pair_sampling.choose_pixels` does, from tensors [n].

    `num_valid`, the number of valid pixels, is an argument so that the host need not wait for the device.
    """
    keys = torch.empty_like(weights).exponential_(generator=generator) / weights
    keys = keys.masked_fill(~valid, torch.inf)
    chosen = keys.topk(min(count, num_valid), largest=False).indices
    return chosen[torch.arange(count, device=chosen.device) % len(chosen)]
