"""Weights from a rule: those with which the golden numbers of RAFT and DINO were computed."""

import json
import math
from pathlib import Path

import torch


def rule_weights(keys_file: Path, seed: int) -> dict[str, torch.Tensor]:
    """Return a state dict for the names and shapes in a json file."""
    shapes = json.loads(keys_file.read_text())
    state = {}
    for index, name in enumerate(sorted(shapes)):
        shape, generator = shapes[name], torch.Generator().manual_seed(seed * 100003 + index)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
        elif name.endswith("running_var"):
            state[name] = 1 + 0.1 * torch.rand(shape, generator=generator)
        elif len(shape) >= 2:
            fan = shape[-1] if len(shape) == 3 else math.prod(shape[1:])
            state[name] = torch.randn(shape, generator=generator) / fan**0.5
        else:
            values = 0.1 * torch.randn(shape, generator=generator)
            state[name] = 1 + values if name.endswith("weight") else values
    return state
