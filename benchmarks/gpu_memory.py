"""What a training step should need on a GPU, by counted bytes: `python -m benchmarks.gpu_memory [--json FILE]`.

The paper's batch, 8 pairs x 256 points x 32 samples, default networks with affine maps, Adam: the largest sum of the
bytes of all tensors alive at one time in a step, weights and Adam's moments included. Tensors have shapes but no values
here (torch's FakeTensorMode), so that no GPU and little memory is needed; the plain form (tests/oracles/plain_model.py), whose
shapes depend on values, is computed for 8 and 16 points and extended along the line through them. Not in it: the CUDA
context and libraries (some 0.5 GB) and what the allocator leaves between tensors. `benchmarks.gpu_step` asks a GPU.
"""

import argparse
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.measure import write_json
from benchmarks.train_step import NUM_FRAMES, NUM_PAIRS, STEP, draw_batch
from loaders.batches import Batch
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from criterion import Schedule, loss_weights, weighted_sum
from trainer import batch_losses
from tests.oracles import plain_model

NUM_PTS, FEW_PTS = 256, (8, 16)
ROWS = {  # checkpoint_activations, micro_batch, amp
    "ours": (False, 0, False),
    "--amp": (False, 0, True),
    "--micro_batch 2": (False, 2, False),
    "--checkpoint_activations": (True, 0, False),
    "--checkpoint_activations --micro_batch 2": (True, 2, False),
}
Step = Callable[[OmniMotion, torch.optim.Optimizer], object]


class LiveBytes(TorchDispatchMode):
    """While entered, counts the bytes of all storages that operations make: `now` alive, and the `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.note(tensor)
        return result

    def note(self, tensor: Tensor) -> None:
        """Count the storage of a tensor until it is gone."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()  # one Python object for a storage as long as it lives
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class FrameNumbers(list):
    """Frame numbers [P] that have values where tensors have none."""

    tolist = list.copy

    def __getitem__(self, index: slice) -> "FrameNumbers":
        return FrameNumbers(super().__getitem__(index))


def peak_of(step: Step, **options: bool) -> float:
    """GB alive at most in a step of new default networks by an Adam with these options, its moments made before."""
    with LiveBytes() as live:
        model = OmniMotion(ModelConfig(NUM_FRAMES, 480, 854, axes=[0, 1, 2, 0, 1, 2]))
        optimizer = torch.optim.Adam(model.parameters(), 1e-4, **options)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        live.peak = live.now
        step(model, optimizer)
    return live.peak / 1e9


def fake_peak(recompute: bool, micro_batch: int, amp: bool) -> float:
    """`peak_of` a step of ours, without values."""
    drawn, factors = draw_batch(1), loss_weights(Schedule(STEP))
    wanted = [name for name, factor in factors.items() if factor != 0]

    def step(model: OmniMotion, optimizer: torch.optim.Optimizer) -> None:
        if recompute:
            model.checkpoint_activations()
        model.volume.amp = amp
        frames = (FrameNumbers(ids.tolist()) for ids in (drawn.src_ids, drawn.tgt_ids))
        values = (torch.empty(NUM_PAIRS, NUM_PTS, *axes) for axes in ((2,), (2,), (3,), ()))
        depths = torch.empty(NUM_PAIRS, NUM_PTS, model.config.num_samples_ray)
        terms = batch_losses(model, Batch(*frames, *values), depths, wanted=wanted, micro_batch=micro_batch)
        optimizer.zero_grad()
        weighted_sum(terms, factors).backward()
        optimizer.step()

    # Where the first weights are drawn, checks would look at values.
    torch.distributions.Distribution.set_default_validate_args(False)
    with FakeTensorMode():
        return peak_of(step, fused=True)


def plain_peak(num_pts: int) -> float:
    """`peak_of` a step of the plain form with so many points of each pair."""
    batch, factors = draw_batch(num_pts), loss_weights(Schedule(STEP))

    def step(model: OmniMotion, optimizer: torch.optim.Optimizer) -> None:
        depths = model.depths().expand(NUM_PAIRS, num_pts, -1)
        plain_model.train_step(model, optimizer, batch, depths, factors)

    return peak_of(step, foreach=False)


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args()
    few, more = (plain_peak(count) for count in FEW_PTS)
    plain = few + (more - few) * (NUM_PTS - FEW_PTS[0]) / (FEW_PTS[1] - FEW_PTS[0])
    rows = {}
    for name in ("plain", *ROWS):
        size = plain if name == "plain" else fake_peak(*ROWS[name])
        rows[name] = {"GB": size, "of plain": size / plain}
        print(f"{name:42s} {size:6.2f} GB {size / plain:7.1%}", flush=True)
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
