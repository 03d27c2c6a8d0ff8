"""Trained models by the flags of their run: what viz.py and evaluate.py start from."""

from argparse import Namespace

import torch
from numpy.typing import NDArray

from networks.official_checkpoint import read_as_ours
from networks.omnimotion import OmniMotion, load_model
from utils.checkpoint import find_checkpoint
from utils.config import run_dir
from utils.errors import InputError


def load_trained(args: Namespace, video: NDArray, device: torch.device) -> OmniMotion:
    """The model that the flags name, or the run's newest.

    Raises:
        InputError: there is none, or it is of a clip of another size or length than `video`.
    """
    path = find_checkpoint(run_dir(args), args.ckpt_path)
    if path is None:
        raise InputError(f"no checkpoint in {run_dir(args)}: train first, or name one with --ckpt_path")
    rays = {name: getattr(args, name) for name in ("num_samples_ray", "min_depth", "max_depth")}
    model = load_model(read_as_ours(path, *video.shape[1:3], **rays), device)
    trained = model.config.num_frames, model.config.height, model.config.width
    if trained != video.shape[:3]:
        raise InputError(
            f"{path} was trained on (frames, height, width) {trained}, this clip has {video.shape[:3]}: "
            "give the data_dir, num_imgs and max_side of its training"
        )
    return model
