"""TAP-Vid's pickles, read without running what they may hold."""

import _codecs
import pickle
import re
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

import numpy as np

from preprocessing.zip_files import open_zip
from utils.errors import InputError


class _PlainType:
    """Stands for numpy.dtype, which a pickle can tell that its objects are numbers: here there are numbers alone."""

    def __init__(self, code: str, *_: bool) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def plain(self) -> np.dtype:
        """The type itself."""
        name = f"{self.order}{self.code}"
        if not re.fullmatch("[<>|=][biuf][1248]", name):
            raise InputError(f"the pickle holds an array of {name!r}, expected numbers: it is not read")
        return np.dtype(name)


class _PlainArray(np.ndarray):
    """An array that a pickle can fill with numbers, and not otherwise."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], _PlainType, bool, bytes | str]) -> None:
        version, shape, kind, column_major, data = state
        super().__setstate__((version, shape, kind.plain(), column_major, data))


def _reconstruct(*_: object) -> np.ndarray:
    """Stands for numpy's: an array that its state is still to come for."""
    return np.zeros(0).view(_PlainArray)


def _frombuffer(data: bytes, kind: _PlainType, shape: tuple[int, ...], order: str) -> np.ndarray:
    """Stands for numpy's; a copy, so that no array shares another one's memory."""
    return np.frombuffer(data, kind.plain()).reshape(shape, order=order).copy()


# All that a pickled array asks for (protocols below 3 write bytes as text, protocol 5 a buffer), under the names that
# numpy has had for it. `ndarray` only says what is reconstructed: nothing can be done with the text that stands for it.
ALLOWED = {("numpy", "ndarray"): "ndarray", ("numpy", "dtype"): _PlainType, ("_codecs", "encode"): _codecs.encode}
for core in ("numpy.core", "numpy._core"):
    ALLOWED[f"{core}.multiarray", "_reconstruct"] = _reconstruct
    ALLOWED[f"{core}.numeric", "_frombuffer"] = _frombuffer


class _ArrayUnpickler(pickle.Unpickler):
    """Reads containers, numbers, texts and numpy arrays; a pickle that names anything else is refused unrun."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED:
            raise InputError(
                f"the pickle asks for {module}.{name}, expected only numpy arrays, as in TAP-Vid's: it is not "
                "read, get the file from its publisher"
            )
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
