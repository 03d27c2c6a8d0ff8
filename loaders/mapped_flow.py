"""The valid flow of a sequence in one memory-mapped file, so that a training item touches only the pixels it shows.

For each ordered pair that can be drawn, one after the other: two planes of H·W bits (consistent, rescued), then int16
[n,2] flow in steps of 1/16 px, in raster order, of the n pixels that are valid, or of all H·W between adjacent frames,
where flow is believed everywhere. Packed flow keeps its values; published float flow is rounded by at most 1/32 px.
"""

import hashlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from loaders.flow_store import FlowStore, PairMask
from preprocessing.flow_files import STEPS_PER_PX, flow_steps
from preprocessing.sequence_paths import SequencePaths
from utils.atomic import atomic_path, remove_partial
from utils.errors import InputError
from utils.lock import locked

MAGIC = b"OMVALID1"


class MappedFlowStore(FlowStore):
    """A `FlowStore` whose masks and single pixels' flow come from the file, which is made if it is not there.

    The file's name holds a digest of all that its content follows from, and files of the same frames with another one
    are deleted. A mapping lasts for one look, so that a process never holds more than a pair's pages.

    Raises:
        InputError: what `FlowStore` raises; masks that contradict the statistics; no space or right to write; another
            process at work in the sequence folder.
    """

    def __init__(self, paths: SequencePaths, names: list[str], prefer_chained: bool = True):
        super().__init__(paths, names, prefer_chained)
        self.height, self.width = self.count_map(0).shape
        num_px, gaps = self.height * self.width, np.abs(np.subtract.outer(range(len(names)), range(len(names))))
        self._stored = np.where(gaps == 1, num_px, self.valid_counts)  # [T,T] pixels with flow in the file
        self._plane_bytes = -(-num_px // 8)
        sizes = np.where(self._stored > 0, 2 * self._plane_bytes + 4 * self._stored, 0)
        self._starts = len(MAGIC) + np.cumsum(sizes).reshape(sizes.shape) - sizes  # [T,T] bytes
        self.bytes = len(MAGIC) + int(sizes.sum())
        self.file = self.paths.training_flow(f"{len(names)}_{self._digest()}")
        remove_partial(self.file.parent)  # gigabytes, where writing was killed
        if not self._is_whole():
            self._write()

    def mask(self, i: int, j: int) -> PairMask:
        """As `FlowStore.mask`."""
        if self._stored[i, j] == 0:
            return super().mask(i, j)
        planes = self._map(np.uint8, self._starts[i, j], (2, self._plane_bytes))
        bits = np.unpackbits(planes, axis=1, count=self.height * self.width).view(bool)
        return PairMask(*bits.reshape(2, self.height, self.width))

    def flow_at(self, i: int, j: int, mask: PairMask, index: np.ndarray) -> np.ndarray:
        """As `FlowStore.flow_at`; between frames that are not adjacent, of valid pixels alone."""
        if self._stored[i, j] == 0:
            return super().flow_at(i, j, mask, index)
        steps = self._map(np.int16, self._starts[i, j] + 2 * self._plane_bytes, (self._stored[i, j], 2))
        if abs(i - j) != 1:
            index = np.searchsorted(np.flatnonzero(mask.valid), index)
        return steps[index].astype(np.float32) / STEPS_PER_PX

    def packed(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """What the file holds of a pair that can be drawn: planes uint8 [2,bytes], flow int16 [n,2] (see above)."""
        planes = self._map(np.uint8, self._starts[i, j], (2, self._plane_bytes))
        steps = self._map(np.int16, self._starts[i, j] + 2 * self._plane_bytes, (self._stored[i, j], 2))
        return np.array(planes), np.array(steps)

    def _map(self, dtype: type, start: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.memmap(self.file, dtype, "r", int(start), tuple(map(int, shape)))

    def _digest(self) -> str:
        """Of the frames' names and size, the statistics, and what preprocessing noted of settings and frames."""
        digest = hashlib.sha256(repr((self.names, self.height, self.width)).encode())
        for path in (self.paths.flow_stats, self.raw.manifest):
            digest.update(path.read_bytes() if path.exists() else b"")  # published sequences have no notes
        return digest.hexdigest()[:16]

    def _is_whole(self) -> bool:
        return self.file.is_file() and self.file.stat().st_size == self.bytes

    def _write(self) -> None:
        """Make the file, whole or not at all, and delete what earlier products of these frames left."""
        pairs = np.argwhere(self._stored > 0)
        print(f"valid flow of {len(pairs)} pairs goes to {self.file} ({self.bytes / 1e9:.2f} GB)")
        try:
            with locked(self.raw.root), atomic_path(self.file) as temporary, open(temporary, "wb") as out:
                out.write(MAGIC)
                for i, j in tqdm(pairs.tolist(), desc="mapped flow", unit="pair"):
                    mask, steps = super().mask(i, j), flow_steps(self.flow(i, j))
                    valid = mask.valid
                    for plane in (mask.consistent, mask.rescued):
                        out.write(np.packbits(plane).tobytes())
                    out.write((steps.reshape(-1, 2) if abs(i - j) == 1 else steps[valid]).tobytes())
        except OSError as error:
            raise InputError(
                f"cannot write {self.file} of {self.bytes / 1e9:.2f} GB ({error}); make room, or train with "
                "--map_flow false"
            ) from error
        self._delete_earlier()

    def _delete_earlier(self) -> None:
        for path in Path(self.file.parent).glob(f"{len(self.names)}_*{self.file.suffix}"):
            if path != self.file:
                path.unlink(missing_ok=True)
