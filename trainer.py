"""The optimisation of one video: what a step does, what is kept, and how a run goes on after it was stopped.

Randomness: weights from (seed), pairs and pixels from (seed, rank, step), ray jitter from (seed, step): a step is a
pure function of the state before it.

Several processes (torchrun) each send a batch of their own through the same networks, and a step is that of one process
with all their batches: see `losses.compute_losses`. They agree bit for bit on the state, and the first alone writes.
"""

from argparse import Namespace
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from loaders.batches import Batch, PairBatches, iterate_batches
from loaders.depth_prior import estimate_depth_prior, independent_motion_probability
from loaders.flow_store import FlowStore
from loaders.track_file import InputTracks
from loaders.training_data import error_maps_at, make_dataset, sampling_config
from networks.checkpoints import checkpoint_path, save_checkpoint, thumbnails
from networks.divergence import TrainingDiverged, rank_nonfinite_terms
from networks.omnimotion import OmniMotion
from networks.optimizer import ModelOptimizer
from networks.prediction import compute_losses, weighted_sum
from networks.rendering import jitter_depths
from utils.distributed import SINGLE_PROCESS, Context
from utils.interrupt import StopRequest
from utils.parallel import torch_threads
from utils.run_log import RunLog
from utils.schedules import depth_prior_weight, loss_weights, masks_near

Images = Callable[[int], dict[str, np.ndarray]]
Scores = Callable[[], dict[str, float]]


