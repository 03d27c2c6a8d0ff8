"""Array files (.npy, .npz) and JSON files, read without running pickled code; any damage raises a ValueError."""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def read_array(path: Path) -> np.ndarray:
    """Read the array of a .npy file of numbers.

    Raises:
        OSError: The file is missing or not readable.
        ValueError: The file is damaged, or holds anything but numbers.
    """
    with _damage_as_value_error():
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise TypeError("no array of numbers")
        return array


def map_array(path: Path) -> np.ndarray:
    """Map the array of a .npy file into memory, or read that of a .npz file which holds one alone.

    Raises:
        OSError: The file is missing or not readable.
        ValueError: The file is damaged, holds several arrays, or anything but numbers.
    """
    with _damage_as_value_error():
        file = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(file, np.ndarray):
            return file
        with file:
            if len(file.files) != 1:
                raise TypeError(f"found {file.files}, expected one array")
            return np.asarray(file[file.files[0]])


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Read the arrays of these names from a .npz file.

    Raises:
        OSError: The file is missing or not readable.
        ValueError: The file is no npz or damaged, or lacks one of the names, or holds anything but numbers there.
    """
    with _damage_as_value_error():
        if not zipfile.is_zipfile(path):
            raise TypeError("no npz file" if path.exists() else "no such file")
        with np.load(path, allow_pickle=False) as file:
            if absent := set(names) - set(file.files):
                raise TypeError(f"found {file.files}, no {min(absent)}")
            arrays = [np.asarray(file[name]) for name in names]
        if odd := [name for name, array in zip(names, arrays, strict=True) if array.dtype.kind not in "biuf"]:
            raise TypeError(f"{odd[0]} holds no numbers")
        return arrays


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises:
        OSError: The file is missing or not readable.
        ValueError: The file is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@contextmanager
def _damage_as_value_error() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # a damaged header raises nearly anything
        lines = str(error).splitlines() or [""]
        raise ValueError(f"{type(error).__name__}: {lines[0]}") from error
