"""Dense results as files for other programs: Middlebury flow, OpenEXR images, PLY point clouds."""

import struct
import zlib
from pathlib import Path

import numpy as np

from utils.atomic import write_whole

FLO_MAGIC = b"PIEH"
EXR_MAGIC, EXR_VERSION, EXR_FLOAT, EXR_ZIP = 20000630, 2, 2, 3
EXR_ROWS = 16  # that are compressed together


def write_flo(path: Path, flow: np.ndarray) -> None:
    """Flow [H,W,2] (dx, dy) in pixels, y down, as Middlebury's `.flo`: magic, width, height, little-endian float32."""
    height, width = flow.shape[:2]
    write_whole(path, FLO_MAGIC + struct.pack("<ii", width, height) + flow.astype("<f4").tobytes())


def write_exr(path: Path, channels: dict[str, np.ndarray], comment: str) -> None:
    """Channels [H,W] by name (R, G, …) as a 32-bit float OpenEXR image, row 0 at the top, losslessly compressed."""
    names = sorted(channels)
    rows = np.stack([channels[name] for name in names], 1).astype("<f4")  # [H,C,W]
    height, _, width = rows.shape
    described = (name.encode() + struct.pack("<xi4xii", EXR_FLOAT, 1, 1) for name in names)
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = struct.pack("<ii", EXR_MAGIC, EXR_VERSION) + b"".join(
        name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value
        for name, kind, value in (
            (b"channels", b"chlist", b"".join(described) + b"\0"),
            (b"comments", b"string", comment.encode()),
            (b"compression", b"compression", bytes([EXR_ZIP])),
            (b"dataWindow", b"box2i", window),
            (b"displayWindow", b"box2i", window),
            (b"lineOrder", b"lineOrder", b"\0"),
            (b"pixelAspectRatio", b"float", struct.pack("<f", 1)),
            (b"screenWindowCenter", b"v2f", struct.pack("<ff", 0, 0)),
            (b"screenWindowWidth", b"float", struct.pack("<f", 1)),
        )
    )
    header += b"\0"
    starts = range(0, height, EXR_ROWS)
    packed = [_exr_packed(rows[y : y + EXR_ROWS].tobytes()) for y in starts]
    blocks = [struct.pack("<ii", y, len(block)) + block for y, block in zip(starts, packed, strict=True)]
    first = len(header) + 8 * len(blocks)
    offsets = first + np.cumsum([0] + [len(block) for block in blocks[:-1]])
    write_whole(path, header + offsets.astype("<u8").tobytes() + b"".join(blocks))


def _exr_packed(raw: bytes) -> bytes:
    """OpenEXR's ZIP: bytes at even places, then at odd ones; differences + 128; zlib. As it is if that is longer."""
    values = np.frombuffer(raw, np.uint8)
    values = np.concatenate([values[::2], values[1::2]])
    values[1:] = np.diff(values) + np.uint8(128)
    packed = zlib.compress(values.tobytes())
    return packed if len(packed) < len(raw) else raw


def write_ply(path: Path, points: np.ndarray, colors: np.ndarray, density: np.ndarray, comment: str) -> None:
    """A point cloud as binary PLY: points [N,3] float32, colors [N,3] uint8 RGB, density [N] float32."""
    kinds = {"x": "<f4", "y": "<f4", "z": "<f4", "red": "u1", "green": "u1", "blue": "u1", "density": "<f4"}
    vertices = np.empty(len(points), list(kinds.items()))
    for name, values in zip(kinds, [*points.T, *colors.T, density], strict=True):
        vertices[name] = values
    properties = (f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind in kinds.items())
    header = ["ply", "format binary_little_endian 1.0", f"comment {comment}", f"element vertex {len(points)}"]
    write_whole(path, "\n".join([*header, *properties, "end_header\n"]).encode() + vertices.tobytes())
