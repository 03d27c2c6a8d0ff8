"""Read flow, masks and statistics of every ordered pair of frames from the products of preprocessing.

Opening a store reads only the statistics; flow and masks are decoded on each access.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.flow_files import read_flow, read_pair_mask
from preprocessing.sequence_paths import SequencePaths
from utils.data_files import read_json
from utils.errors import InputError
from utils.images import decode_image, read_frame


@dataclass(frozen=True)
class PairMask:
    """Pixels [H,W] of a source frame whose flow to a target frame is valid."""

    consistent: np.ndarray  # bool: forward and backward flow agree
    rescued: np.ndarray  # bool: occluded in the target frame, but the flow is plausible

    @property
    def valid(self) -> np.ndarray:
        """Consistent or rescued, bool [H,W]."""
        return self.consistent | self.rescued


class FlowStore:
    """Flow of a sequence; a pair without flow (`--pairs sparse`) has no valid correspondences.

    Args:
        paths: The sequence folder.
        names: File names of its frames, in order.
        prefer_chained: Use the results of chaining where there are any.

    Raises:
        InputError: Statistics are missing or belong to other frames; on access: flow, masks or counts of another size.
    """

    def __init__(self, paths: SequencePaths, names: list[str], prefer_chained: bool = True):
        self.raw = paths
        self.paths = paths.chained if prefer_chained and paths.chained.flow_stats.exists() else paths
        self.names = names
        counts = self._read_stats()
        self.size = read_frame(paths.color / names[0]).shape[:2]
        if counts.max() > math.prod(self.size):
            raise InputError(
                f"{self.paths.flow_stats} has {counts.max()} valid pixels of {math.prod(self.size)}: it was made from "
                "other frames; preprocess again with --redo"
            )
        self.known = counts >= 0  # [T,T] bool: pairs with flow
        self.valid_counts = np.maximum(counts, 0)

    def flow(self, i: int, j: int) -> np.ndarray:
        """Read the flow from frame i to j, [H,W,2] float32 pixels; raw flow where nothing was chained.

        Raises:
            InputError: The pair has no flow, or its file is damaged, of another size or not finite.
        """
        a, b = self.names[i], self.names[j]
        flow = self._of_size(self.paths.flow(a, b), read_flow(self.paths, a, b))
        if self.paths != self.raw:
            flow = np.where(np.isnan(flow), self._of_size(self.raw.flow(a, b), read_flow(self.raw, a, b)), flow)
        if not np.isfinite(flow).all():
            raise InputError(f"{self.raw.flow(a, b)} is not finite everywhere: preprocess again with --redo")
        return flow

    def partners_at(self, i: int, gaps: Sequence[int]) -> list[int]:
        """Return the frames at these gaps before and after frame i for which flow from i exists."""
        frames = (i + sign * gap for gap in gaps for sign in (-1, 1))
        return [j for j in frames if 0 <= j < len(self.known) and self.known[i, j]]

    def flow_at(self, i: int, j: int, mask: PairMask, index: np.ndarray) -> np.ndarray:
        """Return the flow [N,2] float32 of single pixels of frame i to frame j.

        Args:
            i: Source frame.
            j: Target frame.
            mask: Mask of this pair; only `MappedFlowStore` needs it.
            index: Flat indices [N] of the pixels.
        """
        return self.flow(i, j).reshape(-1, 2)[index]

    def mask(self, i: int, j: int) -> PairMask:
        """Read the mask of the flow from frame i to j.

        Raises:
            InputError: It is damaged, of another size, or has another number of valid pixels than the statistics.
        """
        a, b = self.names[i], self.names[j]
        path, (consistent, rescued) = self.paths.flow_mask(a, b), read_pair_mask(self.paths, a, b)
        mask = PairMask(self._of_size(path, consistent), rescued)
        if (count := (consistent | rescued).sum()) != self.valid_counts[i, j]:
            raise InputError(
                f"{path} has {count} valid pixels, but {self.paths.flow_stats} has {self.valid_counts[i, j]}: "
                "preprocess again with --redo"
            )
        return mask

    def count_map(self, i: int) -> np.ndarray:
        """Read the number of pairs in which each pixel of frame i is valid, [H,W] uint16."""
        path = self.paths.count_map(self.names[i])
        return self._of_size(path, decode_image(path))

    def _of_size(self, path: Path, array: np.ndarray) -> np.ndarray:
        """Return an array [H,W,*] read from `path`, or refuse it if its size is not the frames'."""
        if array.shape[:2] != self.size:
            (height, width), (rows, columns) = self.size, array.shape[:2]
            raise InputError(
                f"{path} is {columns}x{rows} but its frame is {width}x{height} (width x height): preprocess again "
                "with --redo, or give the flow of these frames"
            )
        return array

    def _read_stats(self) -> np.ndarray:
        """Read the number of valid correspondences of every ordered pair [T,T]; −1 where there is no flow."""
        path, names = self.paths.flow_stats, self.names
        if not path.exists():
            raise InputError(
                f"{path} is missing: run the preprocessing of this sequence (or drop `--preprocess never`)"
            )
        try:
            stats: Any = read_json(path)
            return np.array([[stats[a].get(b, -1) for b in names] for a in names], dtype=np.int64)
        except KeyError as missing:
            raise InputError(
                f"{path} has no entry for frame {missing}: it was made from other frames; preprocess again"
            ) from None
        except (ValueError, AttributeError, TypeError, OverflowError) as error:
            raise InputError(f"{path} is damaged ({error}): delete it and run the preprocessing again") from None
