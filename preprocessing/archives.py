"""Shared parts of the commands that unpack a benchmark: flags, finding the archive, writing sequences."""

import argparse
import http.client
import re
import shutil
import urllib.request
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from preprocessing.sequence_paths import SequencePaths
from preprocessing.weights import check_unchanged
from utils.atomic import atomic_folder, atomic_path
from utils.config import SWITCH
from utils.errors import InputError, OneLineErrorParser
from utils.images import to_rgb


def archive_parser(description: str, url: str) -> argparse.ArgumentParser:
    """Return a parser with `--archive FILE` or `--download` (of `url`), `--out` and `--sequences`."""
    parser = OneLineErrorParser(description=description)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--archive", type=Path, help="the archive, already downloaded")
    source.add_argument("--download", **SWITCH, default=False, help=f"download {url} to --out unless it is there")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data"),
        help="folder in which the sequence folders are made (default: %(default)s)",
    )
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="write only these sequences (default: all)")
    return parser


def find_archive(archive: Path | None, url: str, out: Path) -> Path:
    """Return the path of the archive, downloaded if needed.

    Args:
        archive: A file that was downloaded before, or None.
        url: Where to download from if `archive` is None.
        out: Folder for the download, which keeps its name from the URL. An existing file is not downloaded again.

    Raises:
        InputError: There is no such file, the download failed or is incomplete, or the file has changed since.
    """
    if archive is not None and not archive.is_file():
        raise InputError(f"no archive at {archive}: give the downloaded file, or --download instead")
    if archive is not None:
        return archive
    target = out / url.rsplit("/", 1)[-1]
    if not target.is_file():
        _download(url, target)
    check_unchanged(target)
    return target


def _download(url: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=60) as response, atomic_path(target) as temporary:
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm.wrapattr(response, "read", size, desc=target.name) as source, temporary.open("wb") as file:
                shutil.copyfileobj(source, file)
            if temporary.stat().st_size < size:  # a lost connection looks like the end of the file
                raise OSError(f"only {temporary.stat().st_size} of {size} bytes arrived")
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"cannot get {url} ({error}): try again, or give a copy with --archive") from error


def decode_rgb(data: bytes, origin: str) -> np.ndarray:
    """Decode a png or jpeg, with a palette's colours applied.

    Args:
        data: The encoded image.
        origin: Name of the image in the error message.

    Returns:
        RGB uint8 [H,W,3].

    Raises:
        InputError: The data is not an image.
    """
    with suppress(cv2.error):  # raised for no data, or a header that declares too many pixels
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is not None:
            return to_rgb(image)
    raise InputError(f"cannot decode {origin} as an image: delete the archive and download it again")


def write_sequences(
    out: Path, present: Collection[str], wanted: list[str] | None, write: Callable[[str, SequencePaths], None]
) -> None:
    """Write sequence folders `out/<name>`, each completely or not at all; existing ones are kept.

    Args:
        out: Folder of the sequence folders.
        present: Names of the archive's sequences.
        wanted: Names of the sequences to write; None for all.
        write: `write(name, paths)` writes one sequence to a temporary folder.

    Raises:
        InputError: A wanted name is not present, or is no valid name of a folder; nothing is written then.
    """
    names = dict.fromkeys(wanted or sorted(present))  # without repetitions
    if missing := [name for name in names if name not in present]:
        raise InputError(
            f"no sequence {', '.join(missing)} in the archive, which holds: {', '.join(sorted(present))}; give "
            "one of these"
        )
    if odd := [name for name in names if not re.fullmatch(r"[\w-]+", name)]:
        raise InputError(f"{odd[0]!r} cannot name a sequence folder: expected letters, digits, _ and -")
    for name in tqdm(names, desc="sequences"):
        target = out / name
        if target.exists():
            tqdm.write(f"{target} exists and is left as it is")
            continue
        with atomic_folder(target) as staged:
            write(name, SequencePaths(staged))
    print(f"ready: {len(names)} sequence(s) in {out}")
