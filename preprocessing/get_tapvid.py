"""TAP-Vid's videos and exact tracks as sequence folders, to be scored by `evaluate.py`.

python preprocessing/get_tapvid.py --archive tapvid_davis.zip --sequences goat

Their points are (x / width, y / height), 0..1, from the corner of the image; ours are pixels, integer = pixel centre:
x = x01·width − 0.5 at the size written, so that 0.5 / width is the middle of the first pixel, 0.
"""

import _codecs
import pickle
import sys
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, only this folder would be found

from preprocessing.archives import archive_flags, decode_rgb, find_archive, open_zip, write_sequences
from utils.errors import InputError, exits_on_input_error
from utils.paths import SequencePaths
from utils.tap_metrics import RASTER
from utils.video_io import write_image

URL = "https://storage.googleapis.com/dm-tapnet/tapvid_davis.zip"
# All that a pickled array asks for (protocols below 3 write bytes as text, protocol 5 a buffer). The two functions come
# from an array, since each version of numpy knows only some of their names.
ALLOWED = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _codecs.encode}
for core in ("numpy.core", "numpy._core"):
    ALLOWED[f"{core}.multiarray", "_reconstruct"] = np.zeros(1).__reduce__()[0]
    ALLOWED[f"{core}.numeric", "_frombuffer"] = np.zeros(1).__reduce_ex__(5)[0]


class _ArrayUnpickler(pickle.Unpickler):
    """Reads containers, numbers, texts and numpy arrays; a pickle that names anything else is refused unrun."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED:
            raise InputError(f"the pickle asks for {module}.{name}, and TAP-Vid's need only numpy arrays: not read")
        return ALLOWED[module, name]


def read_tapvid(path: Path) -> dict[str, dict]:
    """Sequences of a TAP-Vid pickle, or of a zip with one; those of a list are `<pickle's name>_<%05d>`.

    Raises:
        InputError: truncated, neither a zip nor a pickle, not of TAP-Vid's form, or asking for more than arrays.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            file.seek(0)
            return _load(file, path)
    with open_zip(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".pkl") and not name.startswith("__MACOSX")]
        if len(members) != 1:
            raise InputError(f"{path} holds {len(members)} .pkl files; expected one")
        with archive.open(members[0]) as file:
            data = _load(file, PurePosixPath(members[0]))
            file.read()  # the checksum is compared at the end only
            return data


def _load(file: IO[bytes], path: PurePath) -> dict[str, dict]:
    try:
        data = _ArrayUnpickler(file).load()
    except InputError:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        raise InputError(f"cannot read {path} as a pickle ({error}): delete it and download it again") from error
    if isinstance(data, list):
        data = {f"{path.stem}_{index:05d}": sequence for index, sequence in enumerate(data)}
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise InputError(f"{path} is not TAP-Vid's: expected a dict of named sequences, or a list of them")
    return data


def write_sequence(name: str, sequence: dict, paths: SequencePaths, size: int) -> None:
    """Write `color/%05d.png`, size x size pixels (0: as they are), and `gt_tracks.npz` in pixels of that size.

    Args:
        sequence: `video` uint8 [T,H,W,3] or T encoded images, `points` [N,T,2] in 0..1, `occluded` [N,T].
        name, paths: what messages call it, and its folder, which exists.

    Raises:
        InputError: arrays that do not have these shapes, or an undecodable frame.
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
    np.savez(paths.gt_tracks, points=np.float32(points * image.shape[1::-1] - 0.5), occluded=occluded)


@exits_on_input_error
def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    parser = archive_flags("TAP-Vid's videos and exact tracks as sequence folders.", URL)
    parser.add_argument("--size", type=int, default=RASTER, help="side of the frames, pixels; 0 keeps their size")
    args = parser.parse_args(arguments)
    if args.size < 0:
        parser.error(f"--size {args.size}: expected a side in pixels, or 0")
    data = read_tapvid(find_archive(args.archive, URL, args.out))
    write_sequences(args.out, data, args.sequences, lambda name, to: write_sequence(name, data[name], to, args.size))


if __name__ == "__main__":
    main()
