"""The valid flow of a sequence in one memory-mapped file, so that a batch reads only the pixels that it draws.

The file holds, for each ordered pair that can be drawn, two planes of H·W bits (consistent, rescued) and then flow as
int16 [n,2] in steps of 1/16 px. The n pixels, in raster order, are the valid ones; between adjacent frames, where all
flow is used, they are all H·W. Packed flow keeps its values; published float flow is rounded by at most 1/32 px.
"""

import hashlib
from collections.abc import Iterator
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY, mmap
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from loaders.flow_store import FlowStore, PairMask
from preprocessing.flow_files import STEPS_PER_PX, flow_steps
from preprocessing.sequence_paths import SequencePaths
from utils.atomic import atomic_path, remove_partial
from utils.errors import InputError
from utils.lock import locked
from utils.parallel import advance, default_workers, run_in_threads

MAGIC = b"OMVALID1"


class MappedFlowStore(FlowStore):
    """A `FlowStore` that reads masks and the flow of single pixels from the mapped file, which it writes if missing.

    The file's name holds a digest of everything its content depends on; outdated files of the same frames are deleted.
    Each access maps the file anew, so that a process never holds more than the pages of one pair.

    Args:
        paths: As in `FlowStore`.
        names: As in `FlowStore`.
        prefer_chained: As in `FlowStore`.

    Raises:
        InputError: As in `FlowStore`; masks contradict the statistics; the file cannot be written; another process
            uses the sequence folder.
    """

    def __init__(self, paths: SequencePaths, names: list[str], prefer_chained: bool = True):
        super().__init__(paths, names, prefer_chained)
        self.height, self.width = self.count_map(0).shape
        num_px, gaps = self.height * self.width, np.abs(np.subtract.outer(range(len(names)), range(len(names))))
        self._stored = np.where(gaps == 1, num_px, self.valid_counts)  # [T,T] number of pixels with flow in the file
        self._plane_bytes = -(-num_px // 8)
        sizes = np.where(self._stored > 0, 2 * self._plane_bytes + 4 * self._stored, 0)
        self._starts = len(MAGIC) + np.cumsum(sizes).reshape(sizes.shape) - sizes  # [T,T] bytes
        self.bytes = len(MAGIC) + int(sizes.sum())
        self.file = self.paths.training_flow(f"{len(names)}_{self._digest()}")
        remove_partial(self.file.parent)  # gigabytes, if a writer was killed
        if not self._is_complete():
            self._write()

    def mask(self, i: int, j: int) -> PairMask:
        """Read the mask of the flow from frame i to j."""
        if self._stored[i, j] == 0:
            return super().mask(i, j)
        planes = self._map(np.uint8, self._starts[i, j], (2, self._plane_bytes))
        bits = np.unpackbits(planes, axis=1, count=self.height * self.width).view(bool)
        return PairMask(*bits.reshape(2, self.height, self.width))

    def flow_at(self, i: int, j: int, mask: PairMask, index: np.ndarray) -> np.ndarray:
        """Return the flow [N,2] of single pixels, as `FlowStore.flow_at`; valid ones only, unless i, j are adjacent."""
        if self._stored[i, j] == 0:
            return super().flow_at(i, j, mask, index)
        steps = self._map(np.int16, self._starts[i, j] + 2 * self._plane_bytes, (self._stored[i, j], 2))
        if abs(i - j) != 1:
            index = np.searchsorted(np.flatnonzero(mask.valid), index)
        return steps[index].astype(np.float32) / STEPS_PER_PX

    def packed(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Read a pair that can be drawn, in the file's format: planes uint8 [2,bytes] and flow int16 [n,2]."""
        planes = self._map(np.uint8, self._starts[i, j], (2, self._plane_bytes))
        steps = self._map(np.int16, self._starts[i, j] + 2 * self._plane_bytes, (self._stored[i, j], 2))
        return np.array(planes), np.array(steps)

    def _map(self, dtype: type[np.generic], start: int, shape: tuple[int, int]) -> np.ndarray:
        """Map an array [shape] of the file that begins at byte `start`, in a third of np.memmap's time."""
        first = int(start) // ALLOCATIONGRANULARITY * ALLOCATIONGRANULARITY
        size = int(shape[0]) * int(shape[1])
        with open(self.file, "rb") as file:
            end = int(start) + size * np.dtype(dtype).itemsize
            pages = mmap(file.fileno(), end - first, offset=first, access=ACCESS_READ)
        return np.frombuffer(pages, dtype, size, int(start) - first).reshape(shape)

    def _digest(self) -> str:
        """Return the digest of the frames' names and size, the statistics, and the manifest of preprocessing."""
        digest = hashlib.sha256(repr((self.names, self.height, self.width)).encode())
        for path in (self.paths.flow_stats, self.raw.manifest):
            digest.update(path.read_bytes() if path.exists() else b"")  # published sequences have no manifest
        return digest.hexdigest()[:16]

    def _is_complete(self) -> bool:
        return self.file.is_file() and self.file.stat().st_size == self.bytes

    def _write(self) -> None:
        """Write the file atomically, and delete outdated ones of the same frames."""
        pairs = np.argwhere(self._stored > 0)
        print(f"writing the valid flow of {len(pairs)} pairs to {self.file} ({self.bytes / 1e9:.2f} GB)")
        try:
            with locked(self.raw.root), atomic_path(self.file) as temporary, open(temporary, "wb") as out:
                out.write(MAGIC)
                self._write_pairs(out, pairs.tolist())
        except OSError as error:
            raise InputError(
                f"cannot write {self.file} of {self.bytes / 1e9:.2f} GB ({error}): make room there, then run the "
                "same command again"
            ) from error
        self._delete_outdated()

    def _write_pairs(self, out: BinaryIO, pairs: list[list[int]]) -> None:
        """Write each pair to its place; several threads unpack flow and masks."""
        read_mask, one_at_a_time = super().mask, Lock()

        def work(pair: list[int]) -> Iterator[None]:
            i, j = pair
            mask, steps = read_mask(i, j), flow_steps(self.flow(i, j))
            planes = [np.packbits(plane).tobytes() for plane in (mask.consistent, mask.rescued)]
            drawable = steps.reshape(-1, 2) if abs(i - j) == 1 else steps[mask.valid]
            with one_at_a_time:
                out.seek(self._starts[i, j])
                out.writelines([*planes, drawable.tobytes()])
                advance(bar)
            yield

        with tqdm(total=len(pairs), desc="mapped flow", unit="pair") as bar:
            run_in_threads(work, pairs, default_workers(self.height * self.width))

    def _delete_outdated(self) -> None:
        for path in Path(self.file.parent).glob(f"{len(self.names)}_*{self.file.suffix}"):
            if path != self.file:
                path.unlink(missing_ok=True)
