"""Reader of TAP-Vid's pickles that runs no pickled code."""

import _codecs
import pickle
import re
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, Literal

import numpy as np

from preprocessing.zip_files import open_zip
from utils.errors import InputError


class _NumberType:
    """A stand-in for numpy.dtype, which accepts types of numbers only."""

    def __init__(self, code: str, *_: bool) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype:
        """Return the numpy type that this stands for."""
        name = f"{self.order}{self.code}"
        if not re.fullmatch("[<>|=][biuf][1248]", name):
            raise InputError(
                f"the pickle holds an array of {name!r}, expected numbers: get the file from its publisher"
            )
        return np.dtype(name)


class _NumberArray(np.ndarray):
    """An array that a pickle can fill with numbers only."""

    def __setstate__(self, state: Any) -> None:
        version, shape, kind, column_major, data = state
        super().__setstate__((version, shape, kind.dtype(), column_major, data))


def _reconstruct(*_: object) -> np.ndarray:
    """Replace numpy's function of this name: return an empty array, which `__setstate__` then fills."""
    return np.zeros(0).view(_NumberArray)


def _frombuffer(data: bytes, kind: _NumberType, shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray:
    """Replace numpy's function of this name; a copy, so that no two arrays share memory."""
    return np.frombuffer(data, kind.dtype()).reshape(shape, order=order).copy()


# The names to which a pickled array refers, under both of numpy's module names (protocols below 3 write bytes as text,
# protocol 5 a buffer). `ndarray` is only an argument of `_reconstruct`, so a text can stand for it.
ALLOWED = {("numpy", "ndarray"): "ndarray", ("numpy", "dtype"): _NumberType, ("_codecs", "encode"): _codecs.encode}
for core in ("numpy.core", "numpy._core"):
    ALLOWED[f"{core}.multiarray", "_reconstruct"] = _reconstruct
    ALLOWED[f"{core}.numeric", "_frombuffer"] = _frombuffer


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler of containers, numbers, strings and numpy arrays, which runs nothing else that a pickle names."""

    def find_class(self, module: str, name: str) -> object:
        """Return what a name of the pickle stands for.

        Raises:
            InputError: The name belongs to anything but an array.
        """
        if (module, name) not in ALLOWED:
            raise InputError(
                f"the pickle refers to {module}.{name}, expected only numpy arrays as in TAP-Vid: it is not read; get "
                "the file from its publisher"
            )
        return ALLOWED[module, name]


def read_tapvid(path: Path) -> dict[str, dict]:
    """Read the sequences of a TAP-Vid pickle, or of a zip that holds one.

    Returns:
        Sequences by name; those of a list are named `<pickle's name>_<%05d>`.

    Raises:
        InputError: The file is truncated, is neither a zip nor a pickle, is not TAP-Vid, or holds more than arrays.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            file.seek(0)
            return _load(file, path)
    with open_zip(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".pkl") and not name.startswith("__MACOSX")]
        if len(members) != 1:
            raise InputError(
                f"{path} holds {len(members)} .pkl files, expected one: give a zip as TAP-Vid publishes it"
            )
        with archive.open(members[0]) as file:
            data = _load(file, PurePosixPath(members[0]))
            file.read()  # to the end, where the checksum is compared
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
        raise InputError(f"{path} is not TAP-Vid: expected a dict of named sequences, or a list of them")
    return data