class Trainer:
    """Runs the optimisation of a model from a start step to `args.num_iters`.

    Args:
        args: resolved flags (see `utils.config`).
        model: on the device to train on.
        video: uint8 [T,H,W,3]; `names` its frames' file names.
        store, tracks: its flow products and its tracks; one of them may be None.
        run_dir: where checkpoints and error maps go.
        log: takes scalars and images, None in all processes but the first; `images(step)` draws them, `scores()`
            measures against exact tracks if there are any.
        checkpoint: the state to continue from (see `state`), None to start anew.
        context: this process among those that train together.
    """

    def __init__(
        self,
        args: Namespace,
        model: OmniMotion,
        video: np.ndarray,
        names: list[str],
        store: FlowStore | None,
        tracks: InputTracks | None,
        run_dir: Path,
        log: RunLog | None,
        images: Images,
        scores: Scores | None = None,
        checkpoint: dict | None = None,
        context: Context = SINGLE_PROCESS,
    ):
        self.args, self.model, self.video, self.names = args, model, video, names
        self.store, self.tracks = store, tracks
        self.run_dir, self.log, self.images, self.scores, self.context = run_dir, log, images, scores, context
        self.optimizer = ModelOptimizer(model.named_parameter_groups(), model.coupling_matrices(), args)
        self.step, self._saved_at, self._thumbnails = 0, None, thumbnails(video)
        self._depth_prior: Tensor | None = None
        self._updating = False  # an update that is cut short leaves a state that must not be saved
        if checkpoint is not None:
            self._resume(checkpoint)

    def state(self) -> dict:
        """All that is needed to go on: networks, optimizer, schedule, step, the clip's thumbnails and the flags."""
        return {
            "model_config": asdict(self.model.config),
            "model": self.model.state_dict(),
            **self.optimizer.state(),
            "step": self.step,
            "thumbnails": self._thumbnails,
            "flags": vars(self.args),
        }

    def save(self) -> Path:
        """Write the state as `model_XXXXXX.pth`."""
        self._require_finite()
        path = checkpoint_path(self.run_dir, self.step)
        save_checkpoint(path, self.state())
        self._saved_at = self.step
        return path

    def train(self) -> bool:
        """Optimise up to `num_iters` steps in all; the last whole step is saved however the loop ends.

        Returns:
            Whether the end was reached (False: stopped by Ctrl-C).

        Raises:
            TrainingDiverged: see there; alone of all ends it saves nothing, so that the last checkpoint is a good one.
        """
        # torchrun passes on the Ctrl-C that every process had from the terminal: no second one of the user's.
        num_threads = self.args.num_threads if self.model.device.type == "cpu" else 0
        with torch_threads(num_threads), StopRequest(patient=self.context.size > 1) as stop:
            try:
                self._train(stop)
            except TrainingDiverged:
                self._saved_at = self.step
                raise
            finally:
                if self._saved_at != self.step and not self._updating and self.context.rank == 0:
                    self.save()
        return self.step >= self.args.num_iters

    def _train(self, stop: StopRequest) -> None:
        args, stopped = self.args, False
        num_workers = 0 if args.draw_on_device else args.num_workers  # other processes do not share the device
        look = {"desc": "training", "unit": "step", "smoothing": 0, "disable": self.context.rank > 0}
        with tqdm(total=args.num_iters, initial=self.step, **look) as bar:
            while self.step < args.num_iters and not stopped:
                # Batches between two sets of error maps come from one dataset.
                next_maps = (self.step // args.i_cache + 1) * args.i_cache if args.use_error_map else args.num_iters
                segment_end = min(next_maps, args.num_iters)
                for batch in iterate_batches(self.dataset(), range(self.step, segment_end), num_workers):
                    terms = self.train_step(batch.to(self.model.device))
                    bar.update()
                    if self.context.rank == 0:
                        self._report(terms, bar)
                    stopped = self.context.any(stop.requested)
                    if stopped:
                        break

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the networks; returns the loss terms before it, `Loss` (the total) included."""
        args, step = self.args, self.step
        depths = self._jittered_depths(batch)
        weights = self._weights()
        # A term without weight is computed for its place in the log alone.
        wanted = [name for name, weight in weights.items() if weight != 0 or self._is_printed(step + 1)]
        terms = self._losses(batch, depths, wanted, args.micro_batch, self.context)
        total = weighted_sum(terms, weights)
        self.optimizer.zero_grad()
        total.backward()
        self.context.sum_gradients(self.model.parameters())
        norm = torch.nn.utils.get_total_norm(p.grad for p in self.model.parameters() if p.grad is not None)
        # One scalar for all: the only value of a step that a GPU is waited for.
        if not torch.isfinite(total + norm):
            raise TrainingDiverged(self._describe_divergence(batch, depths))
        if args.grad_clip > 0:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), args.grad_clip, norm)
        self._updating = True
        self.optimizer.step()
        self.step += 1
        self._updating = False
        return {"Loss": total, **terms}

    def _losses(
        self,
        batch: Batch,
        depths: Tensor,
        wanted: Collection[str],
        micro_batch: int = 0,
        context: Context = SINGLE_PROCESS,
    ) -> dict[str, Tensor]:
        args = self.args
        mask_near = args.mask_near and masks_near(self.step, args.schedule_scale)
        options = {"max_padding": args.max_padding, "mask_near": mask_near, "context": context}
        if depth_prior_weight(self.step, args.depth_prior, args.num_iters) > 0:
            options["expected_depth"] = self._expected_depth(batch)
        else:
            self._depth_prior = None  # 4 bytes for each pixel of the video
        return compute_losses(self.model, batch, depths, wanted=wanted, micro_batch=micro_batch, **options)

    def _weights(self) -> dict[str, float]:
        """The factor of each loss term at this step."""
        weights = loss_weights(self.step, self.args.schedule_scale)
        prior = depth_prior_weight(self.step, self.args.depth_prior, self.args.num_iters)
        return weights | ({"depth_prior": prior} if prior > 0 else {})

    def _expected_depth(self, batch: Batch) -> Tensor:
        """The depth [P,N] that motion lets expect at the source points of a batch."""
        height, width = self.video.shape[1:3]
        x, y = batch.src_px.round().long().unbind(-1)
        frames = batch.src_ids.to(x.device).unsqueeze(-1)
        return self._guessed_depth()[frames, y.clamp(0, height - 1), x.clamp(0, width - 1)]

    def _guessed_depth(self) -> Tensor:
        """What motion says of depth, [T,H,W], kept until nothing needs it."""
        if self._depth_prior is None:
            depth = estimate_depth_prior(self.store, quiet=self.context.rank > 0)
            self._depth_prior = torch.from_numpy(depth).to(self.model.device)
        return self._depth_prior

    def _is_printed(self, step: int) -> bool:
        return step % self.args.i_print == 0 or step == 1

    def _report(self, terms: dict[str, Tensor], bar: tqdm) -> None:
        """Log, draw and save where the step asks for it."""
        args, step = self.args, self.step
        if self._is_printed(step):
            names = {name: name if name == "Loss" else f"loss_{name}" for name in terms}
            scalars = {f"loss/{names[name]}": term.item() for name, term in terms.items()}
            self.log.scalars(step, scalars | {"lr": self.optimizer.rate})
            bar.set_postfix(loss=f"{terms['Loss'].item():.3f}", flow=f"{terms['flow'].item():.2f}px")
        if step % args.i_img == 0 or step == args.num_iters:
            bar.set_description("training (drawing)")
            for name, image in self.images(step).items():
                self.log.image(step, name, image)
            self.log.weight_stats(step, self.model)
            if self.scores is not None:
                self.log.scalars(step, {f"val/{name}": score for name, score in self.scores().items()})
            bar.set_description("training")
        if step % args.i_weight == 0:
            self.save()

    def _resume(self, checkpoint: dict) -> None:
        """Go on from `checkpoint`; changed flags of rates and decay take effect."""
        self.step = checkpoint["step"]
        if checkpoint_path(self.run_dir, self.step).exists():  # it is that file: others were set aside
            self._saved_at = self.step
        self.optimizer.load(checkpoint, self.args)

    def _require_finite(self) -> None:
        """Before parameters are kept or asked: an update by finite gradients may overflow, too."""
        bad = [name for name, p in self.model.named_parameters() if not torch.isfinite(p).all()]
        if bad:
            raise TrainingDiverged(f"step {self.step}: {bad[0]} is not finite after the update")

    def dataset(self) -> PairBatches:
        """The batches of flow, tracks or both, with the error maps in force at this step."""
        self._require_finite()
        sampling = sampling_config(self.args, self.context)
        error_maps = error_maps_at(self.step, self.args, self.model, self.video, self.store, self.run_dir, self.context)
        by_motion = self.args.motion_share > 0 and error_maps is None
        own = map(independent_motion_probability, self._guessed_depth().numpy(force=True)) if by_motion else None
        device = self.model.device
        return make_dataset(self.args, sampling, self.video, self.store, self.tracks, error_maps, own, device)

    def _jittered_depths(self, batch: Batch) -> Tensor:
        # A generator of its own seed space: pairs and rays of a step must not share their draws.
        seed = int(np.random.SeedSequence([self.args.loader_seed, self.step, 1]).generate_state(1)[0])
        generator, (num_pairs, num_pts) = torch.Generator().manual_seed(seed), batch.src_px.shape[:2]
        of_all = jitter_depths(self.model.depths(), (self.context.size * num_pairs, num_pts), generator)
        return of_all.split(num_pairs)[self.context.rank]

    def _describe_divergence(self, batch: Batch, depths: Tensor) -> str:
        """The term of the pair of frames that is not finite, or else is the largest of an overflowing sum, in words."""
        weights = self._weights()

        def terms_of_pair(p: int) -> dict[str, Tensor]:
            terms = self._losses(batch.pairs(p, p + 1), depths[p : p + 1], list(weights))
            return {name: weights[name] * term for name, term in terms.items()}

        found = self.context.all_gather_object(rank_nonfinite_terms(self.model, batch, self.names, terms_of_pair))
        return f"step {self.step}: " + max(found, key=lambda item: item[0])[1]
