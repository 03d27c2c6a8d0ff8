"""Train OmniMotion on one video: `python train.py --config configs/default.txt --data_dir <video or folder>`.

Runs the preprocessing that is missing, trains or resumes the run of the same name, and draws the tracks of a grid of
points and the interactive page. If the clip has exact tracks, it also prints the scores of the model and of the flow it
was trained on. Several GPUs or hosts train together with `torchrun --nproc_per_node=N train.py …`; only rank 0 writes
files.
"""

import os

# Waiting threads must not spin: beside other programs training would slow to a crawl. Set before torch starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Nor those of numpy's short products, which several threads compute at a time for the depth prior.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from configs.flags import parse_train, run_dir, run_name, uses_flow
from utils.config import select, write_config
from utils.errors import exit_on_input_error, explain_failed_writes

# Modules that import torch, which takes seconds, are imported inside the functions: `--help` must not wait for it.
if TYPE_CHECKING:
    import torch

    from evaluation.ground_truth import TrackTruth
    from loaders.clip import Clip
    from loaders.training_data import TrainingData
    from networks.omnimotion import OmniMotion
    from trainer import Trainer
    from utils.distributed import Context
    from utils.run_log import RunLog
    from visualization.query_records import QueryPoints


@exit_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Parse the flags, lock the run's folder for all processes of the run, and train."""
    args = parse_train(argv)
    from utils.distributed import Context
    from utils.lock import locked

    context, folder = Context.join(), run_dir(args)
    with explain_failed_writes(folder), ExitStack() as held:
        context.on_rank0(lambda: held.enter_context(locked(folder)))
        _run(args, context, folder)


def _run(args: Namespace, context: "Context", folder: Path) -> None:
    """Prepare the input, train the model, then score and draw it."""
    from networks.run_checkpoints import find_resume_checkpoint
    from utils.device import pick_device
    from visualization.query_points import query_points

    # Input: everything is checked before the run's folder is touched.
    device = context.device(pick_device(args.device))
    start = find_resume_checkpoint(folder, args.ckpt_path, args.no_reload)
    clip = _open_clip(args, context)
    queries = query_points(clip, query_frame_id=args.query_frame_id)
    truth = _read_truth(clip)
    model, checkpoint = _build_model(args, clip, start, device)
    data = _open_data(args, clip, folder, device, context)
    # Training.
    context.barrier()  # rank 0 moves earlier checkpoints next: all must have read them
    log = _open_log(args, folder, start, checkpoint) if context.rank == 0 else None
    trainer = _make_trainer(args, model, clip, data, folder, log, truth, checkpoint)
    _train(trainer, start)
    # Results.
    if context.rank == 0:
        _show_results(args, trainer, clip, queries, truth)


def _open_clip(args: Namespace, context: "Context") -> "Clip":
    """Return the clip; with `--synthetic`, write the demo scene first."""
    from loaders.clip import open_clip
    from loaders.clip_masks import MaskOptions
    from preprocessing.sequence_paths import SequencePaths
    from preprocessing.synthetic import make_scene, write_scene

    if args.synthetic:
        context.on_rank0(lambda: write_scene(make_scene(), SequencePaths(Path(args.data_dir))))
    return open_clip(
        Path(args.data_dir),
        max_side=args.max_side,
        num_imgs=args.num_imgs,
        frame_range=args.frame_range,
        value_range=args.value_range,
        query_frame_id=args.query_frame_id,
        mask_path=args.foreground_mask_path,
        mask_options=select(MaskOptions, args),
        context=context,
    )


def _read_truth(clip: "Clip") -> "TrackTruth | None":
    """Return the clip's exact tracks, or None if it has none."""
    from evaluation.ground_truth import exact_tracks

    path, (num_frames, height, width) = clip.paths.gt_tracks, clip.video.shape[:3]
    return exact_tracks(path, (height, width), num_frames) if path.exists() else None


def _build_model(
    args: Namespace, clip: "Clip", start: Path | None, device: "torch.device"
) -> "tuple[OmniMotion, dict | None]":
    """Return the model to train and the checkpoint that it resumes from, None for a new model."""
    from networks.model_config import ModelConfig
    from networks.run_checkpoints import build_model, load_resume_checkpoint
    from networks.runtime import configure_runtime

    num_frames, height, width = clip.video.shape[:3]
    config = select(ModelConfig, args, num_frames=num_frames, height=height, width=width)
    checkpoint = load_resume_checkpoint(start, clip.video, config) if start else None
    model = build_model(config, args.loader_seed, checkpoint, device)
    configure_runtime(
        model, compile=args.compile, checkpoint_activations=args.checkpoint_activations, amp=args.amp, tf32=args.tf32
    )
    return model, checkpoint


