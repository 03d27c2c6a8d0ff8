"""Videos with a contact sheet, and one sheet of many videos."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from utils.draw import DARK
from utils.video_io import read_frame, write_image, write_video

SHOWN = 6  # frames on a contact sheet
WIDE = 2.5  # times as wide as high: from there on frames lie two in a row, not three
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
    """A copy of `frame` that fits a contact sheet, with `text` in its upper left corner."""
    width = min(frame.shape[1], SHEET_WIDTH // _columns(frame))
    frame = _to_width(frame, width)
    title = _title(text, max(0.5, width / 1300))
    frame[: title.shape[0], : title.shape[1]] = title[: frame.shape[0], : frame.shape[1]]
    return frame


def _columns(frame: NDArray[np.uint8]) -> int:
    return 2 if frame.shape[1] > WIDE * frame.shape[0] else 3


def _tiled(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Frames [H,W,3] of one size, row by row."""
    columns = min(_columns(frames[0]), len(frames))
    rows = math.ceil(len(frames) / columns)
    blank = [np.full_like(frames[0], 255)] * (rows * columns - len(frames))
    cells = np.stack([*frames, *blank]).reshape(rows, columns, *frames[0].shape)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * frames[0].shape[0], -1, 3)


def save_overview(path: Path, sheets: Sequence[Path]) -> Path:
    """Write one picture of contact sheets, each under its name, in two columns of like height; returns `path`."""
    columns: list[list[NDArray[np.uint8]]] = [[], []]
    for sheet in sheets:
        shorter = min(columns, key=lambda column: sum(map(len, column)))
        title, image = _title(sheet.stem, 0.8), _to_width(read_frame(sheet), OVERVIEW_WIDTH)
        band = np.full((len(title), OVERVIEW_WIDTH, 3), DARK, np.uint8)
        band[:, : title.shape[1]] = title[:, :OVERVIEW_WIDTH]
        shorter += [band, image]
    filled = [np.concatenate(column) for column in columns if column]
    height = max(map(len, filled))
    ends = [[(0, height - len(column)), (0, 0), (0, 0)] for column in filled]
    write_image(path, np.concatenate([np.pad(c, e, constant_values=255) for c, e in zip(filled, ends, strict=True)], 1))
    return path


def _to_width(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _title(text: str, scale: float) -> NDArray[np.uint8]:
    """`text`, white on a dark plate of its size."""
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    margin = round(height / 2)
    plate = np.full((height + 2 * margin, width + 2 * margin, 3), DARK, np.uint8)
    place = (margin, margin + height)
    cv2.putText(plate, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return plate
