"""Flow files: our packed format, and the released `.npy`.

A packed file holds fixed-point numbers of 1/16 px (rounded by at most 1/32 px, far below the error of optical flow) in
about a quarter of the space of float16. Differences along both axes are small because flow is smooth. Their signs move
to the lowest bit, low and high bytes are separated, and zlib compresses them by run lengths and Huffman codes (its
search for longer matches takes twice the time and gives larger files). NaN is kept: in chained flow it marks pixels
where nothing was chained.
"""

import struct
import zlib

import numpy as np

from preprocessing.sequence_paths import SequencePaths
from utils.atomic import write_atomic
from utils.data_files import read_array
from utils.errors import InputError
from utils.images import read_frame

STEPS_PER_PX = 16
NAN_STEP = np.iinfo(np.int16).min  # stands for NaN
HEADER = struct.Struct("<8sII")  # magic, height, width
MAGIC = b"OMFLOW02"
MAX_COMPRESSION = 1100  # zlib's largest factor is 1032


def flow_steps(flow: np.ndarray) -> np.ndarray:
    """Return flow [*] in pixels as int16 [*] steps of 1/16 px, NaN as `NAN_STEP`; cut off at 2047 px."""
    limit = np.iinfo(np.int16).max
    steps = np.clip(np.rint(np.nan_to_num(flow) * STEPS_PER_PX), -limit, limit).astype(np.int16)
    steps[np.isnan(flow)] = NAN_STEP
    return steps


def pack_flow(flow: np.ndarray) -> bytes:
    """Pack flow [H,W,2] in pixels, NaN allowed; cut off at 2047 px."""
    steps = np.moveaxis(flow_steps(flow), -1, 0)
    # Differences wrap around, and so do the sums that undo them.
    steps = np.diff(np.diff(steps, axis=1, prepend=np.int16(0)), axis=2, prepend=np.int16(0))
    zigzag = (steps << 1 ^ steps >> 15).view(np.uint16)  # 0, −1, 1, −2, … → 0, 1, 2, 3, …
    planes = np.stack([zigzag & 255, zigzag >> 8]).astype(np.uint8)
    packer = zlib.compressobj(strategy=zlib.Z_RLE)
    return HEADER.pack(MAGIC, *flow.shape[:2]) + packer.compress(planes.data) + packer.flush()


def unpack_flow(packed: bytes) -> np.ndarray:
    """Return the flow [H,W,2] float32 that `pack_flow` packed.

    Raises:
        ValueError: The bytes are no complete packed flow.
    """
    if len(packed) < HEADER.size or not packed.startswith(MAGIC):
        raise ValueError("not a packed flow")
    _, height, width = HEADER.unpack(packed[: HEADER.size])
    size = 4 * height * width  # bytes
    try:
        # A damaged header may give any size: allocate no more memory than the file can fill.
        if size > MAX_COMPRESSION * len(packed):
            raise zlib.error(f"{width}x{height} pixels in {len(packed)} bytes")
        stream = zlib.decompressobj()
        planes = stream.decompress(packed[HEADER.size :], size + 1)
        if not stream.eof:  # truncated, perhaps only in the checksum, or longer than its header's size
            raise zlib.error("its end is missing")
        low, high = np.frombuffer(planes, np.uint8).reshape(2, 2, height, width)
    except zlib.error as error:
        raise ValueError(f"a damaged packed flow: {error}") from error
    zigzag = low | high.astype(np.uint16) << 8
    steps = (zigzag >> 1 ^ -(zigzag & 1)).view(np.int16)  # [2,H,W]; differences so far
    np.cumsum(steps, 2, np.int16, out=steps)  # by default it sums int64
    for row in range(1, height):  # a third of the time of cumsum, which goes down column by column
        steps[:, row] += steps[:, row - 1]
    steps = np.moveaxis(steps, 0, -1)
    flow = np.multiply(steps, 1 / STEPS_PER_PX, dtype=np.float32)
    if (unknown := steps == NAN_STEP).any():
        flow[unknown] = np.nan
    return flow


def write_flow(paths: SequencePaths, a: str, b: str, flow: np.ndarray) -> None:
    """Write the flow a→b [H,W,2] pixels as a packed file."""
    write_atomic(paths.flow(a, b), pack_flow(flow))


def read_flow(paths: SequencePaths, a: str, b: str) -> np.ndarray:
    """Read the flow a→b, [H,W,2] float32 pixels, from the packed file, or from the released one if there is none.

    Raises:
        InputError: The file is missing, damaged or no flow, or a released one is not finite.
    """
    path = paths.flow(a, b)
    try:
        if path.exists():
            return unpack_flow(path.read_bytes())
        path = paths.released_flow(a, b)
        flow = read_array(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the flow {path} ({error}); delete it and run the preprocessing again") from error
    if flow.ndim != 3 or flow.shape[-1] != 2:
        raise InputError(f"{path} holds an array of shape {list(flow.shape)}; expected a flow [H,W,2]")
    if not np.isfinite(flow).all():
        raise InputError(f"{path} is not finite everywhere; give a flow that is, or delete it and preprocess again")
    return flow.astype(np.float32, copy=False)


def read_pair_mask(paths: SequencePaths, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """Read where the flow a→b is valid.

    Returns:
        Two bool masks [H,W]: cycle-consistent, and rescued (occluded in b, with a plausible flow).

    Raises:
        InputError: The file is missing, damaged or no image.
    """
    image = read_frame(paths.flow_mask(a, b))
    return image[..., 0] > 127, image[..., 1] > 127


def missing_flows(paths: SequencePaths, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of frame names that have no flow file of either kind."""
    folder = paths.flow("a", "b").parent
    present = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return [pair for pair in pairs if not {paths.flow(*pair).name, paths.released_flow(*pair).name} & present]
