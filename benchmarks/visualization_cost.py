"""What pictures and scores cost beside training: `python -m benchmarks.visualization_cost [--configs FILE …] [--json FILE]`.

The share of a run's compute that goes into the pictures of every `i_img` steps with their scores, and into the grid's
tracks and the comparison at the end. Counted in operations of matrix products: the points that each picture and score
sends through warp and volume, times what a point costs in the config's networks, against `num_iters` steps (counted for
an eighth of their points). A score costs at most this: every sample counts as lying in front of its point. The clips:
the demo's for small networks on a CPU, 60 frames of 854x480 for the default ones on a GPU, which draws larger pictures.
"""

import argparse
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.measure import gflop_of, write_json
from evaluation.ground_truth import TrackTruth
from evaluation.scoring import model_tracker, score, score_model
from loaders.batches import Batch
from networks import omnimotion
from networks.canonical import CanonicalVolume
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion
from criterion import Schedule, loss_weights, weighted_sum
from trainer import batch_losses
from networks.warp import FrameMaps
from utils.config import parse_config
from utils.coords import with_time
from visualization import tensorboard
from visualization.query_points import DEFAULT_POINTS
from visualization.view import BACKGROUND_POINTS

CLIPS = {
    "configs/default.txt": ((60, 480, 854), 240),
    "configs/demo.txt": ((24, 96, 160), 80),
}  # frames, pictures' side
TRUTH_POINTS = 300
TINY = {
    **{"coupling_width": 1, "coupling_depth": 1, "code_size": 1, "code_width": 1, "code_depth": 1, "use_affine": False},
    **{"volume_width": 1, "volume_depth": 1, "pe_freq": 1},
}


def make_model(args: Namespace, clip: tuple[int, int, int], **sizes: int) -> OmniMotion:
    """The networks of the flags for a clip of T, H, W, some sizes changed."""
    names = [name for name in ModelConfig.__dataclass_fields__ if hasattr(args, name)]
    config = ModelConfig(*clip, **({name: getattr(args, name) for name in names} | sizes))
    return OmniMotion.initialised(config, args.num_layers, seed=0)


def gflop_per_point(model: OmniMotion) -> dict[str, float]:
    """What a point costs in the warp, either way, and in the volume."""
    x, maps = torch.zeros(1, 1000, 3), model.warp.at(torch.tensor([0]))
    work = {"warp": lambda: maps.to_canonical(x), "volume": lambda: model.volume(x)}
    with torch.no_grad():
        return {name: gflop_of(call)[0] / x.shape[1] for name, call in work.items()}


@contextmanager
def counted_points() -> Iterator[Counter]:
    """While entered, counts the points that pass the `warp`, either way, and the `volume`."""
    passed: Counter = Counter()

    def counting(name: str, function: Callable) -> Callable:
        def wrapped(self: object, x: torch.Tensor) -> object:
            passed[name] += x[..., 0].numel()
            return function(self, x)

        return wrapped

    places = [
        (FrameMaps, "to_canonical", "warp"),
        (FrameMaps, "to_local", "warp"),
        (CanonicalVolume, "forward", "volume"),
    ]
    patches = [patch.object(owner, name, counting(net, getattr(owner, name))) for owner, name, net in places]
    for each in patches:
        each.start()
    try:
        yield passed
    finally:
        for each in patches:
            each.stop()


def step_gflop(args: Namespace, model: OmniMotion) -> float:
    """A training step, from one of an eighth of its points."""
    rng, num_pts, factors = np.random.default_rng(0), args.num_pts // 8, loss_weights(Schedule(1000))
    src = torch.from_numpy(rng.integers(1, model.config.num_frames - 3, args.num_pairs))
    px = torch.rand(args.num_pairs, num_pts, 2) * 10
    batch = Batch(src, src + 2, px, px, torch.rand(*px.shape[:2], 3), torch.ones(px.shape[:2]))
    depths = model.depths().expand(*px.shape[:2], -1)
    wanted = [name for name, factor in factors.items() if factor != 0]
    return (
        8 * gflop_of(lambda: weighted_sum(batch_losses(model, batch, depths, wanted=wanted), factors).backward())[0]
    )


def visualization_share(args: Namespace, clip: tuple[int, int, int], side: int) -> dict[str, float]:
    """GFLOP of a step, of pictures, scores and the end, and the share of all looking in the run."""
    real, model = make_model(args, clip), make_model(args, clip, **TINY)
    costs, step = gflop_per_point(real), step_gflop(args, real)
    rng, (num_frames, height, width) = np.random.default_rng(0), clip
    points = rng.uniform(0, [width - 1, height - 1], (TRUTH_POINTS, num_frames, 2)).astype(np.float32)
    truth = TrackTruth(points, np.zeros(points.shape[:2], bool), (height, width), exact=True)
    grid = torch.from_numpy(points[0, :1]).expand(DEFAULT_POINTS + BACKGROUND_POINTS, 2)
    video = np.zeros((*clip, 3), np.uint8)
    works = {
        "pictures": lambda: tensorboard.training_images(model, video, None, 1, args),
        "scores": lambda: score_model(model, truth, args),
        "end": lambda: (
            score(model_tracker(model, args), truth),
            model.track(with_time(0, grid), None, args.use_max_loc),
        ),
    }
    row = {"step": step}
    with patch.object(omnimotion, "OCCLUSION_MARGIN", -1e9), patch.object(tensorboard, "LOG_SIDE", {"cpu": side}):
        for name, work in works.items():
            with counted_points() as passed:
                work()
            row[name] = sum(costs[net] * count for net, count in passed.items())
    sets = -(-args.num_iters // args.i_img)
    looking, training = sets * (row["pictures"] + row["scores"]) + row["end"], args.num_iters * step
    return row | {"share": looking / (looking + training)}


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=list(CLIPS), choices=list(CLIPS), help="which runs")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    rows = {}
    print(f"{'GFLOP of':22s} {'step':>9s} {'pictures':>9s} {'scores':>9s} {'end':>9s}   share of the run")
    for config in options.configs:
        row = rows[config] = visualization_share(parse_config(["--config", config, "--data_dir", "x"]), *CLIPS[config])
        figures = " ".join(f"{row[name]:9.1f}" for name in ("step", "pictures", "scores", "end"))
        print(f"{config:22s} {figures}   {row['share']:.2%}")
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
