"""DAVIS 2016 and 2017 (trainval, 480p) as sequence folders: frames as they are, masks of all objects together.

python preprocessing/get_davis.py --archive DAVIS-2017-trainval-480p.zip --sequences bear car-shadow
"""

import re
import sys
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, only this folder would be found

from preprocessing.archives import archive_flags, decode_rgb, find_archive, write_sequences
from preprocessing.sequence_paths import SequencePaths
from preprocessing.zip_files import open_zip
from utils.errors import InputError, exit_on_input_error
from utils.images import write_image

URL = "https://data.vision.ee.ethz.ch/csergi/share/davis/DAVIS-2017-trainval-480p.zip"
FRAME = re.compile(r"DAVIS/JPEGImages/480p/([^/]+)/\w+\.jpg")
MASK = re.compile(r"DAVIS/Annotations/480p/([^/]+)/\w+\.png")


def write_davis(archive: zipfile.ZipFile, out: Path, sequences: list[str] | None) -> None:
    """Write `color/*.jpg` (the archive's bytes) and `mask/*.png` (0 or 255) of the sequences to `out/<sequence>`.

    Args:
        archive: `DAVIS/JPEGImages/480p/<sequence>/*.jpg`, `DAVIS/Annotations/480p/<sequence>/*.png`.
        out: folder of sequence folders; those that exist are kept.
        sequences: names, None for all.

    Raises:
        InputError: no frames in this layout, no such sequence, or an undecodable annotation.
    """
    frames, masks = _members(archive, FRAME), _members(archive, MASK)
    if not frames:
        raise InputError(f"{archive.filename} holds no DAVIS/JPEGImages/480p/<sequence>/*.jpg: expected DAVIS at 480p")

    def write(name: str, paths: SequencePaths) -> None:
        paths.color.mkdir()
        for member in frames[name]:
            (paths.color / PurePosixPath(member).name).write_bytes(archive.read(member))
        for member in masks[name]:
            # 2016 stores 0 and 255, 2017 a palette of object ids in which only id 0, the background, is black.
            foreground = decode_rgb(archive.read(member), member).any(-1)
            write_image(paths.mask / PurePosixPath(member).name, foreground.astype(np.uint8) * 255)

    write_sequences(out, frames, sequences, write)


def _members(archive: zipfile.ZipFile, pattern: re.Pattern[str]) -> dict[str, list[str]]:
    """Sequence → its members that match `pattern`; no members for a sequence without any."""
    found = defaultdict(list)
    for name in archive.namelist():
        if match := pattern.fullmatch(name):
            found[match[1]].append(name)
    return found


@exit_on_input_error
def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    args = archive_flags("DAVIS's frames and foreground masks as sequence folders.", URL).parse_args(arguments)
    with open_zip(find_archive(args.archive, URL, args.out)) as archive:
        write_davis(archive, args.out, args.sequences)


if __name__ == "__main__":
    main()
