"""Dense results as files for other programs: Middlebury flow, OpenEXR images, PLY point clouds."""

import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.atomic import write_atomic

FLO_MAGIC = b"PIEH"


def write_flo(path: Path, flow: NDArray) -> None:
    """Write flow as Middlebury's `.flo`: magic, width, height, little-endian float32.

    Args:
        path: Path of the file.
        flow: [H,W,2] (dx, dy) in pixels, y down.
    """
    height, width = flow.shape[:2]
    write_atomic(path, FLO_MAGIC + struct.pack("<ii", width, height) + flow.astype("<f4").tobytes())


def write_exr(path: Path, channels: dict[str, NDArray], comment: str) -> None:
    """Write an OpenEXR image of 32-bit floats, row 0 at the top, losslessly compressed (ZIP).

    Needs the package OpenEXR: see `export_formats.check_formats`.

    Args:
        path: Path of the file.
        channels: Channels [H,W] by name (R, G, …).
        comment: Comment for the header.
    """
    import OpenEXR  # optional

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, "comments": comment}
    # OpenEXR ignores strides, so its arrays must be contiguous.
    image = OpenEXR.File(header, {name: np.ascontiguousarray(c, np.float32) for name, c in channels.items()})
    content = io.BytesIO()
    image.write(content)
    write_atomic(path, content.getvalue())


def write_ply(path: Path, points: NDArray, colors: NDArray, density: NDArray, comment: str) -> None:
    """Write a point cloud as binary PLY.

    Args:
        path: Path of the file.
        points: float32 [N,3].
        colors: uint8 RGB [N,3].
        density: float32 [N].
        comment: Comment for the header.
    """
    kinds = {"x": "<f4", "y": "<f4", "z": "<f4", "red": "u1", "green": "u1", "blue": "u1", "density": "<f4"}
    vertices = np.empty(len(points), list(kinds.items()))
    for name, values in zip(kinds, [*points.T, *colors.T, density], strict=True):
        vertices[name] = values
    properties = (f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind in kinds.items())
    header = ["ply", "format binary_little_endian 1.0", f"comment {comment}", f"element vertex {len(points)}"]
    write_atomic(path, "\n".join([*header, *properties, "end_header\n"]).encode() + vertices.tobytes())
