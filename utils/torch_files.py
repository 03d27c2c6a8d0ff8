"""Files that torch wrote, read without running what they may hold."""

import pickle
from pathlib import Path

import torch

from utils.errors import InputError


def load_plain(path: Path, kind: str) -> object:
    """What `torch.save` wrote, tensors on the CPU, without running what the file may hold.

    Raises:
        InputError: the file cannot be read, or holds more than tensors and plain data; `kind` says what it should be.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # whose text says how to run the code
            reason = "it is none, or holds more than tensors and plain data"
        raise InputError(f"{path} cannot be read as {kind} ({reason}); give another or delete it") from error
