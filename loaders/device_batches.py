"""Flow batches drawn on the device that trains: by the law of `FlowBatches`, by the device's own generator.

The device holds the frames and the pixels' weights, 7·T·H·W bytes (0.2 GB for 60 frames of 854x480); the flow stays in
the mapped file, of which a pair of frames brings its valid pixels (at most 4.25·H·W bytes, 1.7 MB of such a frame).
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from loaders.batches import Correspondences, FlowBatches, SamplingConfig
from loaders.mapped_flow import MappedFlowStore
from loaders.pair_sampling import pair_weight
from preprocessing.flow_files import STEPS_PER_PX
from utils.coords import sample_bilinear


class DeviceFlowBatches(FlowBatches):
    """`FlowBatches` whose pixels are drawn and looked up on `device`; a pure function of (seed, step, rank) there.

    It draws by the same law as `FlowBatches`, not the same: a CPU and a GPU have different generators.
    For one process: workers would each need the device.
    """

    store: MappedFlowStore

    def __init__(
        self,
        video: np.ndarray,
        store: MappedFlowStore,
        config: SamplingConfig,
        error_maps: np.ndarray | None = None,
        own: Iterable[np.ndarray] | None = None,
        *,
        device: torch.device,
    ):
        self.device = device
        super().__init__(video, store, config, error_maps, own)
        self.frames = torch.from_numpy(video).to(device)
        self._bits = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)  # numpy packs the highest bit first

    def keep_weights(self, weights: Iterable[np.ndarray]) -> None:
        """Bring the weights [H,W] of every frame to the device."""
        rows = [torch.from_numpy(np.asarray(each, np.float32).ravel()) for each in weights]
        self.weights = torch.stack(rows).to(self.device)  # [T,H·W]

    def correspondences(self, i: int, max_gap: int, rng: np.random.Generator) -> Correspondences:
        """As `FlowBatches.correspondences`, tensors on the device; nothing waits for it."""
        j = self.partner(i, max_gap, rng)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        planes, steps = (torch.from_numpy(part).to(self.device, non_blocking=True) for part in self.store.packed(i, j))
        bits = planes.unsqueeze(-1).bitwise_right_shift(self._bits).bitwise_and(1).flatten(1)
        consistent, rescued = bits[:, : self.weights.shape[1]].bool()
        adjacent = abs(i - j) == 1
        valid = torch.ones_like(consistent) if adjacent else consistent | rescued
        index = self._choose(i, valid, len(steps), generator)
        place = index if adjacent else (valid.cumsum(0) - 1)[index]
        width = self.frames.shape[2]
        px = torch.stack([index % width, index.div(width, rounding_mode="floor")], -1).float()
        weights = torch.full((len(index),), pair_weight(abs(i - j), max_gap), device=self.device)
        # A point hidden in j is not what j's pixel shows (see `FlowBatches`).
        return Correspondences(j, px, px + steps[place] / STEPS_PER_PX, weights, weights * consistent[index])

    def colors(self, frame: int, px: Tensor) -> Tensor:
        """Bilinear colours [N,3] in [0,1] of a frame at pixels [N,2]."""
        return sample_bilinear(self.frames[frame].unsqueeze(0).float() / 255, px.unsqueeze(0))[0]

    def _choose(self, i: int, valid: Tensor, num_valid: int, generator: torch.Generator) -> Tensor:
        num_pts = self.config.num_pts
        if not self.by_error:
            return choose_on_device(valid, num_valid, self.weights[i], num_pts, generator)
        by_error = choose_on_device(valid, num_valid, self.weights[i], num_pts // 2, generator)
        ones = torch.ones_like(self.weights[i])
        return torch.cat([by_error, choose_on_device(valid, num_valid, ones, num_pts - num_pts // 2, generator)])


def choose_on_device(valid: Tensor, num_valid: int, weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`loaders.pair_sampling.choose_pixels` for tensors [n]; `num_valid` is told, so that no device is waited for."""
    keys = torch.empty_like(weights).exponential_(generator=generator) / weights
    keys = keys.masked_fill(~valid, torch.inf)
    found = keys.topk(min(count, num_valid), largest=False).indices
    return found[torch.arange(count, device=found.device) % len(found)]
