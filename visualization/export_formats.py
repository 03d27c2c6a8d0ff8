"""The formats of `export.export`; imports no torch, so that `--help` does not wait for it."""

from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version

from utils.errors import InputError

EXPORT_FORMATS = ("npz", "csv", "tapvid", "nuke", "flow", "exr", "depth", "ply")


def check_formats(formats: Collection[str]) -> None:
    """Refuse an unknown format, and `exr` without the optional package that writes it.

    Raises:
        InputError: A format is unknown, or `exr` cannot be written.
    """
    if unknown := sorted(set(formats) - set(EXPORT_FORMATS)):
        raise InputError(f"there is no export format {unknown[0]}: choose some of {', '.join(EXPORT_FORMATS)}")
    if "exr" in formats and not _writes_exr():
        others = ",".join(name for name in EXPORT_FORMATS if name != "exr")
        raise InputError(
            "the export format exr needs the package OpenEXR, version 3.5 or newer, which is not installed: install it "
            f"with `pip install -U OpenEXR`, or leave exr out (all others: {others})"
        )


def _writes_exr() -> bool:
    """Return whether OpenEXR 3.5 or newer is installed: older versions cannot write into memory."""
    try:
        major, minor, *_ = version("OpenEXR").split(".")
    except PackageNotFoundError:
        return False
    return (int(major), int(minor)) >= (3, 5)


def parse_formats(text: str) -> list[str]:
    """Parse a list of formats: `npz,csv` → ["npz", "csv"], `all` → all of them.

    Raises:
        InputError: An unknown format, or `exr` without OpenEXR.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    formats = [each for name in names for each in (EXPORT_FORMATS if name == "all" else [name])]
    check_formats(formats)
    return list(dict.fromkeys(formats))  # each once
