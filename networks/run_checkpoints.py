"""Find the checkpoint that a run starts from, check that it fits the clip and the flags, and load its model."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from networks.checkpoints import find_checkpoint, read_checkpoint, same_clip, thumbnails
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion, load_model
from networks.released_checkpoint import load_released_checkpoint
from utils.errors import InputError


def build_model(config: ModelConfig, seed: int, checkpoint: dict | None, device: torch.device) -> OmniMotion:
    """Return the model to train: a new one, or the one of a checkpoint.

    Args:
        config: The clip's size and the sizes that the flags give.
        seed: Determines the coupling order and the weights of a new model.
        checkpoint: One of ours, or None for a new model.
        device: The model's device.

    Raises:
        InputError: The checkpoint belongs to a clip or networks of another size.
    """
    if checkpoint is None:
        return OmniMotion.initialised(config, seed).to(device)
    model = load_model(checkpoint, device).train()
    # Sizes without a flag are not compared: the checkpoint's are kept, since earlier versions had flags for some.
    for name in ("num_frames", "height", "width", *(f.name for f in fields(ModelConfig) if "help" in f.metadata)):
        found, expected = getattr(model.config, name), getattr(config, name)
        if found != expected:
            raise InputError(
                f"the checkpoint has {name} {found}, this run has {expected}; change the flag (of a frame's size: "
                "--max_side) or the clip to match, give another --expname, or start anew with --no_reload"
            )
    return model


def find_resume_checkpoint(run_dir: Path, ckpt_path: str, no_reload: bool) -> Path | None:
    """Return the checkpoint that training resumes from, or None for a new model.

    Args:
        run_dir: The run's folder, whose newest checkpoint is the default.
        ckpt_path: Checkpoint to start from, or empty. If the run's newest checkpoint was trained from it, that one is
            returned instead.
        no_reload: Ignore the run's own checkpoints.

    Raises:
        InputError: `ckpt_path` does not exist.
    """
    given = find_checkpoint(run_dir, ckpt_path) if ckpt_path else None
    newest = None if no_reload else find_checkpoint(run_dir, None)
    if given is None or newest is None:
        return given or newest
    origin = read_checkpoint(newest).get("flags", {}).get("ckpt_path")
    return newest if isinstance(origin, str) and Path(origin).resolve() == given.resolve() else given


def load_resume_checkpoint(path: Path, video: np.ndarray, config: ModelConfig) -> dict:
    """Load a checkpoint that training can resume from; arguments as in `load_compatible_checkpoint`.

    Raises:
        InputError: It is unreadable, was trained on another clip, or lacks the optimizer's state.
    """
    checkpoint = load_compatible_checkpoint(path, video, config)
    missing = [key for key in ("optimizer", "scheduler", "step") if key not in checkpoint]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}, needed to resume training: give a complete checkpoint")
    return checkpoint


def load_compatible_checkpoint(path: Path, video: np.ndarray, config: ModelConfig) -> dict:
    """Load a checkpoint, converted to our layout if it is a released one; it may lack all but the networks.

    Args:
        path: The file.
        video: The clip that it must fit, uint8 [T,H,W,3].
        config: Source of what a released checkpoint lacks: the clip's size and the settings of the rays.

    Raises:
        InputError: It is unreadable or was trained on another clip.
    """
    checkpoint = load_released_checkpoint(path, config)
    trained, given = checkpoint.get("thumbnails"), thumbnails(video)  # released checkpoints have none
    if trained is not None and len(trained) == len(given) and not same_clip(trained, given):
        raise InputError(
            f"{path} was trained on other pictures than this clip's {len(given)} frames: give the data_dir of its "
            "training, or train this clip under another --expname or with --no_reload"
        )
    return checkpoint


def find_trained_checkpoint(run_dir: Path, ckpt_path: str) -> Path:
    """Return `ckpt_path` if given, else the run's newest checkpoint.

    Raises:
        InputError: There is none.
    """
    path = find_checkpoint(run_dir, ckpt_path)
    if path is None:
        raise InputError(f"no checkpoint in {run_dir}: train first, or give one with --ckpt_path")
    return path


def load_trained(path: Path, video: np.ndarray, config: ModelConfig, device: torch.device) -> OmniMotion:
    """Load the model of a checkpoint, ready for inference, and print how many steps it was trained.

    Arguments as in `load_compatible_checkpoint`.

    Raises:
        InputError: It is unreadable, or was trained on a clip of other pictures, size or length than `video`.
    """
    checkpoint = load_compatible_checkpoint(path, video, config)
    model = load_model(checkpoint, device)
    trained = model.config.num_frames, model.config.height, model.config.width
    if trained != video.shape[:3]:
        raise InputError(
            f"{path} was trained on (frames, height, width) {trained}, this clip has {video.shape[:3]}: "
            "give the data_dir, frame_range, num_imgs and max_side of its training"
        )
    unknown = "an unknown number"
    print(f"{path}: step {checkpoint.get('step', unknown)} of {checkpoint.get('flags', {}).get('num_iters', unknown)}")
    return model
