"""Unpack TAP-Vid's videos and annotated tracks into sequence folders, on which `evaluate.py` scores.

python preprocessing/get_tapvid.py --archive tapvid_davis.zip --sequences goat

The points are converted to pixels of the written frames (`utils.conventions.px_from_unit`).
"""

import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds modules of its own folder only

from preprocessing.archives import archive_parser, decode_rgb, find_archive, write_sequences
from preprocessing.sequence_paths import SequencePaths
from preprocessing.tapvid_pickle import read_tapvid
from utils.conventions import RASTER, nan_where_occluded, px_from_unit
from utils.errors import InputError, exit_on_input_error
from utils.images import write_image

URL = "https://storage.googleapis.com/dm-tapnet/tapvid_davis.zip"


def write_sequence(name: str, sequence: dict, paths: SequencePaths, size: int) -> None:
    """Write `color/%05d.png` and `gt_tracks.npz`, whose tracks are in pixels of the written frames.

    Args:
        name: Name of the sequence in messages.
        sequence: `video` uint8 [T,H,W,3] or T encoded images, `points` [N,T,2] in 0..1, `occluded` [N,T].
        paths: The sequence's folder, which must exist.
        size: Side of the written frames, pixels; 0 keeps their size.

    Raises:
        InputError: An array does not have this shape, or a frame cannot be decoded.
    """
    expected = "expected video uint8 [T,H,W,3] or T jpegs of one size, points [N,T,2], occluded [N,T]"
    try:
        video, occluded = sequence["video"], np.asarray(sequence["occluded"], bool)
        points = np.asarray(sequence["points"], np.float64)
        if len(video) == 0 or occluded.shape != (len(points), len(video)) or points.shape != (*occluded.shape, 2):
            raise ValueError(f"{len(video)} frames, points {points.shape}, occluded {occluded.shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"sequence {name} is not TAP-Vid's ({error}): {expected}") from error
    shapes = set()
    for index, frame in enumerate(video):
        image = np.asarray(decode_rgb(frame, f"frame {index} of {name}") if isinstance(frame, bytes) else frame)
        shapes.add(image.shape)
        if len(shapes) > 1 or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(f"frame {index} of {name} is {image.dtype} {image.shape}: {expected}")
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) if size else image
        write_image(paths.color / f"{index:05d}.png", image)
    points = nan_where_occluded(occluded, px_from_unit(points, image.shape[:2]))
    np.savez(paths.gt_tracks, points=points, occluded=occluded)


@exit_on_input_error
def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = archive_parser("Unpack TAP-Vid's videos and annotated tracks into sequence folders.", URL)
    parser.add_argument(
        "--size",
        type=int,
        default=RASTER,
        help="side of the written frames, pixels; 0 keeps their size (default: %(default)s)",
    )
    args = parser.parse_args(arguments)
    if args.size < 0:
        parser.error(f"--size {args.size}: expected a side in pixels, or 0")
    data = read_tapvid(find_archive(args.archive, URL, args.out))
    write_sequences(args.out, data, args.sequences, lambda name, to: write_sequence(name, data[name], to, args.size))


if __name__ == "__main__":
    main()
