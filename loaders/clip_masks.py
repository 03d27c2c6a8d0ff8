"""Masks of a clip's frames: those in the sequence's `mask/`, or in the folder of another tool (`--mask_dir`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocessing.sequence_paths import SequencePaths
from preprocessing.source_record import read_source_record
from utils.errors import InputError
from utils.images import image_files
from utils.mask_files import mask_files
from utils.masks import Mask, read_mask, select_foreground


@dataclass(frozen=True)
class MaskOptions:
    """Where a clip's masks are, and which of their labels is foreground.

    Attributes:
        mask_dir: Folder of masks; "" takes the sequence's own `mask/`.
        mask_label: Label of one object; None for every label but 0.
    """

    mask_dir: str = ""
    mask_label: int | None = None


@dataclass(frozen=True)
class ClipMasks:
    """The masks of a clip's frames.

    Attributes:
        files: The mask file of each frame that has one, by the frame's file name.
        folder: Where they are.
        label: The label that is foreground; None for every label but 0.
        matching: How those of `mask_dir` were matched with the frames; "" for the sequence's own.
    """

    files: Mapping[str, Path]
    folder: Path
    label: int | None = None
    matching: str = ""

    def read(self, name: str, size: tuple[int, int]) -> Mask:
        """Read the mask of the frame with this file name, resized to (height, width).

        Raises:
            InputError: The frame has no mask, or an unusable one.
        """
        if name not in self.files:
            raise InputError(f"{self.folder} has no mask of {name}: put one there, or choose a frame that has one")
        return read_mask(self.files[name], *size, self.label)

    def read_foreground(self, name: str, size: tuple[int, int], path: str = "") -> Mask | None:
        """Read the mask of the frame whose points are tracked.

        Args:
            name: File name of the frame.
            size: Height and width of the frame.
            path: A file to read instead; "" for the frame's own mask.

        Returns:
            None if no masks were given and the sequence has none of this frame.

        Raises:
            InputError: The mask is unusable, or is not in the folder that was given.
        """
        if path:
            return read_mask(Path(path), *size, self.label)
        return self.read(name, size) if self.matching or name in self.files else None


def check_masks(options: MaskOptions, path: str = "") -> None:
    """Refuse an unusable folder of masks, or an unusable mask in its own file, before frames are prepared.

    Raises:
        InputError: The folder holds no masks; the file is missing, unreadable, or lacks the label.
    """
    if options.mask_dir:
        list_mask_dir(Path(options.mask_dir))
    if path:
        select_foreground(Path(path), options.mask_label)


def list_mask_dir(folder: Path) -> dict[str, Path]:
    """Return the masks of the folder that was given, in natural order, by their names without suffix.

    Raises:
        InputError: It holds no masks, or two of one name.
    """
    masks = _by_stem(folder)
    if masks:
        return masks
    nested = [path.name for path in sorted(folder.glob("*")) if mask_files(path)]
    found = f", but in its folders {', '.join(nested[:3])}" if nested else "" if folder.is_dir() else ", no such folder"
    raise InputError(f"--mask_dir: found no mask in {folder}{found}: give a folder of images or .npy arrays")


def find_masks(paths: SequencePaths, options: MaskOptions) -> ClipMasks:
    """Match masks with the frames of a sequence.

    Masks in `mask/` are named after their frames. Those of `mask_dir` are matched by their names without suffix if all
    of them are frames of the source, or all its frames have one. Otherwise, or if this leaves out masks and frames,
    they are matched in natural order if there are as many masks as frames, of the clip or of its source. Names are
    those in `color/`, or those that the source's files have.

    Raises:
        InputError: `mask_dir` holds no masks, or masks that cannot be matched, or two masks have one name.
    """
    frames = [path.name for path in image_files(paths.color)]
    if not options.mask_dir:
        own = _by_stem(paths.mask)
        files = {name: own[Path(name).stem] for name in frames if Path(name).stem in own}
        return ClipMasks(files, paths.mask, options.mask_label)
    folder = Path(options.mask_dir)
    masks, namings = list_mask_dir(folder), _namings(paths, frames)
    named = _match_names(masks, frames, namings)
    is_complete = len(named) == min(len(frames), len(masks))
    ordered = {} if is_complete else _match_order(masks, frames, [len(naming.all_stems) for naming in namings])
    files, how = (ordered, "in order") if ordered else (named, "by name")
    if not files:
        raise InputError(
            f"{folder} holds {len(masks)} masks for {len(frames)} frames, and their names differ "
            f"({next(iter(masks.values())).name}, {frames[0]}): name masks like frames, or give one for each"
        )
    matching = f"{len(files)} of {len(frames)} frames have a mask in {folder}, matched {how}"
    return ClipMasks(files, folder, options.mask_label, matching)


def _by_stem(folder: Path) -> dict[str, Path]:
    masks: dict[str, Path] = {}
    for path in mask_files(folder):
        other = masks.setdefault(path.stem, path)
        if other is not path:
            raise InputError(
                f"{folder} has both {other.name} and {path.name}, expected one mask for a frame: remove one of them"
            )
    return masks


@dataclass(frozen=True)
class _Naming:
    """Names without suffix of a clip's frames, and of all frames of its source."""

    stems: Sequence[str]
    all_stems: set[str]


def _namings(paths: SequencePaths, frames: Sequence[str]) -> list[_Naming]:
    """Return the frames' names in `color/`, and those of the files that they were copied from."""
    record, stems = read_source_record(paths), [Path(name).stem for name in frames]
    total = record.get("source_frames")  # a copy's frames are named by their numbers in the source
    numbered = {f"{number:05d}" for number in range(total)} if isinstance(total, int) else set[str]()
    found = [_Naming(stems, numbered | set(stems))]
    if "source" in record:
        source = SequencePaths(Path(record["source"]))
        originals = [path.stem for path in image_files(source.color if source.color.is_dir() else source.root)]
        chosen = [originals[int(stem)] for stem in stems if stem.isdecimal() and int(stem) < len(originals)]
        found += [_Naming(chosen, set(originals))] if len(chosen) == len(stems) else []
    return found


def _match_names(masks: Mapping[str, Path], frames: Sequence[str], namings: Sequence[_Naming]) -> dict[str, Path]:
    """Return the masks by frame; empty if names do not match."""
    for naming in namings:
        if naming.all_stems <= set(masks) or set(masks) <= naming.all_stems:
            named = zip(frames, naming.stems, strict=True)
            if found := {frame: masks[stem] for frame, stem in named if stem in masks}:
                return found
    return {}


def _match_order(masks: Mapping[str, Path], frames: Sequence[str], totals: Sequence[int]) -> dict[str, Path]:
    """Return the masks by frame if there are as many as frames, or as all frames of the source; else nothing."""
    ordered = list(masks.values())
    if len(ordered) == len(frames):
        return dict(zip(frames, ordered, strict=True))
    if len(ordered) in totals:
        return {frame: ordered[int(Path(frame).stem)] for frame in frames}
    return {}
