"""Files written by `torch.save`, read without running pickled code."""

import pickle
from pathlib import Path

import torch

from utils.errors import InputError


def load_plain(path: Path, kind: str) -> object:
    """Load a file of tensors and plain data, with the tensors on the CPU.

    Args:
        path: The file.
        kind: Expected kind of file for the message, such as "a checkpoint".

    Raises:
        InputError: The file cannot be read, or holds more than tensors and plain data.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # its message would recommend running the code
            reason = "it is none, or holds more than tensors and plain data"
        raise InputError(f"{path} cannot be read as {kind} ({reason}); give another or delete it") from error
