"""Flags of what goes to other programs."""

import argparse
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version

from utils.errors import InputError

EXPORT_FORMATS = ("npz", "csv", "tapvid", "nuke", "flow", "exr", "depth", "ply")  # what `exports.export` writes


def check_formats(formats: Collection[str]) -> None:
    """Refuse an unknown format, and `exr` without the optional package that writes it.

    Raises:
        InputError: one of these.
    """
    if unknown := sorted(set(formats) - set(EXPORT_FORMATS)):
        raise InputError(f"there is no export format {unknown[0]}: choose some of {', '.join(EXPORT_FORMATS)}")
    if "exr" in formats and not _writes_exr():
        others = ",".join(name for name in EXPORT_FORMATS if name != "exr")
        raise InputError(
            "the export format exr needs the package OpenEXR, version 3.5 or newer, which is not there: install it "
            f"with `pip install -U OpenEXR`, or leave exr out (all others: {others})"
        )


def _writes_exr() -> bool:
    """Whether there is an OpenEXR that writes into memory, as those before 3.5 do not."""
    try:
        major, minor, *_ = version("OpenEXR").split(".")
    except PackageNotFoundError:
        return False
    return (int(major), int(minor)) >= (3, 5)


def export_formats(text: str) -> list[str]:
    """`npz,csv` → ["npz", "csv"]; `all` → all of them. Raises InputError as `check_formats` does."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    formats = [each for name in names for each in (EXPORT_FORMATS if name == "all" else [name])]
    check_formats(formats)
    return list(dict.fromkeys(formats))  # each once


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Declare them, in a group of their own."""
    add = parser.add_argument_group("export").add_argument
    names = ",".join(EXPORT_FORMATS)
    add("--export", type=export_formats, default=[], help=f"viz.py writes files, not pictures: {names} or all")
    add("--first_frame", type=int, default=None, help="number of the first frame in exports (default: by its name)")
    add("--density_th", type=float, default=0.7, help="density below which --export ply has no point")
