"""The optimisation of one video's model: what a step does, what is saved, and how a stopped run is resumed.

A step is a pure function of the state before it: weights are drawn from (seed), pairs and pixels from (seed, rank,
step), ray jitter from (seed, step).

Several processes (torchrun) each send a batch of their own through the same networks. A step is that of one process with
all their batches (see `batch_losses`). They agree bit for bit on the state, and rank 0 alone writes.
"""

import signal
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from criterion import (
    LossInputs,
    Schedule,
    TrainingDiverged,
    compute_losses,
    describe_divergence,
    loss_weights,
    rank_nonfinite_terms,
    wanted_terms,
    weighted_sum,
)
from loaders.batches import Batch, iterate_batches
from loaders.training_data import TrainingData
from networks.checkpoints import checkpoint_path, save_checkpoint, thumbnails
from networks.omnimotion import OmniMotion
from networks.optimizer import ModelOptimizer, OptimizerConfig
from networks.prediction import Prediction, predict_pairs
from networks.rendering import jitter_depths
from utils.distributed import SINGLE_PROCESS, Context
from utils.parallel import torch_threads
from utils.run_log import RunLog


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; fields are named as the flags are."""

    num_iters: int
    loader_seed: int = 12
    num_workers: int = 4
    num_threads: int = 0
    micro_batch: int = 0
    mask_near: bool = False
    max_padding: float = 0.0
    grad_clip: float = 0.0
    schedule_scale: float = 1.0
    depth_prior: float = 0.0
    i_print: int = 100
    i_img: int = 500
    i_weight: int = 20000
    flags: dict = field(default_factory=dict)  # all flags of the command, for the checkpoint


class Trainer:
    """The optimisation of a model up to `config.num_iters` steps in all.

    Args:
        config: How to train.
        optimizer: Learning rates.
        model: Networks on the device that trains.
        names: File names of the clip's frames.
        data: What batches are made from.
        run_dir: Folder for checkpoints.
        log: Takes scalars and images; None: nothing is logged, as in all processes but rank 0.
        images: Draws the pictures of a step, by name.
        scores: Compares the model with exact tracks, if there are any: scores by name.
        checkpoint: State to resume from (see `state`); None: start anew.
        context: The processes that train together.
    """

    def __init__(
        self,
        config: TrainingConfig,
        optimizer: OptimizerConfig,
        model: OmniMotion,
        names: list[str],
        data: TrainingData,
        run_dir: Path,
        log: RunLog | None = None,
        images: Callable[[int], dict[str, np.ndarray]] = lambda step: {},
        scores: Callable[[], dict[str, float]] | None = None,
        checkpoint: dict | None = None,
        context: Context = SINGLE_PROCESS,
    ):
        self.config, self.model, self.names, self.data = config, model, names, data
        self.run_dir, self.log, self.images, self.scores, self.context = run_dir, log, images, scores, context
        self.optimizer = ModelOptimizer(model.named_parameter_groups(), model.coupling_matrices(), optimizer)
        self.step, self._thumbnails = 0, thumbnails(data.video)
        self._saved_at: int | None = None
        self._updating = False  # an update that is cut short leaves a state that must not be saved
        if checkpoint is not None:
            self.step = checkpoint["step"]
            self.optimizer.load(checkpoint)
            if checkpoint_path(run_dir, self.step).exists():  # the one resumed from: others were set aside
                self._saved_at = self.step

    def train(self) -> bool:
        """Optimise until `num_iters`; the last whole step is saved however the loop ends.

        Returns:
            Whether the end was reached (False: stopped by Ctrl-C or SIGTERM).

        Raises:
            TrainingDiverged: A loss, gradient or weight was not finite. No checkpoint is written, so the last one is good.
        """
        num_threads = self.config.num_threads if self.model.device.type == "cpu" else 0
        # torchrun passes on the Ctrl-C that every process has had from the terminal already.
        with torch_threads(num_threads), StopRequest(patient=self.context.size > 1) as stop:
            try:
                self._optimise(stop)
            except TrainingDiverged:
                self._saved_at = self.step
                raise
            finally:
                if self._saved_at != self.step and not self._updating and self.context.rank == 0:
                    self.save()
        return self.step >= self.config.num_iters

    def _optimise(self, stop: "StopRequest") -> None:
        config, stopped = self.config, False
        num_workers = 0 if self.data.config.draw_on_device else config.num_workers  # workers do not share the device
        bar = tqdm(total=config.num_iters, initial=self.step, desc="training", unit="step", smoothing=0, disable=self.context.rank > 0)
        with bar:
            while self.step < config.num_iters and not stopped:
                # Data: one dataset serves the steps up to the next error maps.
                steps = range(self.step, int(min(self.data.next_error_maps(self.step), config.num_iters)))
                for batch in iterate_batches(self.dataset(), steps, num_workers):
                    # Optimisation.
                    terms = self.train_step(batch.to(self.model.device))
                    bar.update()
                    # Report: scalars, pictures and scores, checkpoint.
                    if self.context.rank == 0:
                        self._report(terms, bar)
                    # Stop request: all processes stop after the same step.
                    stopped = self.context.any(stop.requested)
                    if stopped:
                        break

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """Update the networks once; return the loss terms before it, `Loss` (the total) included."""
        # Losses: terms without weight are computed for the log alone.
        weights, depths = loss_weights(self._schedule()), self._jittered_depths(batch)
        wanted = wanted_terms(weights, logged=self._is_printed(self.step + 1))
        terms = self._losses(batch, depths, wanted, self.config.micro_batch, self.context)
        total = weighted_sum(terms, weights)
        # Gradients, summed over the processes.
        self.optimizer.zero_grad()
        total.backward()
        self.context.sum_gradients(self.model.parameters())
        norm = torch.nn.utils.get_total_norm(p.grad for p in self.model.parameters() if p.grad is not None)
        # Divergence: one scalar for all, the only value of a step for which the host waits for a GPU.
        if not torch.isfinite(total + norm):
            raise TrainingDiverged(self._describe_divergence(batch, depths, weights))
        if self.config.grad_clip > 0:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.grad_clip, norm)
        # Update.
        self._updating = True
        self.optimizer.step()
        self.step += 1
        self._updating = False
        return {"Loss": total, **terms}
