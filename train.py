"""Optimise OmniMotion for one video: `python train.py --config configs/default.txt --data_dir <video or folder>`.

Does the preprocessing that is missing, trains (or goes on with the run of the same name), draws the tracks of a grid of
points and, where exact tracks exist, prints how the result compares with the flow it was given.
"""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from loaders.flow_store import FlowStore
from loaders.sequence import load_video
from loaders.synthetic import make_scene, write_scene
from networks.official_checkpoint import read_as_ours
from networks.omnimotion import ModelConfig, OmniMotion, load_model
from preprocessing.frames import prepare_sequence
from preprocessing.main_processing import is_complete, preprocess
from scoring import compare_with_flow, comparison_text, load_exact_tracks, score_model
from trainer import Trainer, TrainingDiverged
from utils.checkpoint import find_checkpoint, set_aside
from utils.config import parse_config, pick_device, run_dir, run_name, write_config
from utils.errors import InputError, exits_on_input_error
from utils.paths import SequencePaths
from utils.run_log import RunLog
from visuals import query_foreground, save_grid_tracks, training_images


def prepare(args: Namespace, device: torch.device) -> tuple[SequencePaths, list[str], np.ndarray]:
    """The sequence folder with all its flow products, its frame names and its frames."""
    if args.synthetic:
        write_scene(make_scene(), SequencePaths(Path(args.data_dir)))
    paths = prepare_sequence(Path(args.data_dir), args.max_side)
    names, video = load_video(paths, args.num_imgs)
    query_foreground(args, paths, names, video)  # what the drawing needs is checked before the long work
    if args.preprocess == "never":
        missing = is_complete(paths, names, args.chain)
        if missing:
            raise InputError(f"--preprocess never, but {paths.root} lacks {missing}; preprocess it or drop the flag")
    else:
        preprocess(
            paths,
            flow=args.flow,
            features=args.features,
            chain=args.chain,
            device=device,
            raft_weights=args.raft_weights and Path(args.raft_weights),
            dino_weights=args.dino_weights and Path(args.dino_weights),
            num_frames=len(names),
        )
    return paths, names, video


def build_model(args: Namespace, video: np.ndarray, checkpoint: dict | None, device: torch.device) -> OmniMotion:
    """New networks for this clip, or those of the checkpoint if it fits the clip and the flags.

    Raises:
        InputError: the checkpoint is of another clip or of other network sizes.
    """
    num_frames, height, width = video.shape[:3]
    sizes = {name: getattr(args, name) for name in ModelConfig.__dataclass_fields__ if hasattr(args, name)}
    config = ModelConfig(num_frames=num_frames, height=height, width=width, **sizes)
    if checkpoint is None:
        return OmniMotion.initialised(config, args.num_layers, args.loader_seed).to(device)
    model = load_model(checkpoint, device).train()
    for name in ("num_frames", "height", "width", *sizes):
        found, asked = getattr(model.config, name), getattr(config, name)
        if found != asked:
            raise InputError(
                f"the checkpoint has {name} {found}, this run asks for {asked}; change the flag or the clip to match, "
                "name another --expname, or start anew with --no_reload"
            )
    return model


def open_checkpoint(args: Namespace, video: np.ndarray) -> dict | None:
    """The state to go on from, if any; `--no_reload` sets earlier checkpoints of the run aside."""
    if args.no_reload and not args.ckpt_path:
        kept = set_aside(run_dir(args))
        if kept:
            print(f"--no_reload: the earlier run's checkpoints are now in {kept}")
        return None
    path = find_checkpoint(run_dir(args), args.ckpt_path)
    if path is None:
        return None
    rays = {"num_samples_ray": args.num_samples_ray, "min_depth": args.min_depth, "max_depth": args.max_depth}
    checkpoint = read_as_ours(path, *video.shape[1:3], **rays)
    print(f"going on from {path} (step {checkpoint['step']})")
    return checkpoint


@exits_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Prepare, train, draw, compare."""
    args = parse_config(argv)
    device, folder, log_dir = pick_device(args.device), run_dir(args), Path("logs") / run_name(args)
    find_checkpoint(folder, args.ckpt_path)  # a wrong path is told before the preprocessing
    paths, names, video = prepare(args, device)
    store = FlowStore(paths, names, prefer_chained=args.chain)
    checkpoint = open_checkpoint(args, video)
    model = build_model(args, video, checkpoint, device)
    write_config(args, folder)
    log = RunLog(log_dir, resume_step=checkpoint["step"] if checkpoint else None)
    exact = load_exact_tracks(paths, len(video))
    trainer = Trainer(
        args,
        model,
        video,
        store,
        folder,
        log,
        images=lambda step: training_images(model, video, store, step, args),
        scores=exact and (lambda: score_model(model, exact, args)),
        checkpoint=checkpoint,
    )
    try:
        finished = trainer.train()
    except TrainingDiverged as error:
        sys.exit(f"error: training stopped, {error}; the last good checkpoint stays in {folder}")
    finally:
        log.close()
    if not finished:
        print(f"stopped at step {trainer.step} of {args.num_iters}; the same command goes on from there")
        sys.exit(130)
    model.eval()
    if exact:
        print(comparison_text(compare_with_flow(model, paths, names, exact, args)))
    written = save_grid_tracks(model, video, names, paths, folder / "vis", args)
    print("\n".join(["files to look at:", *(f"  {path}" for path in written)]))
    print(f"  {folder / f'model_{trainer.step:06d}.pth'}\n  {log_dir} (tensorboard --logdir logs/)")


if __name__ == "__main__":
    main()
