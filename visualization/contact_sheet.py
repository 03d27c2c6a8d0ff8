"""Videos with a contact sheet, and an overview of the contact sheets of many videos."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from utils.images import read_frame, write_image
from utils.video import write_video
from visualization.marks import DARK, title_plate

FRAMES, COLUMNS = 6, 3  # number of frames on a contact sheet, and per row
WIDE = 2.5  # width / height above which a row has two frames, since three would be too small
SHEET_WIDTH = 1920  # pixels, at most
OVERVIEW_WIDTH = 960  # pixels, of each of the overview's two columns


def save_with_sheet(
    out_dir: Path, name: str, frames: Iterable[NDArray[np.uint8]], frame_ids: Sequence[int], fps: float
) -> list[Path]:
    """Write a video `<name>.mp4` and its contact sheet `<name>.png`, which shows some of its frames.

    Args:
        out_dir: Folder of both files.
        name: Name of both files, without suffix.
        frames: Pictures [H,W,3], one for each of `frame_ids`; one at a time is in memory.
        frame_ids: Numbers of the frames, written above them in the contact sheet.
        fps: Frames per second.

    Returns:
        The paths of both files.
    """
    mp4, png = (Path(out_dir) / f"{name}{suffix}" for suffix in (".mp4", ".png"))
    chosen = np.linspace(0, len(frame_ids) - 1, FRAMES).round().astype(int)
    kept = []

    def keep_chosen() -> Iterator[NDArray[np.uint8]]:
        for k, frame in enumerate(tqdm(frames, name, len(frame_ids))):
            if k in chosen:
                kept.append(_with_title(frame, f"frame {frame_ids[k]}"))
            yield frame

    write_video(mp4, keep_chosen(), fps)
    write_image(png, _tile(kept))
    return [mp4, png]


def _with_title(frame: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Resize a frame for a contact sheet, and put a band with `text` above it."""
    columns = 2 if frame.shape[1] > WIDE * frame.shape[0] else COLUMNS
    width = min(frame.shape[1], SHEET_WIDTH // columns)
    return _put_under(text, _resize_to_width(frame, width), max(0.5, width / 1300))


def _put_under(text: str, image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    plate = title_plate(text, scale)[:, : image.shape[1]]
    band = np.full((len(plate), *image.shape[1:]), DARK, np.uint8)
    band[:, : plate.shape[1]] = plate
    return np.concatenate([band, image])


def _tile(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Tile frames [H,W,3] of one size, row by row."""
    columns = min(COLUMNS, SHEET_WIDTH // frames[0].shape[1], len(frames))
    rows = math.ceil(len(frames) / columns)
    blank = [np.full_like(frames[0], 255)] * (rows * columns - len(frames))
    cells = np.stack([*frames, *blank]).reshape(rows, columns, *frames[0].shape)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * frames[0].shape[0], -1, 3)


def save_overview(path: Path, sheets: Sequence[Path]) -> Path:
    """Write one picture of all contact sheets, each under its name, in two columns of similar height.

    Returns:
        `path`.
    """
    columns: list[list[NDArray[np.uint8]]] = [[], []]
    for sheet in sheets:
        shorter = min(columns, key=lambda column: sum(map(len, column)))
        shorter.append(_put_under(sheet.stem, _resize_to_width(read_frame(sheet), OVERVIEW_WIDTH), 0.8))
    filled = [np.concatenate(column) for column in columns if column]
    height = max(map(len, filled))
    ends = [[(0, height - len(column)), (0, 0), (0, 0)] for column in filled]
    write_image(path, np.concatenate([np.pad(c, e, constant_values=255) for c, e in zip(filled, ends, strict=True)], 1))
    return path


def _resize_to_width(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
