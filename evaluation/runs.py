"""Scores of trained runs, written into their folders beside the model's tracks and a picture of its errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.error_figure import error_figure
from evaluation.ground_truth import find_truth
from evaluation.options import EvaluationOptions, QueryMode
from evaluation.queries import TrackPredictions
from evaluation.query_groups import query_groups
from evaluation.report import Report
from evaluation.scoring import MODEL, score, score_groups, trackers_of
from loaders.clip import Clip, open_clip
from loaders.clip_masks import MaskOptions, find_masks
from networks.checkpoints import read_checkpoint
from networks.model_config import ModelConfig
from networks.run_checkpoints import find_trained_checkpoint, load_trained
from networks.tracks import TrackingOptions
from utils.atomic import atomic_path
from utils.device import pick_device
from utils.errors import InputError
from utils.images import write_image


@dataclass(frozen=True)
class Run:
    """A trained run: where its clip and its checkpoints are, and how it was trained."""

    data_dir: Path
    folder: Path  # folder of its checkpoints and results
    config: ModelConfig  # its clip size is replaced by that of the clip
    tracking: TrackingOptions
    uses_flow: bool  # whether it was trained on flow, which is then scored as well
    mask_options: MaskOptions
    settings: dict[str, Any]  # flags to write beside its scores
    ckpt_path: str = ""  # checkpoint to use instead of the newest in the folder
    max_side: int | None = None
    num_imgs: int = 250
    frame_range: str = ""
    value_range: str = ""
    device: str = "auto"

    @property
    def video(self) -> str:
        """The video's name in a benchmark: that of its folder or file."""
        return self.data_dir.stem if self.data_dir.is_file() else self.data_dir.resolve().name


def sequence_folders(root: Path) -> list[Path]:
    """Return the folders in `root` that have `color/`, without unfinished ones, whose names start with a dot."""
    return sorted(path.parent for path in root.glob("[!.]*/color"))


def evaluate_runs(
    runs: Sequence[Run], options: EvaluationOptions, summary: Path, settings: Mapping[str, object]
) -> tuple[Report, Path]:
    """Score runs and write `scores.json` into the folder of each.

    Args:
        runs: The runs; each has its own video.
        options: How to score.
        summary: File for the scores of all runs, if there are several.
        settings: Flags to write into it.

    Returns:
        The scores, and the file that holds all of them.

    Raises:
        InputError: A run has no clip or no checkpoint, one checkpoint is given for several runs, or clip or truth are
            unusable.
    """
    if absent := [run.data_dir for run in runs if not run.data_dir.exists()]:
        raise InputError(
            f"--data_dir: nothing at {absent[0]}: give a video file, a sequence folder, or a folder of sequence folders"
        )
    if len(runs) > 1 and runs[0].ckpt_path:
        root = runs[0].data_dir.parent
        raise InputError(f"--ckpt_path is one checkpoint, but {root} holds {len(runs)} videos: name one of them")
    folders = {run.mask_options.mask_dir for run in runs}
    if len(runs) > 1 and len(folders) == 1 and "" not in folders:
        raise InputError(f"--mask_dir {folders.pop()} is of one video, but there are {len(runs)}: name one of them")
    # Found before any scoring, so that a missing one is reported at once, and a running training changes none.
    checkpoints = [find_trained_checkpoint(run.folder, run.ckpt_path) for run in runs]
    total = Report(options.query_mode)
    for run, checkpoint in zip(runs, checkpoints, strict=True):
        report = _evaluate_run(run, checkpoint, options)
        written = run.folder / "scores.json"
        report.write(written, run.settings)
        total.merge(report)
    if len(runs) > 1:
        written = summary
        total.write(written, settings)
    return total, written


def _evaluate_run(run: Run, checkpoint: Path, options: EvaluationOptions) -> Report:
    report = Report(options.query_mode)
    clip = open_clip(
        run.data_dir,
        max_side=run.max_side,
        num_imgs=run.num_imgs,
        frame_range=run.frame_range,
        value_range=run.value_range,
        query_frame_id=None,
    )
    num_frames, height, width, _ = clip.video.shape
    truth = find_truth(options, run.data_dir, clip.paths, clip.names, (height, width), run.video, run.mask_options)
    config = replace(run.config, num_frames=num_frames, height=height, width=width)
    model = load_trained(checkpoint, clip.video, config, pick_device(run.device))
    trackers = trackers_of(model, clip.paths, clip.names, run.uses_flow, run.tracking)
    scores = {name: score(track, truth, options.query_mode) for name, track in trackers.items()}
    predictions = {name: each.predictions for name, each in scores.items() if each.predictions is not None}
    if predictions:  # not of keypoints
        masks = find_masks(clip.paths, run.mask_options)
        groups = query_groups(clip.paths, clip.names, masks, predictions[MODEL], run.uses_flow)
        for name, each in predictions.items():
            scores[name] = replace(scores[name], by_group=score_groups(each, groups, truth.benchmark == "tracks"))
        _save_tracks_and_errors(run.folder, clip, predictions, groups.get("foreground"), options.query_mode)
    trained = read_checkpoint(checkpoint)  # a released one holds neither step nor flags
    record = {"checkpoint": str(checkpoint), "step": trained.get("step"), "flags": trained.get("flags")}
    report.add(run.video, scores, truth, record)
    return report


def _save_tracks_and_errors(
    folder: Path,
    clip: Clip,
    predictions: Mapping[str, TrackPredictions],
    on_foreground: np.ndarray | None,
    query_mode: QueryMode,
) -> None:
    """Write the model's `tracks_<query_mode>.npz`, and `errors.png` of all trackers."""
    path = folder / f"tracks_{query_mode}.npz"
    save_predictions(path, predictions[MODEL])
    write_image(folder / "errors.png", error_figure(clip.video, predictions, on_foreground))
    print(f"wrote {path} and errors.png")


def save_predictions(path: Path, predictions: TrackPredictions) -> None:
    """Write `tracks` [T,Q,2], `visibility` [T,Q] and `queries` [Q,3] (t, x, y), as `--tracks` reads them."""
    rows = np.arange(len(predictions.query_frames))
    starts = predictions.gt_tracks[rows, predictions.query_frames]
    queries = np.concatenate([predictions.query_frames[:, None], starts], 1)
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            tracks=predictions.pred_tracks.swapaxes(0, 1),
            visibility=~predictions.pred_occluded.T,
            queries=queries.astype(np.float32),
        )
