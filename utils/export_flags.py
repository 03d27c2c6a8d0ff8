"""Flags of what goes to other programs."""

import argparse

EXPORT_FORMATS = ("npz", "csv", "tapvid", "nuke", "flow", "exr", "depth", "ply")  # what `exports.export` writes


def export_formats(text: str) -> list[str]:
    """`npz,csv` → ["npz", "csv"]; `all` → all of them."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(names) - {*EXPORT_FORMATS, "all"}):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(EXPORT_FORMATS)} (or all of them: all)")
    return list(EXPORT_FORMATS) if "all" in names else names


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Declare them, in a group of their own."""
    add = parser.add_argument_group("export").add_argument
    names = ",".join(EXPORT_FORMATS)
    add("--export", type=export_formats, default=[], help=f"viz.py writes files, not pictures: {names} or all")
    add("--first_frame", type=int, default=None, help="number of the first frame in exports (default: by its name)")
    add("--density_th", type=float, default=0.7, help="density below which --export ply has no point")
