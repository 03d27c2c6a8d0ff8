"""What the commands that unpack a benchmark share: flags, the archive, sequence folders that are whole or absent."""

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
from preprocessing.weights import check_remembered
from utils.atomic import atomic_folder, atomic_path
from utils.errors import InputError, OneLineErrorParser
from utils.images import to_rgb


def archive_flags(description: str, url: str) -> argparse.ArgumentParser:
    """Parser with `--archive FILE` or `--download` (of `url`), `--out` and `--sequences`."""
    parser = OneLineErrorParser(description=description)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--archive", type=Path, help="the downloaded file")
    source.add_argument("--download", action="store_true", help=f"get {url} into --out once, and keep it there")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder in which sequence folders are made")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these (default: all)")
    return parser


def find_archive(archive: Path | None, url: str, out: Path) -> Path:
    """The file `archive`; with None what `url` gives, in `out` under its own name, downloaded unless it is there.

    Raises:
        InputError: no such file, the download failed or came short, or the file has changed since.
    """
    if archive is not None and not archive.is_file():
        raise InputError(f"no archive at {archive}: give the downloaded file, or --download instead")
    if archive is not None:
        return archive
    target = out / url.rsplit("/", 1)[-1]
    if not target.is_file():
        _download(url, target)
    check_remembered(target)
    return target


def _download(url: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=60) as response, atomic_path(target) as temporary:
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm.wrapattr(response, "read", size, desc=target.name) as source, temporary.open("wb") as file:
                shutil.copyfileobj(source, file)
            if temporary.stat().st_size < size:  # a connection that breaks off looks like the end of the file
                raise OSError(f"{temporary.stat().st_size} of {size} bytes came")
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"cannot get {url} ({error}): try again, or give a copy with --archive") from error


def decode_rgb(data: bytes, origin: str) -> np.ndarray:
    """Bytes of a png or jpeg → RGB uint8 [H,W,3], a palette as its colours; `origin` names it in the error.

    Raises:
        InputError: not an image.
    """
    with suppress(cv2.error):  # no bytes at all, or a header that promises too many pixels
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is not None:
            return to_rgb(image)
    raise InputError(f"cannot decode {origin} as an image: delete the archive and download it again")


def write_sequences(
    out: Path, present: Collection[str], wanted: list[str] | None, write: Callable[[str, SequencePaths], None]
) -> None:
    """Make `out/<name>` for the `wanted` of the names `present` (all with None); one that exists is left as it is.

    `write(name, paths)` fills a hidden folder beside the target, renamed once that returns and removed if it raises;
    what a killed process left is removed first. So a folder that exists is whole, and a killed run can go on.

    Raises:
        InputError: a wanted name is not there, or one cannot be a folder's name; before anything is written.
    """
    names = dict.fromkeys(wanted or sorted(present))  # each once
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
