"""Score tracks from a file of any tracker: N tracks, the predictions for N queries in the same order."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from evaluation.ground_truth import Truth, find_truth, frame_size, tapvid_tracks
from evaluation.options import EvaluationOptions
from evaluation.queries import Tracker
from evaluation.report import Report
from evaluation.scoring import score
from loaders.clip_masks import MaskOptions
from loaders.track_file import read_tracks
from preprocessing.sequence_paths import SequencePaths
from utils.conventions import RASTER, Size, raster_from_px
from utils.errors import InputError
from utils.images import list_frames

# In its query's frame, a track lies at the query, or near it if the tracker predicts that frame, too. A larger median
# distance (pixels of the 256x256 raster) means that the tracks are in another order or of another size.
MAX_START_OFFSET = 16.0


def stored_tracker(path: Path, num_frames: int, size: Size) -> Tracker:
    """Return a tracker that answers exactly N queries with the N tracks of a file (layouts: `loaders.track_file`).

    Args:
        path: The npz file.
        num_frames: Number of frames of the clip.
        size: Height and width of the frames.

    Raises:
        InputError: An unusable file; when called: another number of queries, or tracks that do not start at them.
    """
    stored = read_tracks(path, num_frames, *size, to_score=True)

    def track(query_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tracks = stored.px.swapaxes(0, 1)
        if len(tracks) != len(query_points):
            raise InputError(
                f"{path} holds {len(tracks)} tracks, but there are {len(query_points)} queries: save one track "
                "for each query, in their order, and check --query_mode"
            )
        starts = tracks[np.arange(len(tracks)), query_points[:, 0].astype(int)]
        offset = raster_from_px(starts, size) - raster_from_px(query_points[:, 1:], size)
        if len(tracks) and not np.median(np.linalg.norm(offset, axis=-1)) <= MAX_START_OFFSET:
            raise InputError(
                f"{path}: in the queries' frames half of the tracks are far from the queries: store them in the order "
                "of the queries, in pixels of the truth's frames"
            )
        return tracks, ~stored.visible.T

    return track


def evaluate_stored(
    source: Path, options: EvaluationOptions, mask_options: MaskOptions, settings: Mapping[str, object]
) -> tuple[Report, Path]:
    """Score stored tracks and write `<file>.scores.json` beside the file, or `scores.json` into the folder.

    A TAP-Vid pickle holds many videos: each file of tracks is named after its video. Any other truth belongs to one
    video: each file is named after its tracker.

    Args:
        source: An npz file of tracks, or a folder of such files.
        options: How to score; the file of the truth must be given.
        mask_options: Which masks give the areas of BADJA's thresholds.
        settings: Flags to write beside the scores.

    Returns:
        The scores, and the file that holds them.

    Raises:
        InputError: No truth, unusable files, or tracks that are not predictions for the queries.
    """
    gt = Path(options.gt)
    if not gt.is_file():
        found = f"--gt {gt} does not exist" if options.gt else "--gt is not given"
        raise InputError(f"{found}: to score stored --tracks, give their ground truth")
    files = sorted(source.glob("*.npz")) if source.is_dir() else [source]
    if not files:
        raise InputError(f"{source} holds no npz file: store tracks there; for a pickle, one <video>.npz per video")
    report = Report(options.query_mode)
    for file in files:
        video, tracker, truth = _truth_for(file.stem, gt, options, mask_options)
        scores = score(stored_tracker(file, truth.num_frames, truth.size), truth, options.query_mode)
        report.add(video, {tracker: scores}, truth)
    written = source / "scores.json" if source.is_dir() else source.with_suffix(".scores.json")
    report.write(written, settings)
    return report, written


def _truth_for(stem: str, gt: Path, options: EvaluationOptions, mask_options: MaskOptions) -> tuple[str, str, Truth]:
    """Return video, tracker and truth for a file of tracks, given its stem."""
    if gt.suffix in (".pkl", ".zip"):
        return stem, "tracks", tapvid_tracks(gt, stem, (RASTER, RASTER))
    folder = gt.parent
    paths = SequencePaths(folder)
    size = frame_size(paths)
    if size is None:
        raise InputError(f"{folder} has no color/, which gives the frames' size: give a file in a sequence folder")
    names = [frame.name for frame in list_frames(paths.color)]
    return gt.resolve().parent.name, stem, find_truth(options, folder, paths, names, size, stem, mask_options)
