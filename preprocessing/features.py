"""Dense features of the frames, for comparing appearance: `dino` (pretrained) or `sift` (needs no weights).

A feature map is [h,w,C]. The centres of its corner cells lie on the centres of the image's corner pixels. Files hold
float16.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from kornia.feature import DenseSIFTDescriptor
from torch import Tensor
from tqdm import tqdm

from preprocessing.dino_network import dino_tokens, load_dino
from preprocessing.sequence_paths import SequencePaths
from preprocessing.weights import inference_precision
from utils.atomic import write_array
from utils.coords import sample_bilinear
from utils.device import to_numpy
from utils.errors import InputError
from utils.images import read_frame
from utils.parallel import advance, run_in_threads

Extractor = Callable[[list[np.ndarray]], Tensor]  # B frames uint8 [H,W,3] → features [B,h,w,C]

GPU_BATCH = 16  # frames that DINO takes at a time on a GPU; on a CPU a batch gains nothing
WRITERS = 4  # threads that write features while the next ones are computed
DINO_SIDE, DINO_MULTIPLE = 480, 64  # pixels, as in the released preprocessing
DINO_MEAN, DINO_STD = (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)
# A stride of 4 px lets 1.5 times as many wrong points pass, at the same share of right ones. 2x2 cells separate them as
# well as the usual 4x4, with a quarter of the memory.
SIFT_STRIDE, SIFT_CELLS, SIFT_CELL_SIZE = 2, 2, 4
SIFT_STRIP = 64  # rows of a frame that are described together


def dino_input(frame: np.ndarray) -> Tensor:
    """Resize and normalise a frame uint8 [H,W,3]: [1,3,h,w], short side 480, the other floored to a multiple of 64."""
    height, width = frame.shape[:2]
    other = int(DINO_SIDE * max(height, width) / min(height, width)) // DINO_MULTIPLE * DINO_MULTIPLE
    size = (DINO_SIDE, other) if height > width else (other, DINO_SIDE)  # (width, height)
    image = torch.from_numpy(cv2.resize(frame, size)).float() / 255
    return ((image - torch.tensor(DINO_MEAN)) / torch.tensor(DINO_STD)).permute(2, 0, 1)[None]


def sift_map(frame: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Return dense SIFT descriptors [⌈H/2⌉,⌈W/2⌉,32] of a frame uint8 [H,W,3], padded by repeating its border."""
    height, width = frame.shape[:2]
    describe = DenseSIFTDescriptor(
        num_spatial_bins=SIFT_CELLS, spatial_bin_size=SIFT_CELL_SIZE, stride=1, padding=0
    ).to(device)
    margin = SIFT_CELLS * SIFT_CELL_SIZE
    grey = torch.from_numpy(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)).to(device).float()[None, None] / 255
    with torch.inference_mode():
        dense = _describe_strips(describe, F.pad(grey, [margin] * 4, mode="replicate"))[0].movedim(0, -1)
    # If the cells' size is even, a descriptor's centre lies half a pixel before the middle of its cells.
    first = (SIFT_CELLS - 1) * SIFT_CELL_SIZE / 2 - (0.5 if SIFT_CELL_SIZE % 2 == 0 else 0)
    ys = torch.linspace(0, height - 1, -(-height // SIFT_STRIDE), device=device)
    xs = torch.linspace(0, width - 1, -(-width // SIFT_STRIDE), device=device)
    px = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1) + (margin - first)
    return sample_bilinear(dense[None], px[None])[0]


def _describe_strips(describe: DenseSIFTDescriptor, grey: Tensor) -> Tensor:
    """Describe an image [1,1,H,W] in strips, whose intermediate results fit into a processor's cache: the same result.

    Descriptors reach over less than a strip's margin, `SIFT_CELLS * SIFT_CELL_SIZE` rows.
    """
    height, margin = grey.shape[2], SIFT_CELLS * SIFT_CELL_SIZE
    strips = []
    for first in range(0, height, SIFT_STRIP):
        top, bottom = max(0, first - margin), min(height, first + SIFT_STRIP + margin)
        described = describe(grey[:, :, top:bottom])
        last = None if bottom == height else first - top + SIFT_STRIP
        strips.append(described[:, :, first - top : last])
        if bottom == height:
            break
    return torch.cat(strips, 2)


def feature_extractor(kind: str, device: torch.device | str, dino_weights: Path | None = None) -> Extractor:
    """Return the function from frames to their features.

    Args:
        kind: `dino` or `sift`.
        device: Where to compute.
        dino_weights: File with the weights of DINO; None: downloaded.

    Raises:
        InputError: An unknown kind, or no usable weights.
    """
    if kind == "sift":
        return lambda frames: torch.stack([sift_map(frame, device) for frame in frames])
    if kind != "dino":
        raise InputError(f"unknown features {kind!r}; choose dino or sift")
    network = load_dino(dino_weights, device)

    def extract(frames: list[np.ndarray]) -> Tensor:
        images = torch.cat([dino_input(frame) for frame in frames])
        with inference_precision(device):
            return dino_tokens(network, images.to(device))

    return extract


def missing_features(paths: SequencePaths, names: list[str], kind: str) -> list[str]:
    """Return the frames that have no feature file."""
    return [name for name in names if not paths.feature(kind, name).is_file()]


def write_features(
    paths: SequencePaths, names: list[str], kind: str, extract: Extractor, device: torch.device | str = "cpu"
) -> None:
    """Write the missing feature files, while the next ones are computed.

    Args:
        paths: Sequence with `color/`.
        names: Frame file names.
        kind: `dino` or `sift`.
        extract: From `feature_extractor`.
        device: Where it computes; decides how many frames it takes at a time.
    """
    todo = missing_features(paths, names, kind)
    size = GPU_BATCH if kind == "dino" and torch.device(device).type == "cuda" else 1

    def write(name: str, features: np.ndarray) -> None:
        write_array(paths.feature(kind, name), features.astype(np.float16))
        advance(bar)

    def work(batch: list[str]) -> Iterator[Callable[[], None]]:
        features = to_numpy(extract([read_frame(paths.color / name) for name in batch]))
        yield from (partial(write, *item) for item in zip(batch, features, strict=True))

    batches = [todo[k : k + size] for k in range(0, len(todo), size)]
    with tqdm(total=len(todo), desc=f"features ({kind})", unit="frame") as bar:
        run_in_threads(work, batches, 1, WRITERS)
