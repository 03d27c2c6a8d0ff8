"""The directory of a TIFF file: how many pages it has, and what the first says of channels, slices and times."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from utils.errors import InputError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
IMAGE_DESCRIPTION, ASCII = 270, 2


@dataclass(frozen=True)
class Directory:
    """Number of pages, and the first page's description, "" if it has none."""

    num_pages: int
    description: str


def is_tiff(path: Path) -> bool:
    """Return whether a file begins like a TIFF."""
    with Path(path).open("rb") as file:
        return file.read(4) in MAGIC


def read_directory(path: Path) -> Directory:
    """Walk through the pages of a TIFF file.

    Raises:
        InputError: The file ends early or is damaged.
    """
    try:
        with Path(path).open("rb") as file:
            return _walk(file)
    except (struct.error, ValueError) as error:
        raise InputError(f"cannot read {path}: the TIFF is cut short or damaged; copy it again") from error


def _walk(file: BinaryIO) -> Directory:
    start = file.read(4)
    order, big = "<" if start[:2] == b"II" else ">", start in MAGIC[2:]
    # Formats of an offset, of the number of entries, and of an entry: tag, type, count, value or its offset.
    offset, count, entry = (order + part for part in (("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")))
    file.seek(8 if big else 4)
    (position,) = _unpack(file, offset)
    description, pages = "", set()
    while position:
        if position in pages:
            raise ValueError("a page is its own successor")
        pages.add(position)
        file.seek(position)
        (num_entries,) = _unpack(file, count)
        entries = [_unpack(file, entry) for _ in range(num_entries)]
        (position,) = _unpack(file, offset)
        for tag, kind, length, value in entries if len(pages) == 1 else []:
            if (tag, kind) == (IMAGE_DESCRIPTION, ASCII):
                description = _text(file, length, value, offset)
    return Directory(len(pages), description)


def _unpack(file: BinaryIO, layout: str) -> tuple:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _text(file: BinaryIO, length: int, value: bytes, offset: str) -> str:
    if length > len(value):
        file.seek(struct.unpack(offset, value)[0])
        value = file.read(length)
    return value[:length].rstrip(b"\0").decode("utf-8", errors="replace")


def axes_of(description: str) -> dict[str, int]:
    """Return the sizes of the axes C, Z and T of a microscope's stack, the fastest first; empty if none are described.

    ImageJ writes `channels=`, `slices=`, `frames=` and its order is CZT; OME writes XML with `DimensionOrder`.
    """
    if description.startswith("ImageJ="):
        sizes = {name: int(size) for name, size in re.findall(r"^(\w+)=(\d+)\s*$", description, re.MULTILINE)}
        channels, slices = (max(1, sizes.get(name, 1)) for name in ("channels", "slices"))
        rest = sizes.get("images", 1) // (channels * slices)
        return {"C": channels, "Z": slices, "T": sizes.get("frames", rest) or 1}
    order = re.search(r'DimensionOrder="XY([CZT]{3})"', description)
    if not order:
        return {}
    found = {axis: re.search(rf'Size{axis}="(\d+)"', description) for axis in order[1]}
    return {axis: max(1, int(size[1])) if size else 1 for axis, size in found.items()}
