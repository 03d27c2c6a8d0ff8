"""Models, batches and trainers for measurements, built as train.py builds them."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from loaders.batches import Batch, SamplingConfig
from loaders.flow_store import FlowStore
from loaders.pair_sampling import cycled_frames, partner_probabilities
from loaders.training_data import DataConfig, TrainingData
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from networks.optimizer import OptimizerConfig
from networks.run_checkpoints import build_model
from networks.runtime import configure_runtime
from networks.tracks import TrackingOptions
from trainer import Trainer, TrainingConfig
from utils.config import select

NUM_FRAMES, HEIGHT, WIDTH = 60, 480, 854  # of the clip that batches of random points are made for


def make_model(args: Namespace, num_frames: int, height: int, width: int, device: torch.device) -> OmniMotion:
    """Return new networks by the flags of a training."""
    config = select(ModelConfig, args, num_frames=num_frames, height=height, width=width)
    model = build_model(config, args.loader_seed, None, device)
    configure_runtime(
        model,
        compile=args.compile,
        checkpoint_activations=args.checkpoint_activations,
        amp=args.amp,
        tf32=args.tf32,
    )
    return model


def make_trainer(
    args: Namespace,
    model: OmniMotion,
    video: np.ndarray,
    names: list[str],
    store: FlowStore | None,
    run_dir: Path,
    **callbacks,
) -> Trainer:
    """Return a trainer by the flags of a training, for flow alone; `callbacks` are further arguments of `Trainer`."""
    sampling = select(SamplingConfig, args, seed=args.loader_seed)
    data = select(DataConfig, args, sampling=sampling, tracking=select(TrackingOptions, args))
    return Trainer(
        select(TrainingConfig, args, flags=vars(args)),
        select(OptimizerConfig, args),
        model,
        names,
        TrainingData(data, video, store, None, run_dir, model.device),
        run_dir,
        **callbacks,
    )


def random_batch(num_pairs: int, num_pts: int) -> Batch:
    """Return pairs as training draws them where all pairs have as many valid pixels, with random points."""
    rng, counts = np.random.default_rng(0), np.ones((NUM_FRAMES, NUM_FRAMES), int)
    src = cycled_frames(0, num_pairs, NUM_FRAMES, seed=12)
    tgt = [rng.choice(NUM_FRAMES, p=partner_probabilities(int(i), counts, 20)) for i in src]
    px = rng.uniform(0, [WIDTH - 1, HEIGHT - 1], (num_pairs, num_pts, 2)).astype(np.float32)
    moved = px + rng.normal(size=px.shape).astype(np.float32)
    rgb, weights = rng.random((num_pairs, num_pts, 3), np.float32), np.ones((num_pairs, num_pts), np.float32)
    return Batch(*map(torch.as_tensor, (src, np.array(tgt), px, moved, rgb, weights)))
