"""Optimise OmniMotion for one video: `python train.py --config configs/default.txt --data_dir <video or folder>`.

Does the preprocessing that is missing (none for tracks alone), trains (or goes on with the run of the same name), draws
the tracks of a grid of points and, where exact tracks exist, prints how the result compares with the flow it was given.
Several GPUs or hosts train together with `torchrun --nproc_per_node=N train.py …`; the first process alone writes.
"""

import os

# Waiting threads must not spin: beside other programs training would slow to a crawl. Set before torch starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

from evaluation.ground_truth import exact_tracks
from evaluation.scoring import comparison, score_model
from loaders.clip import open_clip
from loaders.track_file import read_tracks
from loaders.training_data import open_store
from networks.checkpoints import checkpoint_path, find_checkpoint, set_aside
from networks.divergence import TrainingDiverged
from networks.run_checkpoints import build_model, find_resume_checkpoint, load_resume_checkpoint
from networks.runtime import configure_runtime
from preprocessing.sequence_paths import SequencePaths
from preprocessing.synthetic import make_scene, write_scene
from trainer import Trainer
from utils.atomic import remove_partial
from utils.config import parse_config, run_dir, run_name, uses_flow, write_config
from utils.device import pick_device
from utils.distributed import Context
from utils.errors import exit_on_input_error, explain_failed_writes
from utils.lock import locked
from utils.run_log import RunLog
from visualization.tensorboard import training_images
from visualization.view import View, query_points, save_grid, save_trails


@exit_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Make the run's folder this run's alone, then do everything."""
    args = parse_config(argv)
    context, folder = Context.join(), run_dir(args)
    with explain_failed_writes(folder), ExitStack() as held:
        context.on_rank0(lambda: held.enter_context(locked(folder)))  # for all processes of the run
        _run(args, context, folder)


def _run(args: Namespace, context: Context, folder: Path) -> None:
    """Prepare, train, draw, compare."""
    log_dir = Path("logs") / run_name(args)
    device, say = context.device(pick_device(args.device)), print if context.rank == 0 else _ignore
    start = find_resume_checkpoint(args)
    if args.synthetic:
        context.on_rank0(lambda: write_scene(make_scene(), SequencePaths(Path(args.data_dir))))
    clip = open_clip(args, context)
    video, queries = clip.video, query_points(args, clip)
    tracks = read_tracks(Path(args.tracks), *video.shape[:3]) if args.tracks else None
    has_truth = clip.paths.gt_tracks.exists()
    exact = exact_tracks(clip.paths.gt_tracks, video.shape[1:3], len(video)) if has_truth else None
    checkpoint = start and load_resume_checkpoint(start, args, video)
    model = build_model(args, video, checkpoint, device)
    configure_runtime(model, args)
    store = open_store(args, clip, device, context) if uses_flow(args) else None
    # Nothing was touched so far: whatever the flags ask for is possible from here on.
    context.barrier()  # nor moved before all have read it
    log = _open_run(args, start, checkpoint, log_dir) if context.rank == 0 else None
    if start:
        left = "" if checkpoint["step"] < args.num_iters else f": all of the {args.num_iters} are done, drawing again"
        say(f"going on from {start} (step {checkpoint['step']}){left}")
    if tracks is not None:
        say(f"{tracks.px.shape[1]} tracks of {args.tracks}, read in {tracks.layout}")
    trainer = Trainer(
        args,
        model,
        video,
        clip.names,
        store,
        tracks,
        folder,
        log,
        images=lambda step: training_images(model, video, store, step, args),
        scores=exact and (lambda: score_model(model, exact, args)),
        checkpoint=checkpoint,
        context=context,
    )
    _train(trainer, start)
    if context.rank > 0:
        return
    model.eval()
    if exact:
        print(comparison(model, clip.paths, clip.names, exact, uses_flow(args), args))
    view = View(model, clip, queries, args)
    written = save_grid(view) + save_trails(view)
    print("\n".join(["files to look at:", *(f"  {path}" for path in written)]))
    print(f"  {checkpoint_path(folder, trainer.step)}\n  {log_dir} (tensorboard --logdir logs/)")


def _train(trainer: Trainer, start: Path | None) -> None:
    """To the end of the run; where it is not reached, the process exits and says what is kept."""
    leads = trainer.context.rank == 0
    try:
        finished = trainer.train()
    except TrainingDiverged as error:
        last = find_checkpoint(trainer.run_dir, None) or start
        kept = f"the last good state is {last}" if last else "none is saved"
        sys.exit(f"error: training stopped, {error}; {kept}" if leads else 1)
    finally:
        if trainer.log:
            trainer.log.close()
    if not finished:
        if leads:
            print(f"stopped at step {trainer.step} of {trainer.args.num_iters}; the same command goes on from there")
        sys.exit(130)


def _open_run(args: Namespace, start: Path | None, checkpoint: dict | None, log_dir: Path) -> RunLog:
    """Make the run's folder ready and open its log, which goes on where the checkpoint `start` was written."""
    remove_partial(run_dir(args))
    earlier = set_aside(run_dir(args), start)
    if earlier:
        print(f"checkpoints of an earlier run are now in {earlier}")
    write_config(args, run_dir(args))
    return RunLog(log_dir, resume_step=checkpoint["step"] if checkpoint else None)


def _ignore(text: str) -> None:
    """What all processes but the first say."""


if __name__ == "__main__":
    main()
