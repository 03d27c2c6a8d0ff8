"""A run by its flags: its sequence, its checkpoint, its networks. What the commands start from."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from networks.checkpoints import find_checkpoint, read_checkpoint, same_clip, thumbnails
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion, load_model
from networks.released_checkpoint import load_released_checkpoint
from utils.config import run_dir
from utils.errors import InputError


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
    if len(model.config.axes) != args.num_layers:
        raise InputError(
            f"the checkpoint has {len(model.config.axes)} coupling layers, --num_layers is {args.num_layers}: "
            "give that number, or another --expname"
        )
    for name in ("num_frames", "height", "width", *sizes):
        found, asked = getattr(model.config, name), getattr(config, name)
        if found != asked:
            raise InputError(
                f"the checkpoint has {name} {found}, this run asks for {asked}; change the flag or the clip to match, "
                "name another --expname, or start anew with --no_reload"
            )
    return model


def find_resume_checkpoint(args: Namespace) -> Path | None:
    """The checkpoint that training goes on from: the run's newest, None where it has none.

    `--ckpt_path` names where a run starts: once the run has a checkpoint that came from there, that one is taken.
    `--no_reload` passes over the run's own.

    Raises:
        InputError: `--ckpt_path` does not exist.
    """
    named = find_checkpoint(run_dir(args), args.ckpt_path) if args.ckpt_path else None
    newest = None if args.no_reload else find_checkpoint(run_dir(args), None)
    if named is None or newest is None:
        return named or newest
    came_from = read_checkpoint(newest).get("flags", {}).get("ckpt_path")
    return newest if isinstance(came_from, str) and Path(came_from).resolve() == named.resolve() else named


def load_resume_checkpoint(path: Path, args: Namespace, video: np.ndarray) -> dict:
    """The checkpoint `path`, ours or a released one, with all that training goes on from.

    Raises:
        InputError: it is unreadable, was trained on other pictures, or holds no optimizer.
    """
    checkpoint = load_compatible_checkpoint(path, args, video)
    missing = [key for key in ("optimizer", "scheduler", "step") if key not in checkpoint]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}, which training goes on from: give a whole checkpoint")
    return checkpoint


def load_compatible_checkpoint(path: Path, args: Namespace, video: np.ndarray) -> dict:
    """The checkpoint `path`, ours or a released one; networks are all that ours must hold.

    Raises:
        InputError: it is unreadable or was trained on other pictures.
    """
    rays = {name: getattr(args, name) for name in ("num_samples_ray", "min_depth", "max_depth")}
    checkpoint = load_released_checkpoint(path, *video.shape[1:3], **rays)
    trained, given = checkpoint.get("thumbnails"), thumbnails(video)  # released checkpoints have none
    if trained is not None and len(trained) == len(given) and not same_clip(trained, given):
        raise InputError(
            f"{path} was trained on other pictures than the {len(given)} frames of {args.data_dir}: give the data_dir "
            "of its training, or train this one under another --expname or with --no_reload"
        )
    return checkpoint


def find_trained_checkpoint(args: Namespace) -> Path:
    """The checkpoint that the flags name, or the run's newest.

    Raises:
        InputError: there is none.
    """
    path = find_checkpoint(run_dir(args), args.ckpt_path)
    if path is None:
        raise InputError(f"no checkpoint in {run_dir(args)}: train first, or name one with --ckpt_path")
    return path


def load_trained(args: Namespace, video: np.ndarray, device: torch.device) -> OmniMotion:
    """The model that the flags name, or the run's newest; says which, and how far it was trained.

    Raises:
        InputError: there is none, or it is of a clip of another size or length than `video`.
    """
    path = find_trained_checkpoint(args)
    checkpoint = load_compatible_checkpoint(path, args, video)
    model = load_model(checkpoint, device)
    trained = model.config.num_frames, model.config.height, model.config.width
    if trained != video.shape[:3]:
        raise InputError(
            f"{path} was trained on (frames, height, width) {trained}, this clip has {video.shape[:3]}: "
            "give the data_dir, num_imgs and max_side of its training"
        )
    unknown = "an unknown number"
    print(f"{path}: step {checkpoint.get('step', unknown)} of {checkpoint.get('flags', {}).get('num_iters', unknown)}")
    return model
