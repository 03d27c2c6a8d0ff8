"""Training of one video's model: the steps, the checkpoints, and resuming a stopped run.

A step is a pure function of the state before it: weights are drawn from (seed), pairs and pixels from (seed, rank,
step), ray jitter from (seed, step). It never waits for the device, so that a GPU can replay it as one graph of kernels.
A step in which a value is not finite changes nothing; it is reported where the host waits for the device anyway.

With several processes (torchrun), each sends its own batch through the same networks. Their step equals that of one
process with all their batches (see `batch_losses`). All hold bitwise the same state; only rank 0 writes files.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

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
    weighted_sum,
)
from loaders.batches import Batch, PairBatches
from loaders.prefetch import iterate_batches
from loaders.training_data import TrainingData
from networks.checkpoints import checkpoint_path, save_checkpoint, thumbnails
from networks.omnimotion import OmniMotion
from networks.optimizer import ModelOptimizer, OptimizerConfig
from networks.prediction import Prediction, predict_pairs
from networks.rendering import jitter_depths, sample_depths
from networks.step_graph import CudaRecorder, StepGraph
from utils.distributed import SINGLE_PROCESS, Context
from utils.errors import StopRequest
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


@dataclass(frozen=True)
class StepVariant:
    """What of a step its kernels do not read from memory; a schedule changes it a few times in a run."""

    terms: tuple[str, ...]  # names of the loss terms with a weight
    mask_near: bool


class Trainer:
    """Trains a model until `config.num_iters` steps are done, those before a resume included.

    Args:
        config: How to train.
        optimizer: Learning rates.
        model: Networks on the device that trains.
        names: File names of the clip's frames.
        data: What batches are made from.
        run_dir: Folder for checkpoints.
        log: Log of scalars and images; None logs nothing, as on all ranks but 0.
        images: Returns the pictures to log at a step, by name.
        scores: Returns the model's scores on exact tracks, by name; None without exact tracks.
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
        groups, matrices, recorded = model.named_parameter_groups(), model.coupling_matrices(), self._can_record()
        self.optimizer = ModelOptimizer(groups, matrices, optimizer, recorded)
        self.step_graph = StepGraph(self._step, model.device, CudaRecorder(model.device) if recorded else None)
        self.step, self._thumbnails = 0, thumbnails(data.video)
        self._dataset: PairBatches | None = None
        self._num_skipped = torch.zeros((), dtype=torch.long, device=model.device)  # steps since one was not finite
        self._saved_at: int | None = None
        self._updating = False  # an update that is cut short leaves a state that must not be saved
        if checkpoint is not None:
            self.step = checkpoint["step"]
            self.optimizer.load(checkpoint)
            if checkpoint_path(run_dir, self.step).exists():  # the one resumed from: others were set aside
                self._saved_at = self.step

    def train(self) -> bool:
        """Train up to step `num_iters`; the last complete step is saved even if training stops early.

        Returns:
            Whether training reached `num_iters` (False: stopped by Ctrl-C or SIGTERM).

        Raises:
            TrainingDiverged: A loss, gradient or weight was not finite. No checkpoint is written, so the last one is
                good.
        """
        num_threads = self.config.num_threads if self.model.device.type == "cpu" else 0
        # Patient, because torchrun repeats the Ctrl-C that every process already got from the terminal.
        with torch_threads(num_threads), StopRequest(patient=self.context.size > 1) as stop:
            try:
                self._optimise(stop)
                self.require_finite()
            except TrainingDiverged:
                self._saved_at = self.step
                raise
            finally:
                if self._saved_at != self.step and self._can_save() and self.context.rank == 0:
                    self.save()
        return self.step >= self.config.num_iters

    def _optimise(self, stop: StopRequest) -> None:
        config, stopped = self.config, False
        num_workers = 0 if self.data.config.draw_on_device else config.num_workers  # workers do not share the device
        quiet = self.context.rank > 0
        bar = tqdm(total=config.num_iters, initial=self.step, desc="training", unit="step", smoothing=0, disable=quiet)
        with bar:
            while self.step < config.num_iters and not stopped:
                # Data: one dataset serves the steps up to the next error maps.
                steps = range(self.step, int(min(self.data.next_error_maps(self.step), config.num_iters)))
                for batch in iterate_batches(self.dataset(), steps, num_workers):
                    # Optimisation.
                    terms = self.train_step(batch)
                    bar.update()
                    # Report: scalars, pictures and scores, checkpoint.
                    if self.context.rank == 0:
                        self._report(terms, bar)
                    # Stop request: all processes stop after the same step.
                    stopped = self.context.any(stop.requested)
                    if stopped:
                        break

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """Update the networks once; return the loss terms before the update, and their weighted total as `Loss`.

        A GPU may overwrite them in the next step.

        Raises:
            TrainingDiverged: A value was not finite, in this step, or in a replayed one since the last check.
        """
        weights = loss_weights(self._schedule())
        if "depth_prior" not in weights:
            self.data.drop_depth_prior()
        numbers = torch.tensor(list(weights.values())), torch.tensor(self.optimizer.rates)
        inputs = [*batch.tensors(), self._jittered_depths(batch.src_px.shape), *numbers]
        self._updating = self.step_graph.is_recorded  # otherwise it is set between gradients and update
        terms = self.step_graph(inputs, self._variant(weights))
        self.optimizer.num_updates += 1
        self.step += 1
        self._updating = False
        if self._is_checked(self.step):
            self.require_finite()
        return terms

    def _step(self, inputs: Sequence[Tensor], variant: StepVariant) -> dict[str, Tensor]:
        """Do what a step computes on the device: losses, gradients, the update."""
        *of_batch, depths, weights, rates = inputs
        # Losses: terms without a weight are for the log.
        terms = self._losses(Batch(*of_batch), depths, variant, self.config.micro_batch, self.context)
        total = weighted_sum(terms, dict(zip(variant.terms, weights.unbind(), strict=True)))
        # Gradients, summed over the processes.
        self.optimizer.zero_grad()
        total.backward()
        self.context.sum_gradients(self.model.parameters())
        norm = torch.nn.utils.get_total_norm(p.grad for p in self.model.parameters() if p.grad is not None)
        if self.config.grad_clip > 0:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.grad_clip, norm)
        # Update, unless a value is not finite in this step or in an earlier one that was not checked yet.
        accepted = torch.isfinite(total + norm) & (self._num_skipped == 0)
        self._num_skipped += ~accepted
        self._updating = True
        self.optimizer.update(rates, accepted)
        return {"Loss": total.detach(), **{name: term.detach() for name, term in terms.items()}}

    def require_finite(self) -> None:
        """Wait for the device, and raise TrainingDiverged if a value was not finite; all processes must call this.

        The state is then that before the step in which it happened, and `step` is that step.
        """
        num_skipped = int(self._num_skipped)
        if num_skipped:
            self.step -= num_skipped
            self.optimizer.num_updates -= num_skipped
            raise TrainingDiverged(self._describe_divergence())

    def save(self) -> Path:
        """Write the state as `model_XXXXXX.pth` and return its path."""
        self._require_finite_weights()
        path = checkpoint_path(self.run_dir, self.step)
        save_checkpoint(path, self.state())
        self._saved_at = self.step
        return path

    def state(self) -> dict:
        """Return all that a resume needs: networks, optimizer, schedule, step, the clip's thumbnails and the flags."""
        return {
            "model_config": asdict(self.model.config),
            "model": self.model.state_dict(),
            **self.optimizer.state(),
            "step": self.step,
            "thumbnails": self._thumbnails,
            "flags": self.config.flags,
        }

    def dataset(self) -> PairBatches:
        """Return the batches from this step on, sampled by the current error maps."""
        self.require_finite()
        self._require_finite_weights()
        self._dataset = self.data.dataset(self.step, self.model)
        return self._dataset

    def _schedule(self) -> Schedule:
        config = self.config
        return Schedule(self.step, config.num_iters, config.schedule_scale, config.depth_prior)

    def _losses(
        self, batch: Batch, depths: Tensor, variant: StepVariant, micro_batch: int, context: Context
    ) -> dict[str, Tensor]:
        return batch_losses(
            self.model,
            batch,
            depths,
            prior_depth=self.data.depth_prior_at(batch) if "depth_prior" in variant.terms else None,
            mask_near=variant.mask_near,
            max_padding=self.config.max_padding,
            micro_batch=micro_batch,
            context=context,
        )

    def _variant(self, weights: dict[str, float]) -> StepVariant:
        return StepVariant(tuple(weights), self.config.mask_near and self._schedule().masks_near)

    def _jittered_depths(self, shape: torch.Size) -> Tensor:
        """Return this process's part [P,N,K] of the jittered sample depths of all processes, on the CPU."""
        # Not the seed of the step's pairs: rays and pairs must be drawn independently.
        seed = int(np.random.SeedSequence([self.config.loader_seed, self.step, 1]).generate_state(1)[0])
        generator, (num_pairs, num_pts), config = torch.Generator().manual_seed(seed), shape[:2], self.model.config
        depths = sample_depths(config.num_samples_ray, config.min_depth, config.max_depth)
        depths = jitter_depths(depths, (self.context.size * num_pairs, num_pts), generator)
        return depths.split(num_pairs)[self.context.rank]

    def _can_record(self) -> bool:
        """Return whether steps can be recorded: not if they recompute layers or communicate with other processes."""
        recomputes = self.config.micro_batch > 0 or self.model.recomputes
        return self.model.device.type == "cuda" and self.context.size == 1 and not recomputes

    def _is_checked(self, step: int) -> bool:
        """Return whether values are checked after a step: if steps are replayed, where the host waits anyway."""
        reads = self._is_printed(step) or self._is_drawn(step) or step % self.config.i_weight == 0
        return reads or self.step_graph.recorder is None

    def _can_save(self) -> bool:
        """Return whether the state is that of a complete step, all of whose values were finite."""
        return not self._updating and int(self._num_skipped) == 0

    def _is_printed(self, step: int) -> bool:
        return step % self.config.i_print == 0 or step == 1

    def _is_drawn(self, step: int) -> bool:
        return step % self.config.i_img == 0 or step == self.config.num_iters

    def _report(self, terms: dict[str, Tensor], bar: tqdm) -> None:
        """Write the scalars, pictures and checkpoint that are due at this step."""
        config, step = self.config, self.step
        if self.log is not None and self._is_printed(step):
            scalars = {f"loss/loss_{name}": term.item() for name, term in terms.items() if name != "Loss"}
            self.log.scalars(step, {"loss/Loss": terms["Loss"].item(), **scalars, "lr": self.optimizer.rates[1]})
            bar.set_postfix(loss=f"{terms['Loss'].item():.3f}", flow=f"{terms['flow'].item():.2f}px")
        if self.log is not None and self._is_drawn(step):
            bar.set_description("training (drawing)")
            for name, image in self.images(step).items():
                self.log.image(step, name, image)
            if self.scores is not None:
                self.log.scalars(step, {f"val/{name}": score for name, score in self.scores().items()})
            bar.set_description("training")
        if step % config.i_weight == 0:
            self.save()

    def _require_finite_weights(self) -> None:
        """Raise TrainingDiverged if a weight is not finite: an update by finite gradients may overflow, too."""
        names, parameters = zip(*self.model.named_parameters(), strict=True)
        finite = torch.stack([p.isfinite().all() for p in parameters]).tolist()
        if not all(finite):
            raise TrainingDiverged(f"step {self.step}: {names[finite.index(False)]} is not finite after the update")

    def _describe_divergence(self) -> str:
        """Describe which term of which pair is not finite, or is the largest in a sum that overflows."""
        ranked: list[tuple[float, str]] = []
        dataset = self._dataset or self.data.dataset(self.step, self.model)
        batch = dataset[self.step].to(self.model.device)
        depths = self._jittered_depths(batch.src_px.shape).to(self.model.device)
        weights, parameters = loss_weights(self._schedule()), list(self.model.parameters())
        variant = self._variant(weights)
        for p, (i, j) in enumerate(zip(batch.src_ids.tolist(), batch.tgt_ids.tolist(), strict=True)):
            terms = self._losses(batch.pairs(p, p + 1), depths[p : p + 1], variant, 0, SINGLE_PROCESS)
            ranked += rank_nonfinite_terms(terms, weights, parameters, f"{self.names[i]} → {self.names[j]}")
        return describe_divergence(self.step, self.context.all_gather_object(ranked))


