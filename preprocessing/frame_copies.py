"""Copies of frames, `color/%05d.png` numbered as in the source, with masks, exact tracks and a record of the source."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from preprocessing.deep_images import estimate_range, to_rgb_uint8
from preprocessing.frame_range import FrameRange
from preprocessing.mask_copies import copy_masks
from preprocessing.sequence_paths import SequencePaths
from preprocessing.source import Source
from preprocessing.source_record import Record, fingerprint, mean_rate
from preprocessing.sources import ImageFolder
from preprocessing.value_range import ValueRange
from utils.atomic import atomic_folder
from utils.conventions import Size, scale_points
from utils.data_files import read_arrays
from utils.errors import InputError
from utils.images import write_image


def scaled_size(height: int, width: int, max_side: int | None) -> Size:
    """Return (height, width) reduced so that the longer side is at most `max_side`; no side goes below one pixel."""
    if max_side is None or max(height, width) <= max_side:
        return height, width
    scale = max_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True)
class FrameCopy:
    """A copy of some frames of a source.

    Attributes:
        source: The source.
        max_side: Longest side to which frames are reduced, pixels; None if they keep their size.
        frame_range: The frames; None for all.
        value_range: The values that become 0 and 255, if the user has given them.
        is_deep: Whether frames have to be scaled by a range of values.
        needs_all: Whether the user has asked for exactly these frames, so that none of them may be missing.
    """

    source: Source
    max_side: int | None
    frame_range: FrameRange | None
    value_range: ValueRange | None
    is_deep: bool
    needs_all: bool

    @property
    def origin(self) -> Record:
        """The part of the record by which a copy is compared with its source."""
        return fingerprint(self.source, self.max_side, self.frame_range, self.value_range)

    def folder(self, data_root: Path) -> Path:
        """Return the folder of the copy in `data_root`, which is never the source itself."""
        resolved = self.source.path.resolve()
        name = resolved.stem if resolved.is_file() else resolved.name
        parts = [name, self.frame_range.label if self.frame_range else "", str(self.max_side or "")]
        target = data_root / "_".join(filter(None, parts))
        return data_root / f"{target.name}_frames" if target.resolve() == resolved else target

    def write(self, target: Path, log: Callable[[str], object]) -> None:
        """Write the copy with its `source.json`, completely or not at all; tell `log` how frames are converted.

        Raises:
            InputError: Frames, masks or the exact tracks cannot be used.
        """
        origin = self.origin  # as it is before the frames are read
        ids = self.frame_range.ids if self.frame_range else range(self.source.num_frames)
        with atomic_folder(target) as staged:
            paths, notes = SequencePaths(staged), self.source.notes
            scaling = (self.value_range or estimate_range(self.source, ids)) if self.is_deep else None
            if scaling:
                chosen_by = "--value_range" if self.value_range else "percentiles; --value_range lo:hi sets others"
                notes.append(f"values from {scaling.low:g} to {scaling.high:g} become 0 to 255 ({chosen_by})")
            for note in notes:
                log(note)
            written = self._write_frames(ids, paths, scaling)
            for finding in self.source.findings:
                log(finding)
                notes.append(finding)
            if SequencePaths(self.source.path).color.is_dir():
                self._copy_masks_and_tracks(ids, paths, written)
            details = {"scaled_from": str(scaling) if scaling else None, "source_frames": self.source.num_frames}
            record = origin | details | self._described(written) | {"notes": notes}
            (staged / "source.json").write_text(json.dumps(record, indent=1))

    def _write_frames(self, ids: range, paths: SequencePaths, scaling: ValueRange | None) -> "WrittenFrames":
        """Write `color/%05d.png`, numbered as in the source."""
        frames = self.source.read(ids if self.frame_range else None)  # all that a video has, whatever it says
        written: list[int] = []
        times: list[float | None] = []
        first, new = np.empty((0, 0)), (0, 0)
        for k, (image, time) in enumerate(tqdm(frames, "frames", len(ids))):
            number = ids.start + k * ids.step
            if k == 0:
                first, new = image, scaled_size(image.shape[0], image.shape[1], self.max_side)
            _check_same_size(image, first, self.source.name_of(number))
            frame = to_rgb_uint8(image, first, scaling, self.source.name_of(number))
            if new != frame.shape[:2]:
                frame = np.asarray(cv2.resize(frame, new[::-1], interpolation=cv2.INTER_AREA), np.uint8)
            write_image(paths.color / f"{number:05d}.png", frame)
            written.append(number)
            times.append(time)
        if len(written) < (len(ids) if self.needs_all else 2):
            raise InputError(
                f"{self.source.path} ends after {len(written)} of the {len(ids)} frames that it should have: give "
                "another video, or another --frame_range"
            )
        return WrittenFrames(written, times, (first.shape[0], first.shape[1]), new)

    def _copy_masks_and_tracks(self, ids: range, paths: SequencePaths, written: "WrittenFrames") -> None:
        source = SequencePaths(self.source.path)
        named = {f"{i:05d}": self.source.files[i] for i in ids}
        copy_masks(source, named, paths, written.old_size, written.size)
        _copy_tracks(source, paths, ids, written.old_size, written.size)

    def _described(self, written: "WrittenFrames") -> Record:
        """Return the part of the record that tells what the frames are."""
        numbers, times = self.source.numbers, written.times
        known = None not in times
        found = {
            "num_frames": len(written.ids),
            "height": written.size[0],
            "width": written.size[1],
            "numbers": [numbers[i] if i < len(numbers) else i for i in written.ids],
        }
        if isinstance(self.source, ImageFolder):
            found["files"] = [self.source.files[i].name for i in written.ids]
        if known:
            found["times"] = [round(time, 6) for time in times if time is not None]
        step = self.frame_range.step if self.frame_range else 1
        if rate := mean_rate(times) if known else self.source.fps and self.source.fps / step:
            found["fps"] = rate
        return found


@dataclass(frozen=True)
class WrittenFrames:
    """Frames of a copy: their numbers in the source, their times in seconds, and their size before and after."""

    ids: list[int]
    times: list[float | None]
    old_size: Size
    size: Size


def _check_same_size(image: NDArray, first: NDArray, name: str) -> None:
    if image.shape[:2] != first.shape[:2]:
        raise InputError(
            f"{name} is {image.shape[1]}x{image.shape[0]} but the first is {first.shape[1]}x{first.shape[0]} "
            "(width x height): all frames of a sequence must have one size; convert or remove it"
        )


def _copy_tracks(source: SequencePaths, target: SequencePaths, ids: range, old: Size, new: Size) -> None:
    """Copy the exact tracks in the frames `ids`, if there are any, scaled like the frames."""
    if not source.gt_tracks.is_file():
        return
    try:
        points, occluded = read_arrays(source.gt_tracks, "points", "occluded")
        points, occluded = scale_points(points[:, list(ids)], old, new), occluded[:, list(ids)]
    except (OSError, ValueError, IndexError) as error:
        raise InputError(
            f"{source.gt_tracks} holds no exact tracks ({error}): expected points [N,T,2], occluded [N,T]; or remove it"
        ) from error
    np.savez(target.gt_tracks, points=points, occluded=occluded)
