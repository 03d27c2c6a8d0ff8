"""Settings of preprocessing, from which command-line flags are made, and flags that all commands share.

This module imports no torch, so that a command's `--help` does not wait for it.
"""

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path

from preprocessing.frame_range import parse_frame_range
from preprocessing.value_range import parse_value_range
from utils.config import Flag
from utils.errors import InputError

AUTO = "auto"
FLOWS = (AUTO, "raft", "dis")
FEATURES = (AUTO, "dino", "sift")
PAIRS = ("all", "sparse")
# Flow without weights is combined with features without weights, so that `--flow dis` needs no download.
AUTO_FEATURES = {"raft": "dino", "dis": "sift"}

RELEASED_UPDATES = 20  # of RAFT
MAX_FLOW_SCALE = 4  # estimating flow takes the square of it in time and memory


def parse_flow_scale(text: str) -> int | str:
    """Parse `auto` or a whole factor."""
    if text == AUTO or (text.isdecimal() and 1 <= int(text) <= MAX_FLOW_SCALE):
        return text if text == AUTO else int(text)
    raise argparse.ArgumentTypeError(f"found {text!r}, expected auto or a whole number of 1 to {MAX_FLOW_SCALE}")


def parse_data_dir(text: str) -> str:
    """Return the path of a clip, which is no URL."""
    if re.match(r"\w{2,}://", text):
        raise argparse.ArgumentTypeError(
            f"{text} is a URL, expected a file: download it, and give the path of the downloaded file"
        )
    return text


DATA_DIR = Flag(
    "data_dir",
    "",
    "video or other file of frames, folder of frames, or sequence folder with color/",
    parse=parse_data_dir,
)
MAX_SIDE = Flag("max_side", None, "working resolution: longer side in pixels (default: the frames')", 1, parse=int)
FRAME_RANGE = Flag(
    "frame_range",
    "",
    "a:b or a:b:step: the frames a, a + step, … below b, from 0",
    parse=parse_frame_range,
)
VALUE_RANGE = Flag(
    "value_range",
    "",
    "lo:hi: values of images deeper than 8 bits that become 0 and 255 (default: percentiles)",
    parse=parse_value_range,
)
REDO = Flag("redo", False, "remake products made with other settings instead of refusing them")
DEVICE = Flag("device", "auto", "auto, cuda, cuda:1, mps or cpu")


@dataclass(frozen=True)
class Settings:
    """What preprocessing makes, and how. The metadata of a field are options of `utils.config.Flag`.

    Raises:
        InputError: An unknown method, an unknown scale, or a batch below 1.
    """

    flow: str = field(
        default="raft",
        metadata={"help": "optical flow; auto: raft if its weights are at hand, else dis", "choices": FLOWS},
    )
    features: str = field(
        default="auto",
        metadata={"help": "appearance check; auto: dino with raft, sift with dis", "choices": FEATURES},
    )
    pairs: str = field(
        default="all",
        metadata={"help": "pairs of frames with flow; sparse: small and doubled frame gaps", "choices": PAIRS},
    )
    chain: bool = field(
        default=True, metadata={"help": "chain flow through the frames in between: denser correspondences"}
    )
    raft_weights: Path | None = field(
        default=None, metadata={"help": "file of RAFT-large weights instead of the download", "parse": str}
    )
    dino_weights: Path | None = field(
        default=None, metadata={"help": "file of DINO ViT-S/16 weights instead of the download", "parse": str}
    )
    flow_scale: int | str = field(
        default=1,
        metadata={"help": "estimate flow on frames enlarged by this; auto: by their size", "parse": parse_flow_scale},
    )
    raft_iters: int = field(default=RELEASED_UPDATES, metadata={"help": "updates of RAFT for each pair", "least": 1})
    raft_batch: int | None = field(
        default=None,
        metadata={"help": "pairs that RAFT estimates at a time (default: by memory)", "parse": int, "least": 1},
    )

    def __post_init__(self) -> None:
        for name, choices in (("flow", FLOWS), ("features", FEATURES), ("pairs", PAIRS)):
            if getattr(self, name) not in choices:
                raise InputError(f"unknown method: --{name} {getattr(self, name)!r}; choose among {', '.join(choices)}")
        if self.flow_scale != AUTO and self.flow_scale not in range(1, MAX_FLOW_SCALE + 1):
            raise InputError(f"--flow_scale is {self.flow_scale}, expected auto or 1 to {MAX_FLOW_SCALE}")
        if self.raft_batch is not None and self.raft_batch < 1:
            raise InputError(f"--raft_batch is {self.raft_batch}, expected at least 1")
        for name in ("raft_weights", "dino_weights"):  # the flags of a run are plain text
            path = getattr(self, name)
            object.__setattr__(self, name, Path(path) if path else None)
        if self.features == AUTO and self.flow != AUTO:
            object.__setattr__(self, "features", AUTO_FEATURES[self.flow])
