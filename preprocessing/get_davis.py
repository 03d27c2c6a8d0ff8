"""Unpack DAVIS 2016 or 2017 (trainval, 480p) into sequence folders: the frames, and one mask of all objects.

python preprocessing/get_davis.py --archive DAVIS-2017-trainval-480p.zip --sequences bear car-shadow
"""

import re
import sys
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds modules of its own folder only

from preprocessing.archives import archive_parser, decode_rgb, find_archive, write_sequences
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
        archive: DAVIS, with `DAVIS/JPEGImages/480p/<sequence>/*.jpg` and `DAVIS/Annotations/480p/<sequence>/*.png`.
        out: Folder of the sequence folders; existing ones are kept.
        sequences: Their names; None for all.

    Raises:
        InputError: The archive has no frames in this layout, lacks a sequence, or an annotation cannot be decoded.
    """
    frames, masks = _members(archive, FRAME), _members(archive, MASK)
    if not frames:
        raise InputError(f"{archive.filename} holds no DAVIS/JPEGImages/480p/<sequence>/*.jpg: give DAVIS at 480p")

    def write(name: str, paths: SequencePaths) -> None:
        paths.color.mkdir()
        for member in frames[name]:
            (paths.color / PurePosixPath(member).name).write_bytes(archive.read(member))
        for member in masks[name]:
            # 2016 stores 0 and 255, 2017 a palette of object ids in which only id 0, the background, is black.
            foreground = np.where(decode_rgb(archive.read(member), member).any(-1), 255, 0)
            write_image(paths.mask / PurePosixPath(member).name, foreground.astype(np.uint8))

    write_sequences(out, frames, sequences, write)


def _members(archive: zipfile.ZipFile, pattern: re.Pattern[str]) -> dict[str, list[str]]:
    """Return the members that match `pattern`, by sequence; a missing sequence has an empty list."""
    found = defaultdict(list)
    for name in archive.namelist():
        if match := pattern.fullmatch(name):
            found[match[1]].append(name)
    return found


@exit_on_input_error
def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = archive_parser("Unpack DAVIS's frames and foreground masks into sequence folders.", URL)
    args = parser.parse_args(arguments)
    with open_zip(find_archive(args.archive, URL, args.out)) as archive:
        write_davis(archive, args.out, args.sequences)


if __name__ == "__main__":
    main()
