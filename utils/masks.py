"""The foreground of masks from any tool.

Which rule applies depends on what the file holds (`utils.mask_files` tells it):

- Labels: a palette image with colours, a boolean array, or whole numbers that `is_label_map` takes for labels. Label 0
  is the background and every other one foreground; a given label picks one of them.
- Flat colours: black is the background.
- Strength: an alpha channel that varies, a jpeg, fractions, or whole numbers that are no labels (soft edges, values up
  to 100, …). Values above half of the file's own maximum are foreground. In colour, the brightest channel counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError
from utils.mask_files import StoredMask, is_label_map, load_mask

LABELS = "every label but 0 is foreground"
COLOURS = "every colour but black is foreground"
STRENGTH = "values above half of the maximum are foreground"
MAX_SHOWN = 10  # labels in a message


@dataclass(frozen=True)
class Mask:
    """The foreground of a frame.

    Attributes:
        path: The mask's file.
        foreground: bool [H,W].
        rule: How it was selected, for a message.
        labels: The labels of its file, without 0; empty if they are no numbers.
        levels: The levels of a soft mask of whole numbers, without 0, which might have been meant as labels.
    """

    path: Path
    foreground: NDArray[np.bool_]
    rule: str
    labels: tuple[int, ...] = ()
    levels: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}" + (f" (labels {_listed(self.labels)})" if len(self.labels) > 1 else "")


def read_mask(path: Path, height: int, width: int, label: int | None = None) -> Mask:
    """Read a foreground mask, resized to its frame's size, by the rules in the header of this module.

    Args:
        path: An image file or a `.npy` array [H,W], of the frame's aspect ratio (frames may have been reduced in size).
        height: Height of the frame, pixels.
        width: Width of the frame, pixels.
        label: The label that is foreground; None for every label but 0.

    Raises:
        InputError: The mask is missing, unreadable, of another aspect ratio, lacks the label, or selects nothing.
    """
    mask = select_foreground(path, label)
    rows, columns = mask.foreground.shape
    # Reducing a frame rounds one side by up to half a pixel, so its aspect ratio may differ by that much.
    if 2 * abs(rows * width - columns * height) > max(rows, columns):
        raise InputError(
            f"mask {path} is {columns}x{rows} but its frame is {width}x{height} (width x height): give the frame's own"
        )
    resized = cv2.resize(mask.foreground.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    if not resized.any():
        raise InputError(f"mask {path} selects nothing: expected labels, or bright or opaque pixels, on the foreground")
    return replace(mask, foreground=resized.astype(bool))


def select_foreground(path: Path, label: int | None = None) -> Mask:
    """Read a foreground mask in its file's own size.

    Raises:
        InputError: The mask is missing or unreadable, or lacks the label.
    """
    if not Path(path).is_file():
        raise InputError(f"no mask at {path}: give an image file (labels, RGBA, grey or RGB) or a .npy array")
    stored = load_mask(path)
    return _select(path, stored) if label is None else _select_label(path, stored, label)


def describe_rules(masks: Iterable[Mask]) -> str:
    """Return the rules that were applied to some masks, each once."""
    return ", or ".join(dict.fromkeys(mask.rule for mask in masks))


def _select(path: Path, stored: StoredMask) -> Mask:
    values, kind = stored.values, stored.kind
    if kind == "strength" or (kind == "numbers" and not is_label_map(values)):
        levels = _labels(values) if kind == "numbers" else ()
        return Mask(path, values > values.max() / 2, STRENGTH, levels=levels)
    return Mask(path, values != 0, COLOURS) if kind == "colours" else Mask(path, values != 0, LABELS, _labels(values))


def _select_label(path: Path, stored: StoredMask, label: int) -> Mask:
    if stored.kind not in ("labels", "numbers"):
        found = "colours" if stored.kind == "colours" else "shades"
        raise InputError(
            f"label {label} is wanted, but mask {path} holds {found}, expected numbers: give a label map (a palette or "
            "grey png, or .npy), or no label"
        )
    labels = _labels(stored.values)
    if label not in labels:
        raise InputError(
            f"mask {path} has no label {label}, found {_listed(labels) or 'none but 0'}: give another label, or the "
            "mask of another frame"
        )
    return Mask(path, stored.values == label, f"label {label} is foreground", labels)


def _labels(values: NDArray) -> tuple[int, ...]:
    return tuple(np.unique(values[values != 0]).tolist())


def _listed(labels: tuple[int, ...]) -> str:
    return ", ".join(map(str, labels[:MAX_SHOWN])) + ", …" * (len(labels) > MAX_SHOWN)