def _open_data(
    args: Namespace, clip: "Clip", folder: Path, device: "torch.device", context: "Context"
) -> "TrainingData":
    """Return the input tracks and the flow of the clip; preprocess missing flow first."""
    from loaders.batches import SamplingConfig
    from loaders.track_file import read_tracks
    from loaders.training_data import DataConfig, TrainingData, open_store
    from networks.tracks import TrackingOptions
    from preprocessing.settings import Settings

    tracks = read_tracks(Path(args.tracks), *clip.video.shape[:3]) if args.tracks else None
    if tracks is not None and context.rank == 0:
        print(f"read {tracks.px.shape[1]} tracks from {args.tracks} in {tracks.layout}")
    store = None
    if uses_flow(args):
        making = {"preprocess": args.preprocess, "redo": args.redo, "use_count_map": args.use_count_map}
        store = open_store(clip, select(Settings, args), device, **making, context=context)
    sampling = select(SamplingConfig, args, seed=args.loader_seed, rank=context.rank, world_size=context.size)
    config = select(DataConfig, args, sampling=sampling, tracking=select(TrackingOptions, args))
    return TrainingData(config, clip.video, store, tracks, folder, device, context)


def _open_log(args: Namespace, folder: Path, start: Path | None, checkpoint: dict | None) -> "RunLog":
    """Prepare the run's folder, and return its log without the entries after the checkpoint `start`."""
    from networks.checkpoints import set_aside
    from utils.atomic import remove_partial
    from utils.run_log import RunLog

    remove_partial(folder)
    earlier = set_aside(folder, start)
    if earlier:
        print(f"moved the checkpoints of an earlier run to {earlier}")
    write_config(args, folder, expname=args.expname)  # the copy's own name must not name a run
    if checkpoint:
        is_done = checkpoint["step"] >= args.num_iters
        done = f"; all {args.num_iters} steps are done, so only the pictures are drawn again" if is_done else ""
        print(f"resuming from {start} (step {checkpoint['step']}){done}")
    return RunLog(_log_dir(args), resume_step=checkpoint["step"] if checkpoint else None)


def _log_dir(args: Namespace) -> Path:
    return Path("logs") / run_name(args)


def _make_trainer(
    args: Namespace,
    model: "OmniMotion",
    clip: "Clip",
    data: "TrainingData",
    folder: Path,
    log: "RunLog | None",
    truth: "TrackTruth | None",
    checkpoint: dict | None,
) -> "Trainer":
    """Return the trainer, with callbacks that draw and score the model."""
    from evaluation.scoring import score_model
    from networks.optimizer import OptimizerConfig
    from trainer import Trainer, TrainingConfig
    from visualization.tensorboard import training_images

    tracking = data.config.tracking
    drawing = {"seed": args.loader_seed, "start_interval": args.start_interval, "tracking": tracking}
    return Trainer(
        select(TrainingConfig, args, flags=vars(args)),
        select(OptimizerConfig, args),
        model,
        clip.names,
        data,
        folder,
        log,
        images=lambda step: training_images(model, clip.video, data.store, step, **drawing),
        scores=None if truth is None else lambda: score_model(model, truth, tracking),
        checkpoint=checkpoint,
        context=data.context,
    )


def _train(trainer: "Trainer", start: Path | None) -> None:
    """Train to the last step; if training stops earlier, exit with a message about the saved checkpoint."""
    from criterion import TrainingDiverged
    from networks.checkpoints import find_checkpoint

    is_rank0 = trainer.context.rank == 0
    try:
        finished = trainer.train()
    except TrainingDiverged as error:
        last = find_checkpoint(trainer.run_dir, None) or start
        kept = f"the last good checkpoint is {last}" if last else "none is saved"
        sys.exit(f"error: training stopped, {error}; {kept}" if is_rank0 else 1)
    finally:
        if trainer.log:
            trainer.log.close()
    if not finished:
        if is_rank0:
            num_iters = trainer.config.num_iters
            print(f"stopped at step {trainer.step} of {num_iters}; the same command resumes the run")
        sys.exit(130)


def _show_results(
    args: Namespace, trainer: "Trainer", clip: "Clip", queries: "QueryPoints", truth: "TrackTruth | None"
) -> None:
    """Print the scores if exact tracks exist, draw tracks and the page, and print the paths of the results."""
    from evaluation.scoring import comparison
    from networks.checkpoints import checkpoint_path
    from visualization.page import QUICK_SHARE, save_page
    from visualization.styles import save_grid, save_trails
    from visualization.view import View, ViewOptions

    model, tracking = trainer.model.eval(), trainer.data.config.tracking
    if truth is not None:
        print(comparison(model, clip.paths, clip.names, truth, uses_flow(args), tracking))
    options = select(ViewOptions, args, out_dir=trainer.run_dir / "vis", tracking=tracking)
    view = View(model, clip, queries.points, options)
    checkpoint, log_dir = checkpoint_path(trainer.run_dir, trainer.step), _log_dir(args)
    page_line: list[str] = []
    pictures: list[Path] = []
    try:
        pictures += save_grid(view)
        pictures += save_trails(view)
        page = save_page(view, run_name(args), checkpoint, log_dir / "metrics.jsonl", QUICK_SHARE)
        page_line = [f"{page} (the interactive page: open it in a browser)"]
    finally:  # what is complete is named even if drawing fails or is interrupted
        written = [*page_line, *pictures, checkpoint, f"{log_dir} (tensorboard --logdir logs/)"]
        print("\n".join(["files to look at:", *(f"  {line}" for line in written)]))


if __name__ == "__main__":
    main()
