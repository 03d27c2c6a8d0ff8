"""How far RAFT's flow in half precision is from float32: `python -m benchmarks.raft_precision --data_dir SEQ …`.

For pairs of frames of sequence folders, on a CPU: the mean and the median distance over all pixels between flow whose
networks compute in bfloat16 or float16 and flow in float32; and, as a measure of how firm the flow is, between float32
flow of the frames and of the same frames with noise of a hundredth of a grey level.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import write_json
from benchmarks.tables import markdown_table
from preprocessing import flow_raft
from preprocessing.flow_raft import RaftFlow
from preprocessing.frame_copies import scaled_size
from preprocessing.raft_network import load_raft
from preprocessing.settings import RELEASED_UPDATES
from utils.errors import exit_on_input_error
from utils.images import list_frames, read_frame

NOISE = 0.01  # of 255


def read_reduced(path: Path, max_side: int) -> np.ndarray:
    """Read a frame, reduced to a longer side of at most `max_side` pixels."""
    frame = read_frame(path)
    height, width = scaled_size(frame.shape[0], frame.shape[1], max_side)
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


def in_precision(kind: torch.dtype) -> AbstractContextManager[object]:
    """Let RAFT compute in `kind` inside the context, as it does in float16 on a GPU."""
    return patch.object(flow_raft, "inference_precision", lambda device: torch.autocast("cpu", kind))


def with_noise() -> AbstractContextManager[object]:
    """Let RAFT read frames with noise inside the context."""
    generator, read = torch.Generator().manual_seed(0), RaftFlow._frame

    def noisy(self: RaftFlow, index: int) -> Tensor:
        frame = read(self, index)
        return frame + NOISE * torch.randn(frame.shape, generator=generator)

    return patch.object(RaftFlow, "_frame", noisy)


VARIANTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "bfloat16": lambda: in_precision(torch.bfloat16),
    "float16": lambda: in_precision(torch.float16),
    "noise": with_noise,
}


def distances(frames: list[np.ndarray], network: torch.nn.Module, updates: int) -> dict[str, float]:
    """Return the mean length of the flow between two frames, and how far it moves in each variant, in pixels."""

    def flow(context: AbstractContextManager[object]) -> np.ndarray:
        with context:
            ((_, found),) = RaftFlow(frames.__getitem__, network, updates=updates).estimate_sweeps([(0, [1])])
        return found

    exact = flow(nullcontext())
    row = {"mean flow": float(np.linalg.norm(exact, axis=-1).mean())}
    for name, context in VARIANTS.items():
        moved = np.linalg.norm(flow(context()) - exact, axis=-1)
        row |= {name: float(moved.mean()), f"{name}, median": float(np.median(moved))}
    return row


@exit_on_input_error
def main() -> None:
    """Print the table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", nargs="+", type=Path, required=True, help="sequence folders with color/")
    parser.add_argument("--raft_weights", type=Path, help="file of RAFT-large weights instead of the download")
    parser.add_argument("--pairs", nargs="+", default=["0,1", "10,14"], help="frames, as in 0,1")
    parser.add_argument("--max_side", type=int, default=427, help="longer side in pixels")
    parser.add_argument("--updates", type=int, default=RELEASED_UPDATES, help="updates of RAFT")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    args = parser.parse_args()
    network, rows = load_raft(args.raft_weights, "cpu"), {}
    for folder in args.data_dir:
        paths = list_frames(folder / "color")
        for pair in args.pairs:
            frames = [read_reduced(paths[int(index)], args.max_side) for index in pair.split(",")]
            rows[f"{folder.name} {pair}"] = distances(frames, network, args.updates)
            write_json(args.json, rows)
    columns = list(next(iter(rows.values())))
    cells = [[name, *(f"{value:.3f}" for value in row.values())] for name, row in rows.items()]
    print(markdown_table(["px", *columns], cells))


if __name__ == "__main__":
    main()
