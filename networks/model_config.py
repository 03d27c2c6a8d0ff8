"""Sizes of the networks and ends of the rays, declared once: the command-line flags are made from these fields.

This module imports no torch, so that a command's `--help` does not wait for it.
"""

from dataclasses import dataclass, field
from typing import Any


def flag(default: Any, help: str, least: float, most: float = 10**9) -> Any:
    """Declare a field that is a command-line flag of the same name, with its meaning and the range of its values."""
    return field(default=default, metadata={"help": help, "least": least, "most": most})


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build the networks again; stored in a checkpoint beside their weights.

    Fields without help are no flags: `num_frames`, `height` and `width` are the clip's, `axes` (the coordinate that
    each coupling layer changes) is drawn from the seed, and the rest have fixed values.
    """

    num_frames: int
    height: int
    width: int
    axes: list[int] = field(default_factory=list)
    num_layers: int = flag(6, "coupling layers", 1, 1000)
    use_affine: bool = flag(False, "affine map of every frame before the couplings", 0)
    pe_freq: int = flag(4, "octaves of the positional encodings", 1, 1000)
    coupling_width: int = flag(256, "hidden width of the coupling nets", 1)
    coupling_depth: int = flag(3, "hidden layers of the coupling nets", 1, 1000)
    code_size: int = flag(128, "length of a frame's code", 1)
    code_width: int = flag(256, "hidden width of the code net", 1)
    code_depth: int = field(default=2, metadata={"least": 1, "most": 1000})
    affine_width: int = 256
    affine_depth: int = field(default=7, metadata={"least": 1, "most": 1000})
    volume_width: int = flag(512, "hidden width of the volume net", 1)
    volume_depth: int = flag(3, "hidden layers of the volume net", 1, 1000)
    plane_size: int = flag(0, "cells along each side of the coupling nets' planes (0: none)", 0)
    plane_channels: int = 16
    plane_interval: int = flag(2, "frames between two feature planes", 1)
    volume_plane_size: int = flag(0, "cells along each side of the volume's planes (0: a GaborNet)", 0)
    volume_plane_channels: int = 8
    soft_bound: float = flag(
        0.0, "smooth bound of the couplings' scales and shifts (0: scales are clipped at e^8)", 0, 8
    )
    num_samples_ray: int = flag(32, "samples on a ray", 2)
    min_depth: float = flag(0.0, "where rays start", -1e9, 1e9)
    max_depth: float = flag(2.0, "where rays end", -1e9, 1e9)

    def __post_init__(self) -> None:
        if self.axes:  # checkpoints of earlier versions hold only the axes, not their number
            object.__setattr__(self, "num_layers", len(self.axes))
