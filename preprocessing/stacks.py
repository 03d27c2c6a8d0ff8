"""Clips in one file beside videos: TIFF files of several pages, and arrays (.npy, .npz)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.source import Source
from preprocessing.tiff_directory import axes_of, is_tiff, read_directory
from utils.data_files import map_array
from utils.errors import InputError
from utils.ffmpeg import TimedImage
from utils.images import drop_alpha, swap_red_and_blue


def open_stack(path: Path) -> Source | None:
    """Open a TIFF or an array as a clip; None for files of other kinds.

    Raises:
        InputError: The file is damaged, or its pages or axes are no frames.
    """
    if is_tiff(path):
        return TiffStack(path)
    with path.open("rb") as file:
        start = file.read(6)
    return ArrayStack(path) if start == b"\x93NUMPY" or start.startswith(b"PK\3\4") else None


class TiffStack(Source):
    """The pages of a TIFF file: of several channels the first one, and slices are frames if there is one time only."""

    def __init__(self, path: Path):
        super().__init__(path)
        directory = read_directory(path)
        axes = axes_of(directory.description)
        described = int(np.prod(list(axes.values()))) if axes else 0
        if directory.num_pages == 1 < described:
            raise InputError(
                f"{path} has one page for {described} images, as ImageJ writes beyond 4 GB: save the stack as a "
                "sequence of images there, and give their folder"
            )
        if described != directory.num_pages:  # of colours inside a page, or of other files
            axes = {"T": directory.num_pages}
        if axes.get("Z", 1) > 1 and axes.get("T", 1) > 1:
            raise InputError(
                f"{path} holds {axes['Z']} slices at each of {axes['T']} times, expected one image at each time: "
                "make a projection of the slices first"
            )
        self.axes = axes

    @property
    def num_frames(self) -> int:
        """Number of times, or of slices."""
        return max(self.axes.get("T", 1), self.axes.get("Z", 1))

    def read(self, ids: Sequence[int] | None = None) -> Iterator[TimedImage]:
        """Yield frames of the first channel."""
        strides = dict(zip(self.axes, np.cumprod([1, *self.axes.values()]).tolist(), strict=False))
        stride = strides["T"] if self.axes.get("T", 1) > 1 else strides.get("Z", 1)
        for i in range(self.num_frames) if ids is None else ids:
            yield TimedImage(self._page(i * stride), None)

    def _page(self, page: int) -> NDArray:
        with _without_warnings():
            try:
                _, images = cv2.imreadmulti(str(self.path), start=page, count=1, flags=cv2.IMREAD_UNCHANGED)
            except cv2.error:
                images = ()
        if len(images) != 1:
            raise InputError(
                f"cannot read page {page} of {self.path}: it is damaged or of a kind that OpenCV cannot decode; save "
                "it again, uncompressed"
            )
        return drop_alpha(swap_red_and_blue(np.asarray(images[0])))

    @property
    def notes(self) -> list[str]:
        """A sentence about channels that are left out."""
        channels = self.axes.get("C", 1)
        return [f"{self.path.name} has {channels} channels: the first one is used"] if channels > 1 else []


class ArrayStack(Source):
    """An array [T,H,W] or [T,H,W,3] in a .npy file, or in an .npz file that holds no other."""

    def __init__(self, path: Path):
        super().__init__(path)
        shape, dtype = self.array.shape, self.array.dtype
        is_color = self.array.ndim == 4 and shape[3] in (1, 3, 4)
        if dtype.kind not in "uif" or not (self.array.ndim == 3 or is_color):
            raise InputError(
                f"{path} holds {dtype} {list(shape)}, expected frames of numbers [T,H,W] or [T,H,W,3]: transpose or "
                "convert the array"
            )
        if len(self.array) < 2:
            raise InputError(f"{path} holds {len(self.array)} frame(s), expected at least two: give another array")

    @cached_property
    def array(self) -> NDArray:
        """The frames; a .npy file is mapped, not read whole."""
        try:
            return map_array(self.path)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read {self.path} as an array of frames ({error}): save one array [T,H,W] or [T,H,W,3]"
            ) from error

    @property
    def num_frames(self) -> int:
        """Length of the first axis."""
        return len(self.array)

    def read(self, ids: Sequence[int] | None = None) -> Iterator[TimedImage]:
        """Yield frames of the array."""
        for i in range(self.num_frames) if ids is None else ids:
            yield TimedImage(drop_alpha(np.ascontiguousarray(self.array[i])), None)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep OpenCV from printing its own account of what is unusual in a file."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
