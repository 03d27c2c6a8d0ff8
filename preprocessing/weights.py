"""Pretrained networks: load weights from a file or a URL, and choose the precision of inference."""

import hashlib
import pickle
import re
import socket
import textwrap
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from utils.atomic import write_atomic
from utils.errors import InputError
from utils.torch_files import load_plain

DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer

StateDict = dict[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)


def computes_in_half(device: torch.device | str) -> bool:
    """Return whether pretrained networks compute in float16 on a device: they do on a GPU, where it is faster."""
    return torch.device(device).type == "cuda"


def inference_precision(device: torch.device | str) -> torch.autocast:
    """Return the context in which pretrained networks compute on a device (see `computes_in_half`)."""
    return torch.autocast(torch.device(device).type, torch.float16, enabled=computes_in_half(device))


def load_pretrained(
    network: Network, weights: Path | None, url: str, rename: Callable[[StateDict], StateDict], alternative: str
) -> Network:
    """Load pretrained weights into a network, freeze it and set it to evaluation mode.

    Args:
        network: The network, on the CPU.
        weights: File to read; None: download `url`, or take it from torch's cache.
        url: The published weights.
        rename: Function from the published state dict to the network's names.
        alternative: Advice for the message if the download fails.

    Returns:
        The network.

    Raises:
        InputError: Unusable weights, a failed download, or a downloaded file that has changed since its first use.
    """
    state = _download(url, alternative) if weights is None else read_state_dict(weights)
    try:
        network.load_state_dict(rename(state))
    except RuntimeError as error:  # names missing and unexpected entries, and those of another shape
        found = "; ".join(textwrap.shorten(line, 120, placeholder=" …") for line in str(error).splitlines()[1:4])
        raise InputError(
            f"{weights or url} does not fit {type(network).__name__} ({found}): give other weights"
        ) from error
    if weights is None:
        check_unchanged(Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name)
    return network.eval().requires_grad_(False)


def rename_entries(state: StateDict, patterns: list[tuple[str, str]]) -> StateDict:
    """Return a state dict with renamed entries: each (regular expression, replacement) is applied in turn."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in patterns:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def read_state_dict(path: Path) -> StateDict:
    """Read the tensors of a file of weights, without running pickled code.

    Raises:
        InputError: The file is missing, or no flat dictionary of tensors.
    """
    if not path.is_file():
        raise InputError(f"no weights file at {path}: give an existing one")
    state = load_plain(path, "PyTorch weights")
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} is no state dict: expected names with tensors, nothing around them; give one")
    return state


def _download(url: str, alternative: str) -> StateDict:
    """Download a state dict; a checksum in the URL's file name is verified."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)  # torch sets none
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True, check_hash=True)
    except (urllib.error.URLError, OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"cannot get {url} ({reason}): {alternative}") from error
    finally:
        socket.setdefaulttimeout(timeout)


def check_unchanged(path: Path) -> None:
    """Compare the SHA-256 of a downloaded file with that of its first use, which is kept beside it.

    Not every publisher states a checksum, and torch verifies one only while downloading.

    Raises:
        InputError: The file has changed.
    """
    digest, note = hashlib.sha256(), path.with_name(path.name + ".sha256")
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    if not note.is_file():
        write_atomic(note, digest.hexdigest().encode())
    elif (first := note.read_text().strip()) != digest.hexdigest():
        raise InputError(
            f"{path} has SHA-256 {digest.hexdigest()[:16]}…, but had {first[:16]}… when it was downloaded: delete both "
            "that file and its .sha256, and it will be downloaded again"
        )
