"""A run by its flags: its sequence, its checkpoint, its networks. What the commands start from."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from loaders.flow_store import FlowStore
from loaders.mapped_flow import MappedFlowStore
from loaders.sequence import load_video, same_clip, thumbnails
from networks.official_checkpoint import read_as_ours
from networks.omnimotion import ModelConfig, OmniMotion, load_model
from preprocessing.frames import prepare_sequence
from preprocessing.main_processing import preprocess, require_complete
from preprocessing.manifest import Settings
from utils.accelerators import require_compiler
from utils.checkpoint import find_checkpoint, read_checkpoint
from utils.config import run_dir
from utils.errors import InputError
from utils.paths import SequencePaths
from utils.shard import ALONE, Shard
from utils.video_io import image_files, list_frames, read_mask


@dataclass(frozen=True)
class Clip:
    """A prepared sequence: its folder, frame file names, frames uint8 [T,H,W,3], foreground bool [H,W] or None."""

    paths: SequencePaths
    names: list[str]
    video: np.ndarray
    foreground: np.ndarray | None  # of the query frame


def open_clip(args: Namespace, shard: Shard = ALONE) -> Clip:
    """The frames that the flags name, unpacked and resized if need be (by the first of several processes).

    Raises:
        InputError: unusable frames, no such query frame, an unusable mask.
    """
    if shard.size > 1:
        shard.first(lambda: prepare_sequence(Path(args.data_dir), args.max_side))
    paths = prepare_sequence(Path(args.data_dir), args.max_side)
    names, video = load_video(paths, args.num_imgs)
    if not 0 <= args.query_frame_id < len(names):
        raise InputError(
            f"--query_frame_id is {args.query_frame_id}, expected one of the clip's frames, 0 to {len(names) - 1}"
        )
    foreground = _foreground(args, paths, names[args.query_frame_id], *video.shape[1:3])
    if shard.rank == 0:
        if (present := len(list_frames(paths.color))) > len(names):
            print(f"the first {len(names)} of {present} frames are used (--num_imgs)")
        if foreground is not None and foreground.all():
            print("warning: the foreground mask covers the whole frame: no background tells the camera's motion")
    return Clip(paths, names, video, foreground)


def _foreground(args: Namespace, paths: SequencePaths, name: str, height: int, width: int) -> np.ndarray | None:
    """Foreground of frame `name`: the file that the flags name, else the sequence's own mask, else None."""
    own = [path for path in image_files(paths.mask) if path.stem == Path(name).stem]
    files = [Path(args.foreground_mask_path)] if args.foreground_mask_path else own
    return read_mask(files[0], height, width) if files else None


def ensure_flow(args: Namespace, clip: Clip, device: torch.device, shard: Shard = ALONE) -> None:
    """Do what preprocessing is missing, or refuse (`--preprocess never`)."""
    settings = Settings.of(args)
    if args.preprocess == "never":
        require_complete(clip.paths, clip.names, settings)
        return
    preprocess(clip.paths, settings, device=device, num_frames=len(clip.names), redo=args.redo, shard=shard)


def open_store(args: Namespace, clip: Clip, device: torch.device, shard: Shard = ALONE) -> FlowStore:
    """The clip's flow products, made where they are missing (by all processes), its file for training by the first.

    Raises:
        InputError: what `ensure_flow` and the stores raise.
    """
    ensure_flow(args, clip, device, shard)

    def opened() -> FlowStore:
        store = (MappedFlowStore if args.map_flow else FlowStore)(clip.paths, clip.names, prefer_chained=args.chain)
        for i in range(len(clip.names) if args.use_count_map else 0):
            store.count_map(i)  # unusable ones are found before the run's folder is touched
        return store

    if shard.size > 1:
        shard.first(opened)
    return opened()


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


def make_cheaper(model: OmniMotion, args: Namespace) -> None:
    """What the flags ask for to train in less memory or time.

    Raises:
        InputError: `--compile`, but there is no compiler.
    """
    if args.compile:
        require_compiler(model.device)
        model.compile_networks()
    if args.checkpoint_activations:
        model.checkpoint_activations()
    model.volume.amp = args.amp
    torch.backends.cuda.matmul.allow_tf32 = args.tf32


def starting_point(args: Namespace) -> Path | None:
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


def read_start(path: Path, args: Namespace, video: np.ndarray) -> dict:
    """The checkpoint `path`, ours or a released one, with all that training goes on from.

    Raises:
        InputError: it is unreadable, was trained on other pictures, or holds no optimiser.
    """
    checkpoint = read_trained(path, args, video)
    missing = [key for key in ("optimizer", "scheduler", "step") if key not in checkpoint]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}, which training goes on from: give a whole checkpoint")
    return checkpoint


def read_trained(path: Path, args: Namespace, video: np.ndarray) -> dict:
    """The checkpoint `path`, ours or a released one; networks are all that ours must hold.

    Raises:
        InputError: it is unreadable or was trained on other pictures.
    """
    rays = {name: getattr(args, name) for name in ("num_samples_ray", "min_depth", "max_depth")}
    checkpoint = read_as_ours(path, *video.shape[1:3], **rays)
    trained, given = checkpoint.get("thumbnails"), thumbnails(video)  # released checkpoints have none
    if trained is not None and len(trained) == len(given) and not same_clip(trained, given):
        raise InputError(
            f"{path} was trained on other pictures than the {len(given)} frames of {args.data_dir}: give the data_dir "
            "of its training, or train this one under another --expname or with --no_reload"
        )
    return checkpoint


def trained_checkpoint(args: Namespace) -> Path:
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
    path = trained_checkpoint(args)
    checkpoint = read_trained(path, args, video)
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
