"""Pretrained weights from a file or a URL into a network; a failure is one sentence that says what to do."""

import hashlib
import pickle
import urllib.error
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.atomic import write_atomic
from utils.errors import InputError
from utils.torch_files import load_plain

StateDict = dict[str, Tensor]


def computes_in_half(device: torch.device | str) -> bool:
    """Return whether pretrained networks compute in float16 on a device: on a GPU, where it is faster."""
    return torch.device(device).type == "cuda"


def inference_precision(device: torch.device | str) -> torch.autocast:
    """Return a context in which pretrained networks compute as fits the device (see `computes_in_half`)."""
    return torch.autocast(torch.device(device).type, torch.float16, enabled=computes_in_half(device))


def read_state_dict(path: Path) -> StateDict:
    """Tensors of a checkpoint file on the CPU; loaded with `weights_only=True`, so that it cannot run code.

    Raises:
        InputError: no such file, or not a flat dictionary of tensors.
    """
    if not Path(path).is_file():
        raise InputError(f"no weights file at {path}: give an existing one")
    state = load_plain(path, "PyTorch weights")
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} is no state dict: expected names with tensors, nothing around them; give one")
    return state


def download(fetch: Callable[[], StateDict], url: str, advice: str) -> StateDict:
    """Result of `fetch` (which downloads `url` or finds it in torch's cache).

    Raises:
        InputError: the download failed or its hash is wrong; `advice` says what to do instead.
    """
    try:
        return fetch()
    except (urllib.error.URLError, OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"cannot get {url} ({reason}): {advice}") from error


def check_remembered(path: Path) -> None:
    """Compare a downloaded file with the SHA-256 written beside it when it was first used (`<name>.sha256`).

    For files whose publisher states no checksum: what is trusted once may not change afterwards.

    Raises:
        InputError: the file has changed.
    """
    digest, note = hashlib.sha256(), path.with_name(path.name + ".sha256")
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    if not note.is_file():
        write_atomic(note, digest.hexdigest().encode())
    elif (remembered := note.read_text().strip()) != digest.hexdigest():
        raise InputError(
            f"{path} has SHA-256 {digest.hexdigest()[:16]}…, but had {remembered[:16]}… when it was downloaded: delete "
            "both that file and its .sha256, and it is downloaded again"
        )


def load_strictly(network: nn.Module, state: StateDict, origin: str) -> None:
    """Load `state` into `network`: the same names and shapes, none more, none less.

    Raises:
        InputError: naming the missing, unexpected or misshapen entries.
    """
    own = network.state_dict()
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape),
    }
    found = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in problems.items() if keys]
    if found:
        raise InputError(f"{origin} does not fit {type(network).__name__}: {'; '.join(found)}")
    network.load_state_dict(state)


def _some(names: list[str]) -> str:
    """The first few names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
