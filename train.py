"""Optimise OmniMotion for one video: `python train.py --config configs/default.txt --data_dir <video or folder>`.

Does the preprocessing that is missing (none for tracks alone), trains (or goes on with the run of the same name), draws
the tracks of a grid of points and, where exact tracks exist, prints how the result compares with the flow it was given.
"""

import sys
from pathlib import Path

from loaders.flow_store import FlowStore
from loaders.mapped_flow import MappedFlowStore
from loaders.synthetic import make_scene, write_scene
from loaders.track_file import read_tracks
from loaders.truth import exact_tracks
from runs import build_model, ensure_flow, open_clip, read_start, starting_point
from scoring import comparison, score_model
from trainer import Trainer, TrainingDiverged
from utils.checkpoint import checkpoint_path, find_checkpoint, set_aside
from utils.config import parse_config, pick_device, run_dir, run_name, uses_flow, write_config
from utils.errors import exits_on_input_error
from utils.paths import SequencePaths
from utils.run_log import RunLog
from visuals import save_grid_tracks, training_images


@exits_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Prepare, train, draw, compare."""
    args = parse_config(argv)
    device, folder, log_dir = pick_device(args.device), run_dir(args), Path("logs") / run_name(args)
    start = starting_point(args)
    if args.synthetic:
        write_scene(make_scene(), SequencePaths(Path(args.data_dir)))
    clip = open_clip(args)
    paths, names, video = clip.paths, clip.names, clip.video
    tracks = read_tracks(Path(args.tracks), *video.shape[:3]) if args.tracks else None
    exact = exact_tracks(paths.gt_tracks, video.shape[1:3], len(video)) if paths.gt_tracks.exists() else None
    checkpoint = start and read_start(start, args, video)
    model = build_model(args, video, checkpoint, device)
    if args.checkpoint_activations:
        model.checkpoint_activations()
    store = None
    if uses_flow(args):
        ensure_flow(args, clip, device)
        store = (MappedFlowStore if args.map_flow else FlowStore)(paths, names, prefer_chained=args.chain)
    # Nothing was touched so far: whatever the flags ask for is possible from here on.
    earlier = set_aside(folder, start)
    if earlier:
        print(f"checkpoints of an earlier run are now in {earlier}")
    if start:
        left = "" if checkpoint["step"] < args.num_iters else f": all of the {args.num_iters} are done, drawing again"
        print(f"going on from {start} (step {checkpoint['step']}){left}")
    if tracks is not None:
        print(f"{tracks.px.shape[1]} tracks of {args.tracks}, read in {tracks.layout}")
    write_config(args, folder)
    log = RunLog(log_dir, resume_step=checkpoint["step"] if checkpoint else None)
    trainer = Trainer(
        args,
        model,
        video,
        names,
        store,
        tracks,
        folder,
        log,
        images=lambda step: training_images(model, video, store, step, args),
        scores=exact and (lambda: score_model(model, exact, args)),
        checkpoint=checkpoint,
    )
    try:
        finished = trainer.train()
    except TrainingDiverged as error:
        last = find_checkpoint(folder, None) or start
        sys.exit(
            f"error: training stopped, {error}; " + (f"the last good state is {last}" if last else "none is saved")
        )
    finally:
        log.close()
    if not finished:
        print(f"stopped at step {trainer.step} of {args.num_iters}; the same command goes on from there")
        sys.exit(130)
    model.eval()
    if exact:
        print(comparison(model, paths, names, exact, args))
    written = save_grid_tracks(model, video, names, clip.foreground, folder / "vis", args)
    print("\n".join(["files to look at:", *(f"  {path}" for path in written)]))
    print(f"  {checkpoint_path(folder, trainer.step)}\n  {log_dir} (tensorboard --logdir logs/)")


if __name__ == "__main__":
    main()
