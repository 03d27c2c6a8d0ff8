"""Files of masks, counts and statistics, which filtering and chaining write."""

import io
import json
from collections.abc import Iterator

import numpy as np
from PIL import Image
from tqdm import tqdm

from preprocessing.flow_files import read_pair_mask
from preprocessing.pairs import Pairs
from preprocessing.sequence_paths import SequencePaths
from utils.atomic import write_atomic
from utils.data_files import read_json
from utils.distributed import SINGLE_PROCESS, Context
from utils.errors import InputError
from utils.images import write_image
from utils.parallel import FILE_BYTES_PER_PX, advance, default_workers, run_in_threads


def write_pair_mask(paths: SequencePaths, a: str, b: str, consistent: np.ndarray, rescued: np.ndarray) -> None:
    """Write bool [H,W] masks of the flow a→b as the png that `SequencePaths.flow_mask` describes."""
    # Two bits a pixel take half the time of three bytes, to write as to read.
    image = Image.fromarray(consistent | rescued.astype(np.uint8) << 1)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 255, 255, 0])
    image.save(png := io.BytesIO(), "PNG", bits=2, compress_level=1)
    write_atomic(paths.flow_mask(a, b), png.getvalue())


def missing_masks(paths: SequencePaths, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of frame names that have no mask file."""
    folder = paths.flow_mask("a", "b").parent
    present = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return [pair for pair in pairs if paths.flow_mask(*pair).name not in present]


def counts_missing(paths: SequencePaths, names: list[str], pairs: Pairs) -> bool:
    """Return whether a count map is missing, or the statistics have other pairs (as of a longer clip)."""
    return _counted_pairs(paths) != set(pairs.named(names)) or not all(paths.count_map(n).is_file() for n in names)


def _counted_pairs(paths: SequencePaths) -> set[tuple[str, str]]:
    try:
        stats = read_json(paths.flow_stats)
    except (OSError, ValueError):
        return set()
    rows = stats.items() if isinstance(stats, dict) else ()
    return {(a, b) for a, row in rows if isinstance(row, dict) for b in row}


def write_counts(
    paths: SequencePaths, names: list[str], pairs: Pairs, label: str, context: Context = SINGLE_PROCESS
) -> None:
    """Write count maps and `flow_stats.json` from the masks, unless they exist.

    Valid pixels are cycle-consistent or rescued. A count map [H,W] holds for each pixel the number of pairs in which it
    is valid. Rank 0 writes, the other ranks wait.

    Args:
        paths: Sequence with masks.
        names: Frame file names in order.
        pairs: The pairs to count.
        label: First word of the progress bar.
        context: The processes that share the work.

    Raises:
        InputError: No pixel of any pair is valid.
    """
    if context.rank == 0 and counts_missing(paths, names, pairs):
        paths.flow_stats.unlink(missing_ok=True)
        targets: dict[str, list[str]] = {name: [] for name in names}
        for i, j in sorted(pairs.all()):
            targets[names[i]].append(names[j])
        stats: dict[str, dict[str, int]] = {a: {} for a in names}

        def count_valid(a: str) -> Iterator[None]:
            count = np.zeros((), np.uint16)
            for b in targets[a]:
                valid = np.logical_or(*read_pair_mask(paths, a, b))
                stats[a][b] = int(valid.sum())
                count = count + valid.astype(np.uint16)
                yield
            write_image(paths.count_map(a), count)
            advance(bar)

        num_px = read_pair_mask(paths, names[0], targets[names[0]][0])[0].size
        with tqdm(total=len(names), desc=f"{label} counts", unit="frame") as bar:
            workers = default_workers(num_px, bytes_per_job=FILE_BYTES_PER_PX * num_px)
            run_in_threads(count_valid, names, workers)
        if not any(sum(row.values()) for row in stats.values()):
            raise InputError(f"no flow in {paths.root} is valid anywhere: look at the frames, or try another --flow")
        # Last, because existing statistics imply that the count maps are complete.
        write_atomic(paths.flow_stats, json.dumps(stats).encode())
    context.barrier()
