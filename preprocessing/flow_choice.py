"""What `--flow auto` and `--flow_scale auto` stand for in a sequence folder."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from preprocessing.manifest import IMPLIED, read_record
from preprocessing.raft_network import load_raft
from preprocessing.sequence_paths import SequencePaths
from preprocessing.settings import AUTO, Settings
from utils.errors import InputError
from utils.images import read_frame

ENLARGED_SIDE = 320  # pixels of the longer side, up to which frames are enlarged; tried with 160 to 256
ENLARGEMENT = 2
ON_A_CPU = "without a GPU --flow dis takes a tenth of the time"
NAMES = {"raft": "RAFT", "dis": "DIS"}


def choose_flow(settings: Settings, paths: SequencePaths, first: str, redo: bool) -> tuple[Settings, str]:
    """Return settings without `auto` for flow and its scale, and a line that says what was chosen and why.

    What the folder already holds is kept unless it is to be remade or weights are given. Otherwise RAFT is chosen if
    its weights are given, in torch's cache or can be downloaded, and frames of up to `ENLARGED_SIDE` are enlarged.

    Args:
        settings: The wanted settings; returned unchanged, with an empty line, if none of them is `auto`.
        paths: The sequence folder.
        first: File name of its first frame.
        redo: Whether products of other settings are to be remade.

    Raises:
        InputError: The record of the folder is damaged.
    """
    recorded = {} if redo else read_record(paths).get("settings", {}).get("flow", {})
    line = ""
    if settings.flow == AUTO:
        flow, reason = _choose_method(settings, recorded)
        settings, line = replace(settings, flow=flow), f"flow: {NAMES[flow]}, {reason}"
    if settings.flow_scale == AUTO:
        found = recorded.get("scale", IMPLIED["scale"]) if recorded.get("flow") == settings.flow else None
        is_small = max(read_frame(paths.color / first).shape) <= ENLARGED_SIDE
        settings = replace(settings, flow_scale=found or (ENLARGEMENT if is_small else 1))
    return settings, line


def _choose_method(settings: Settings, recorded: Mapping[str, Any]) -> tuple[str, str]:
    """Return the method and why it was chosen."""
    if settings.raft_weights:
        return "raft", "whose weights are given"
    if recorded.get("flow") in NAMES:
        return recorded["flow"], "which the folder already has"
    try:
        load_raft(None, "cpu")
        return "raft", f"whose weights are in torch's cache; {ON_A_CPU}"
    except InputError as error:
        return "dis", f"because RAFT has no weights here ({error})"
