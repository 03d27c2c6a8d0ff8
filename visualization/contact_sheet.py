"""Videos with a contact sheet, and one sheet of many videos."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from utils.images import read_frame, write_image
from utils.video import write_video
from visualization.draw import DARK, title_plate

SHOWN, COLUMNS = 6, 3  # frames on a contact sheet, in all and in a row
WIDE = 2.5  # times as wide as high: such frames would be too small beside two others
SHEET_WIDTH = 1920  # pixels, at most
OVERVIEW_WIDTH = 960  # pixels, of each of the overview's two columns


def save_with_sheet(
    out_dir: Path, name: str, frames: Iterable[NDArray[np.uint8]], frame_ids: Sequence[int], fps: float
) -> list[Path]:
    """Write `<name>.mp4` and its contact sheet `<name>.png`, which shows it at a glance; both paths.

    Args:
        frames: pictures [H,W,3], one for each of `frame_ids`; each is drawn, written and forgotten.
    """
    mp4, png = (Path(out_dir) / f"{name}{suffix}" for suffix in (".mp4", ".png"))
    chosen = np.linspace(0, len(frame_ids) - 1, SHOWN).round().astype(int)
    kept = []

    def passing() -> Iterable[NDArray[np.uint8]]:
        for k, frame in enumerate(tqdm(frames, name, len(frame_ids))):
            if k in chosen:
                kept.append(_numbered(frame, f"frame {frame_ids[k]}"))
            yield frame

    write_video(mp4, passing(), fps)
    write_image(png, _tiled(kept))
    return [mp4, png]


def _numbered(frame: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """`frame` as large as fits a contact sheet, under a band with `text`."""
    columns = 2 if frame.shape[1] > WIDE * frame.shape[0] else COLUMNS
    width = min(frame.shape[1], SHEET_WIDTH // columns)
    return _under(text, _to_width(frame, width), max(0.5, width / 1300))


def _under(text: str, image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    plate = title_plate(text, scale)[:, : image.shape[1]]
    band = np.full((len(plate), *image.shape[1:]), DARK, np.uint8)
    band[:, : plate.shape[1]] = plate
    return np.concatenate([band, image])


def _tiled(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Frames [H,W,3] of one size, row by row."""
    columns = min(COLUMNS, SHEET_WIDTH // frames[0].shape[1], len(frames))
    rows = math.ceil(len(frames) / columns)
    blank = [np.full_like(frames[0], 255)] * (rows * columns - len(frames))
    cells = np.stack([*frames, *blank]).reshape(rows, columns, *frames[0].shape)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * frames[0].shape[0], -1, 3)


def save_overview(path: Path, sheets: Sequence[Path]) -> Path:
    """Write one picture of contact sheets, each under its name, in two columns of like height; returns `path`."""
    columns: list[list[NDArray[np.uint8]]] = [[], []]
    for sheet in sheets:
        shorter = min(columns, key=lambda column: sum(map(len, column)))
        shorter.append(_under(sheet.stem, _to_width(read_frame(sheet), OVERVIEW_WIDTH), 0.8))
    filled = [np.concatenate(column) for column in columns if column]
    height = max(map(len, filled))
    ends = [[(0, height - len(column)), (0, 0), (0, 0)] for column in filled]
    write_image(path, np.concatenate([np.pad(c, e, constant_values=255) for c, e in zip(filled, ends, strict=True)], 1))
    return path


def _to_width(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
