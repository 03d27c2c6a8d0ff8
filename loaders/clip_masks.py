"""Masks of a clip's frames: those in the sequence's `mask/`, or in the folder of another tool (`--mask_dir`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocessing.frames import read_source_record
from preprocessing.sequence_paths import SequencePaths
from utils.errors import InputError
from utils.images import image_files
from utils.mask_files import mask_files
from utils.masks import Mask, read_mask


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
    of them are frames, or all frames have one; otherwise in natural order if there are as many masks as frames. Frames
    have the names that they have in `color/`, or those of the files that they were copied from.

    Raises:
        InputError: `mask_dir` holds no masks, or masks that cannot be matched, or two masks have one name.
    """
    frames = [path.name for path in image_files(paths.color)]
    if not options.mask_dir:
        own = _by_stem(paths.mask)
        files = {name: own[Path(name).stem] for name in frames if Path(name).stem in own}
        return ClipMasks(files, paths.mask, options.mask_label)
    folder = Path(options.mask_dir)
    files, how = _match(list_mask_dir(folder), frames, _original_names(paths, frames), folder)
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


def _match(
    masks: Mapping[str, Path], frames: Sequence[str], originals: Sequence[str], folder: Path
) -> tuple[dict[str, Path], str]:
    """Return the masks by frame name, and how they were matched."""
    for names in (frames, originals):
        stems = [Path(name).stem for name in names]
        if set(stems) <= set(masks) or set(masks) <= set(stems):
            return {frame: masks[stem] for frame, stem in zip(frames, stems, strict=True) if stem in masks}, "by name"
    if len(masks) == len(frames):
        return dict(zip(frames, masks.values(), strict=True)), "in order"
    raise InputError(
        f"{folder} holds {len(masks)} masks for {len(frames)} frames, and their names differ "
        f"({next(iter(masks.values())).name}, {originals[0]}): name masks like frames, or give one for each frame"
    )


def _original_names(paths: SequencePaths, frames: Sequence[str]) -> Sequence[str]:
    """Return the names of the files that the frames were copied from, or those of the frames."""
    source = SequencePaths(Path(read_source_record(paths).get("source", paths.root)))
    names = [path.name for path in image_files(source.color if source.color.is_dir() else source.root)]
    return names if len(names) == len(frames) else frames
