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

COLUMNS, ROWS = 3, 2  # of a contact sheet
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
    chosen = np.linspace(0, len(frame_ids) - 1, COLUMNS * ROWS).round().astype(int)
    kept = []

    def passing() -> Iterable[NDArray[np.uint8]]:
        for k, frame in enumerate(tqdm(frames, name, len(frame_ids))):
            if k in chosen:
                kept.append(_titled(frame, f"frame {frame_ids[k]}", SHEET_WIDTH // COLUMNS))
            yield frame

    write_video(mp4, passing(), fps)
    write_image(png, _tiled(kept, COLUMNS))
    return [mp4, png]


def save_overview(path: Path, sheets: Sequence[Path]) -> Path:
    """Write one picture of contact sheets, two beside each other, each named; returns `path`."""
    write_image(path, _tiled([_titled(_to_width(read_frame(s), OVERVIEW_WIDTH), s.stem) for s in sheets], 2))
    return path


def _tiled(images: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Images row by row on white, each in a cell of the largest one's size."""
    columns = min(columns, len(images))
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    sheet = np.full((math.ceil(len(images) / columns) * height, columns * width, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * height, place % columns * width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def _to_width(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _titled(image: NDArray[np.uint8], text: str, max_width: int | None = None) -> NDArray[np.uint8]:
    """A copy of `image`, at most `max_width` wide, with white `text` on a dark plate in its upper left corner."""
    too_wide = max_width is not None and image.shape[1] > max_width
    image = _to_width(image, max_width) if too_wide else image.copy()
    scale = max(0.5, max(image.shape[:2]) / 1300)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    margin = round(height / 2)
    image[: height + 2 * margin, : width + 2 * margin] = DARK
    place = (margin, margin + height)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return image
