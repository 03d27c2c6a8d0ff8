"""How far points come back from a round trip through the warp: `python -m benchmarks.precision [--checkpoint FILE]`.

Points of every frame go to the canonical volume and back on a CPU: in float32, with the factors of products rounded to
TF32's ten bits, and under autocast to bfloat16. Shown is the largest distance in local coordinates, in which the image
is 2 wide, and in pixels of an image 854 wide. New networks with affine maps, whose maps are close to the identity, or
with a checkpoint, ours or a released one, trained ones.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import write_json
from networks.model_config import ModelConfig
from networks.omnimotion import OmniMotion, load_model
from networks.released_checkpoint import load_released_checkpoint
from networks.warp import Warp

SIZE = (480, 854)  # height and width, for which a released checkpoint is opened; the warp does not depend on them
NEW_NETWORKS = ModelConfig(24, *SIZE, use_affine=True)
NUM_PTS = 1000  # of a frame

float32_linear = F.linear


def to_tf32(x: Tensor) -> Tensor:
    """Return float32 rounded to ten bits behind the point, half away from zero."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@contextmanager
def tf32_products() -> Iterator[None]:
    """Let `F.linear` compute as tensor cores do inside the context: factors rounded, sums in float32."""

    def rounded(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return float32_linear(to_tf32(x), to_tf32(weight), bias)

    with patch.object(F, "linear", rounded):
        yield


PRECISIONS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "float32": nullcontext,
    "TF32": tf32_products,
    "bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
}


@torch.no_grad()
def round_trip_error(warp: Warp) -> float:
    """Return the largest distance between points all over every frame's volume and their round trips."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(warp.num_frames)
    x = torch.rand(len(ids), NUM_PTS, 3, generator=generator) * 2 - torch.tensor([1.0, 1.0, 0.0])
    maps = warp.at(ids)
    return (maps.to_local(maps.to_canonical(x)) - x).norm(dim=-1).max().item()


def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="of a training run; default: new networks")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    args = parser.parse_args()
    if args.checkpoint:
        model = load_model(load_released_checkpoint(args.checkpoint, NEW_NETWORKS))
    else:
        model = OmniMotion.initialised(NEW_NETWORKS, seed=0)
    rows = {}
    for name, precision in PRECISIONS.items():
        with precision():
            error = round_trip_error(model.warp)
        rows[name] = {"error": error, "px of 854": error / 2 * (SIZE[1] - 1)}
        print(f"{name:9s} {error:8.1e} {rows[name]['px of 854']:8.4f} px", flush=True)
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