def batch_losses(
    model: OmniMotion,
    batch: Batch,
    depths: Tensor,
    *,
    prior_depth: Tensor | None = None,
    mask_near: bool = False,
    max_padding: float = 0.0,
    micro_batch: int = 0,
    context: Context = SINGLE_PROCESS,
) -> dict[str, Tensor]:
    """Return the unweighted loss terms of a batch.

    With several processes, each predicts its own part of the batch and computes the terms of all parts. Gradients flow
    only through its own part; their sum over the processes is the gradient of the whole batch.

    Args:
        model: The networks.
        batch: P pairs with N points, on the model's device.
        depths: Depths [P,N,K] of the samples on the rays.
        prior_depth: Depths [P,N] expected at the source points; None: no depth prior.
        mask_near: Switch off the nearest samples of each ray.
        max_padding: Pixels outside the image within which predicted points count.
        micro_batch: Pairs whose hidden layers are in memory at a time (0: all).
        context: The processes.
    """
    predicted = predict_pairs(model, batch.src_ids, batch.tgt_ids, batch.src_px, depths, mask_near, micro_batch)
    observed = batch.src_px, batch.tgt_px, batch.src_rgb, batch.weights
    inputs = LossInputs(predicted, depths, *observed, prior_depth, model.config, max_padding)
    return compute_losses(inputs if context.size == 1 else _all_gather(inputs, context))


def _all_gather(inputs: LossInputs, context: Context) -> LossInputs:
    """Return the inputs of all processes' batches."""
    predicted = inputs.prediction.tensors()
    names = [f.name for f in fields(inputs) if isinstance(getattr(inputs, f.name), Tensor)]
    values = context.all_gather([*predicted, *(getattr(inputs, name) for name in names)])
    gathered: dict[str, Any] = dict(zip(names, values[len(predicted) :], strict=True))
    return replace(inputs, prediction=Prediction(*values[: len(predicted)]), **gathered)
