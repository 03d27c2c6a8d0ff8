"""The optimisation of one video: what a step does, what is kept, and how a run goes on after it was stopped.

Randomness: weights from (seed), pairs and pixels from (seed, rank, step), ray jitter from (seed, step): a step is a
pure function of the state before it.
"""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import criterion
from loaders.batches import Batch, FlowBatches, SamplingConfig, iterate_batches
from loaders.error_maps import error_map_path, load_error_maps, save_error_maps
from loaders.flow_store import FlowStore
from networks.omnimotion import OmniMotion
from utils.checkpoint import checkpoint_path, save_checkpoint
from utils.coords import inside_image, pixel_grid
from utils.interrupt import StopRequest
from utils.rays import jitter_depths, points_on_rays, project
from utils.run_log import RunLog
from utils.schedules import loss_weights, masks_near
from utils.volrend import composite

# The scene-flow term looks at this share of the points (released: the first quarter).
SMOOTHNESS_SHARE = 4

Images = Callable[[int], dict[str, np.ndarray]]
Scores = Callable[[], dict[str, float]]


class TrainingDiverged(Exception):
    """A loss or a gradient stopped being finite; the message names step, term and pair of frames."""


def compute_losses(
    model: OmniMotion, batch: Batch, depths: Tensor, *, max_padding: float = 0.0, mask_near: bool = False
) -> dict[str, Tensor]:
    """All unweighted loss terms of a batch, for rays sampled at `depths` [P,N,K]."""
    config = model.config
    height, width = config.height, config.width
    x_src = points_on_rays(batch.src_px, depths, height, width)
    rays = model.render_rays(x_src, batch.src_ids, mask_near)
    x_tgt = model.warp.to_local(rays.x_canonical, batch.tgt_ids)
    z_tgt = x_tgt[..., 2]
    # What leaves the target frame's depth range has no place there (released behaviour).
    weights = rays.weights * ((z_tgt >= config.min_depth) & (z_tgt <= config.max_depth))
    pred_px = project(composite(weights, x_tgt), height, width)
    counts = inside_image(pred_px, height, width, max_padding)
    flow = pred_px[counts], batch.tgt_px[counts], batch.weights[counts]
    in_source = inside_image(batch.src_px, height, width)
    rgb = composite(rays.weights, rays.rgbs)[in_source], batch.src_rgb[in_source]
    return {
        "flow": criterion.flow_loss(*flow),
        "rgb": criterion.rgb_loss(*rgb),
        "rgb_gradient": criterion.rgb_gradient_loss(*rgb),
        "depth_range": criterion.depth_range_loss(z_tgt, config.min_depth, config.max_depth),
        "distortion": criterion.distortion_loss(depths, weights),
        "scene_flow_smoothness": _scene_flow_smoothness(model, batch.src_ids, x_src, rays.x_canonical),
        "canonical_unit_sphere": criterion.canonical_unit_sphere_loss(rays.x_canonical),
        "flow_gradient": criterion.flow_gradient_loss(*flow),
    }


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The total loss."""
    return sum(weights[name] * term for name, term in terms.items())


class Trainer:
    """Runs the optimisation of a model from a start step to `args.num_iters`.

    Args:
        args: resolved flags (see `utils.config`).
        model: on the device to train on.
        video: uint8 [T,H,W,3]; `store` its flow products.
        run_dir: where checkpoints and error maps go.
        log: takes scalars and images; `images(step)` draws them, `scores()` measures against exact tracks if there
            are any.
        checkpoint: the state to continue from (see `state`), None to start anew.
    """

    def __init__(
        self,
        args: Namespace,
        model: OmniMotion,
        video: np.ndarray,
        store: FlowStore,
        run_dir: Path,
        log: RunLog,
        images: Images,
        scores: Scores | None = None,
        checkpoint: dict | None = None,
    ):
        self.args, self.model, self.video, self.store = args, model, video, store
        self.run_dir, self.log, self.images, self.scores = run_dir, log, images, scores
        rates = {"feature": args.lr_feature, "deform": args.lr_deform, "color": args.lr_color}
        groups = model.named_parameter_groups()
        self.optimizer = torch.optim.Adam(
            [{"params": list(groups[name].values()), "lr": rate} for name, rate in rates.items()]
        )
        self.scheduler = torch.optim.lr_scheduler.StepLR(
            self.optimizer, args.lrate_decay_steps, args.lrate_decay_factor
        )
        self.step, self._saved_at = 0, None
        if checkpoint is not None:
            self._resume(checkpoint)

    def state(self) -> dict:
        """All that is needed to go on: networks, optimiser, schedule, step and the flags of the run."""
        return {
            "model_config": asdict(self.model.config),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "step": self.step,
            "flags": vars(self.args),
        }

    def save(self) -> Path:
        """Write the state as `model_XXXXXX.pth`."""
        path = checkpoint_path(self.run_dir, self.step)
        save_checkpoint(path, self.state())
        self._saved_at = self.step
        return path

    def train(self) -> bool:
        """Optimise up to `num_iters` steps in all; the last state is saved however the loop ends.

        Returns:
            Whether the end was reached (False: stopped by Ctrl-C).

        Raises:
            TrainingDiverged: see there; the last good checkpoint stays in place and nothing is written over it.
        """
        args = self.args
        with (
            StopRequest() as stop,
            tqdm(total=args.num_iters, initial=self.step, desc="training", unit="step", smoothing=0) as bar,
        ):
            while self.step < args.num_iters and not stop.requested:
                # Batches between two sets of error maps come from one dataset.
                segment_end = min((self.step // args.i_cache + 1) * args.i_cache, args.num_iters)
                dataset = FlowBatches(self.video, self.store, self._sampling(), self._error_maps())
                for batch in iterate_batches(dataset, range(self.step, segment_end), args.num_workers):
                    terms = self.train_step(batch.to(self.model.device))
                    bar.update()
                    self._report(terms, bar)
                    if stop.requested:
                        break
        if self._saved_at != self.step:
            self.save()
        return not stop.requested

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the networks; returns the loss terms before it, `Loss` (the total) included."""
        args, step = self.args, self.step
        depths = self._jittered_depths(batch)
        mask_near = args.mask_near and masks_near(step, args.schedule_scale)
        terms = compute_losses(self.model, batch, depths, max_padding=args.max_padding, mask_near=mask_near)
        total = weighted_sum(terms, loss_weights(step, args.schedule_scale))
        self.optimizer.zero_grad()
        total.backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        if not torch.isfinite(total + norm):
            raise TrainingDiverged(self._blame(batch, depths, mask_near))
        if args.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), args.grad_clip)
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        return {"Loss": total, **terms}

    def _report(self, terms: dict[str, Tensor], bar: tqdm) -> None:
        """Log, draw and save where the step asks for it."""
        args, step = self.args, self.step
        if step % args.i_print == 0 or step == 1:
            names = {name: name if name == "Loss" else f"loss_{name}" for name in terms}
            scalars = {f"loss/{names[name]}": term.item() for name, term in terms.items()}
            self.log.scalars(step, scalars | {"lr": self.scheduler.get_last_lr()[1]})
            bar.set_postfix(loss=f"{terms['Loss'].item():.3f}", flow=f"{terms['flow'].item():.2f}px")
        if step % args.i_img == 0 or step == args.num_iters:
            for name, image in self.images(step).items():
                self.log.image(step, name, image)
            self.log.weight_stats(step, self.model)
            if self.scores is not None:
                self.log.scalars(step, {f"val/{name}": score for name, score in self.scores().items()})
        if step % args.i_weight == 0:
            self.save()

    def _resume(self, checkpoint: dict) -> None:
        self.step = checkpoint["step"]
        if self.args.load_opt:
            self.optimizer.load_state_dict(checkpoint["optimizer"])
        if self.args.load_scheduler:
            self.scheduler.load_state_dict(checkpoint["scheduler"])
            for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
                group["lr"] = rate

    def _sampling(self) -> SamplingConfig:
        args = self.args
        return SamplingConfig(
            num_pairs=args.num_pairs,
            num_pts=args.num_pts,
            start_interval=args.start_interval,
            use_count_map=args.use_count_map,
            seed=args.loader_seed,
            schedule_scale=args.schedule_scale,
        )

    def _jittered_depths(self, batch: Batch) -> Tensor:
        # A generator of its own seed space: pairs and rays of a step must not share their draws.
        seed = int(np.random.SeedSequence([self.args.loader_seed, self.step, 1]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        return jitter_depths(self.model.depths(), tuple(batch.src_px.shape[:2]), generator)

    def _error_maps(self) -> np.ndarray | None:
        """The error maps in force at this step: none before the first `i_cache` steps."""
        made_at = self.step // self.args.i_cache * self.args.i_cache
        if not self.args.use_error_map or made_at == 0:
            return None
        path = error_map_path(self.run_dir, made_at)
        if self.step == made_at or not path.exists():
            save_error_maps(path, self.flow_errors())
        return load_error_maps(path)

    def flow_errors(self) -> np.ndarray:
        """|predicted − input flow| in pixels, [T,H,W], of every frame to its next (the last: to its previous)."""
        num_frames, (height, width) = len(self.video), self.video.shape[1:3]
        px = pixel_grid(height, width, self.model.device).reshape(-1, 2)
        errors = []
        for i in tqdm(range(num_frames), desc="error maps", leave=False):
            j = i + 1 if i + 1 < num_frames else i - 1
            tracks = self.model.map_points(i, px, [j], self.args.use_max_loc, self.args.chunk_size, False)
            flow = torch.from_numpy(self.store.flow(i, j).astype(np.float32)).to(px).reshape(-1, 2)
            errors.append((tracks.px[0] - px - flow).norm(dim=-1).reshape(height, width).cpu().numpy())
        return np.stack(errors)

    def _blame(self, batch: Batch, depths: Tensor, mask_near: bool) -> str:
        """Which term of which pair is not finite, in words."""
        weights = loss_weights(self.step, self.args.schedule_scale)
        for p in range(len(batch.src_ids)):
            terms = compute_losses(
                self.model,
                batch.pair(p),
                depths[p : p + 1],
                max_padding=self.args.max_padding,
                mask_near=mask_near,
            )
            for name, term in terms.items():
                what = self._not_finite(term, weights[name])
                if what:
                    src, tgt = self.store.names[batch.src_ids[p]], self.store.names[batch.tgt_ids[p]]
                    return f"step {self.step}: the {what} of loss_{name} is not finite for the pair {src} → {tgt}"
        return f"step {self.step}: the total loss or its gradient overflows, each pair's terms alone are finite"

    def _not_finite(self, term: Tensor, weight: float) -> str | None:
        if not torch.isfinite(term):
            return "value"
        if not term.requires_grad:
            return None
        gradients = torch.autograd.grad(
            weight * term, list(self.model.parameters()), retain_graph=True, allow_unused=True
        )
        finite = all(torch.isfinite(g).all() for g in gradients if g is not None)
        return None if finite else "gradient"


def _scene_flow_smoothness(model: OmniMotion, ids: Tensor, x_local: Tensor, x_canonical: Tensor) -> Tensor:
    """Smoothness of the scene flow at the first quarter of the points of frames that have both neighbours."""
    inner = (ids >= 1) & (ids < model.config.num_frames - 1)
    num_pts = x_local.shape[1] // SMOOTHNESS_SHARE
    if num_pts == 0 or not inner.any():
        return x_local.new_zeros(())
    ids, x_local, x_canonical = ids[inner], x_local[inner, :num_pts], x_canonical[inner, :num_pts]
    x_previous, x_next = model.warp.to_local(x_canonical, ids - 1), model.warp.to_local(x_canonical, ids + 1)
    return criterion.scene_flow_smoothness_loss(x_local, x_previous, x_next)
