"""The formats of `export.export`; imports no torch, so that `--help` does not wait for it."""

import math
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version

from utils.errors import InputError

EXPORT_FORMATS = (
    *("npz", "csv", "tapvid", "nuke", "ae", "blender", "napari", "dlc"),
    *("flow", "exr", "depth", "ply", "rrd"),
)
# Optional packages that write a format, and the oldest version: older ones of OpenEXR cannot write into memory.
PACKAGES = {"exr": ("OpenEXR", (3, 5)), "rrd": ("rerun-sdk", (0, 24))}
LAST_BLENDER_FRAME = 1_048_574  # Blender's MAXFRAME


def check_formats(formats: Collection[str]) -> None:
    """Refuse an unknown format, and one without the optional package that writes it.

    Raises:
        InputError: A format is unknown or cannot be written.
    """
    if unknown := sorted(set(formats) - set(EXPORT_FORMATS)):
        raise InputError(f"there is no export format {unknown[0]}: choose some of {', '.join(EXPORT_FORMATS)}")
    missing = [name for name in PACKAGES if not _is_installed(*PACKAGES[name])]
    if absent := [name for name in missing if name in formats]:
        package, (major, minor) = PACKAGES[absent[0]]
        others = ",".join(name for name in EXPORT_FORMATS if name not in missing)
        raise InputError(
            f"the export format {absent[0]} needs the package {package}, version {major}.{minor} or newer, which is "
            f"not installed: install it with `pip install -U {package}`, or leave {absent[0]} out (all that can be "
            f"written: {others})"
        )


def check_timing(formats: Collection[str], fps: float, first: int, num_frames: int) -> None:
    """Refuse a format that needs a frame rate if it is unknown (NaN), and one that cannot count as far as the frames.

    Args:
        formats: Names of formats.
        fps: Frames per second.
        first: Number of the first frame.
        num_frames: Number of frames.

    Raises:
        InputError: `ae` without a frame rate, `blender` with too large a number.
    """
    if "ae" in formats and math.isnan(fps):
        raise InputError(
            "the export format ae needs the frame rate, which the source does not have: give fps (--fps), or leave "
            "ae out"
        )
    if "blender" in formats and first + num_frames - 1 > LAST_BLENDER_FRAME:
        raise InputError(
            f"the frames are numbered from {first}, and Blender counts to {LAST_BLENDER_FRAME}: give first_frame "
            "(--first_frame), or leave blender out"
        )


def _is_installed(package: str, oldest: tuple[int, int]) -> bool:
    try:
        major, minor, *_ = version(package).split(".")
    except PackageNotFoundError:
        return False
    return (int(major), int(minor)) >= oldest


def parse_formats(text: str) -> list[str]:
    """Parse a list of formats: `npz,csv` → ["npz", "csv"], `all` → all of them.

    Raises:
        InputError: An unknown format, or one without the package that writes it.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    formats = [each for name in names for each in (EXPORT_FORMATS if name == "all" else [name])]
    check_formats(formats)
    return list(dict.fromkeys(formats))  # each once
