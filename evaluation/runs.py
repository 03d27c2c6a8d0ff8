"""What `evaluate.py` does: find the truth of each video, score its run or its stored tracks, and say so in files."""

import json
import math
import time
from argparse import Namespace
from pathlib import Path

import numpy as np

from evaluation.error_figure import error_figure
from evaluation.ground_truth import (
    TAPVID_SIZE,
    KeypointTruth,
    Truth,
    badja_keypoints,
    exact_tracks,
    frame_size,
    tapvid_tracks,
)
from evaluation.provenance import provenance
from evaluation.queries import TrackPredictions
from evaluation.scoring import Scores, score, trackers_of
from evaluation.stored_tracker import stored_tracker
from evaluation.tables import Row
from loaders.clip import Clip, open_clip
from networks.checkpoints import read_checkpoint
from networks.run_checkpoints import find_trained_checkpoint, load_trained
from preprocessing.sequence_paths import SequencePaths
from utils.atomic import atomic_path
from utils.config import run_dir
from utils.conventions import Size
from utils.device import pick_device
from utils.errors import InputError
from utils.images import image_files, list_frames, read_mask, write_image

Results = dict[str, dict[str, Scores]]  # video → tracker → its scores


def evaluate_runs(args: Namespace) -> tuple[Results, Truth, Path]:
    """Scores of each run, kept in its folder; the last truth; the file that holds all scores."""
    start, results, trained, runs = time.perf_counter(), {}, {}, runs_of(args)
    for run in runs:
        before, video = time.perf_counter(), video_name(run.data_dir)
        results[video], truth, trained[video] = evaluate_run(run)
        written = run_dir(run) / "scores.json"
        own = {video: trained[video]}
        write_scores(written, {video: results[video]}, truth, run, time.perf_counter() - before, own)
    if len(runs) > 1:
        written = Path(args.save_dir) / f"{args.expname}_scores.json"
        write_scores(written, results, truth, args, time.perf_counter() - start, trained)
    return results, truth, written


def runs_of(args: Namespace) -> list[Namespace]:
    """The flags of each run: `--data_dir` is one clip, or a folder of sequence folders with a run for each.

    Raises:
        InputError: a run has no checkpoint, or one `--ckpt_path` is given for several.
    """
    root = Path(args.data_dir)
    sequences = [] if (root / "color").is_dir() else sequence_folders(root)
    runs = [Namespace(**{**vars(args), "data_dir": str(path)}) for path in sequences or [root]]
    if len(runs) > 1 and args.ckpt_path:
        raise InputError(f"--ckpt_path is one checkpoint, but {root} holds {len(runs)} videos: name one of them")
    for run in runs:
        find_trained_checkpoint(run)
    return runs


def sequence_folders(root: Path) -> list[Path]:
    """The folders in `root` that have `color/`; hidden ones are unfinished."""
    return sorted(path.parent for path in root.glob("[!.]*/color"))


def evaluate_run(args: Namespace) -> tuple[dict[str, Scores], Truth, dict]:
    """Scores of a run's model and flow, the truth, and how the model was trained.

    Leaves the model's tracks and a picture in the run's folder.
    """
    clip, video = open_clip(args), video_name(args.data_dir)
    size = clip.video.shape[1:3]
    truth = find_truth(args, Path(args.data_dir), clip.paths, clip.names, size, video)
    path = find_trained_checkpoint(args)  # one for all: a training that goes on writes newer ones
    model = load_trained(Namespace(**vars(args) | {"ckpt_path": str(path)}), clip.video, pick_device(args.device))
    trackers = trackers_of(model, clip.paths, clip.names, args)
    scores = {name: score(track, truth, args.query_mode) for name, track in trackers.items()}
    answers = {name: each.answers for name, each in scores.items() if each.answers is not None}
    if answers:
        save_answers(run_dir(args) / f"tracks_{args.query_mode}.npz", answers["OmniMotion"])
        figure = error_figure(clip.video, answers, _on_foreground(clip, answers["OmniMotion"]))
        write_image(run_dir(args) / "errors.png", figure)
        print(f"wrote {run_dir(args) / f'tracks_{args.query_mode}.npz'} and errors.png")
    return scores, truth, training_of(path)


def training_of(path: Path) -> dict:
    """What a checkpoint tells of its training: the step and the flags (of a released one nothing)."""
    checkpoint = read_checkpoint(path)
    return {"checkpoint": str(path), "step": checkpoint.get("step"), "flags": checkpoint.get("flags")}


def evaluate_stored(args: Namespace) -> tuple[Results, Truth, Path]:
    """Scores of `--tracks` (a file or a folder of some) against `--gt`; the last truth; the file that holds the scores.

    A TAP-Vid pickle holds many videos, and a file of tracks is named after its own; any other truth is of one video,
    and a file is named after its tracker.

    Raises:
        InputError: no `--gt`, unusable files, or tracks that are not answers to the queries.
    """
    start, source, gt = time.perf_counter(), Path(args.tracks), Path(args.gt)
    if not args.gt or not gt.is_file():
        found = f"--gt {gt} does not exist" if args.gt else "--gt is not given"
        raise InputError(f"{found}: to score stored --tracks give the truth's file")
    files = sorted(source.glob("*.npz")) if source.is_dir() else [source]
    if not files:
        raise InputError(f"{source} holds no npz file: store tracks there, those of a pickle's videos as <video>.npz")
    results = {}
    for file in files:
        video, tracker, truth = _truth_of_stored(args, gt, file.stem)
        num_frames = truth.num_frames if isinstance(truth, KeypointTruth) else truth.points.shape[1]
        scores = score(stored_tracker(file, num_frames, truth.size), truth, args.query_mode)
        results.setdefault(video, {})[tracker] = scores
    written = source / "scores.json" if source.is_dir() else source.with_suffix(".scores.json")
    write_scores(written, results, truth, args, time.perf_counter() - start)
    return results, truth, written


def find_truth(args: Namespace, folder: Path, paths: SequencePaths, names: list[str], size: Size, video: str) -> Truth:
    """What `--gt` says of a video, or what its folder holds; `paths`, `names`, `size`: of the frames in hand."""
    if args.benchmark == "badja":
        sources = [frame.name for frame in list_frames(folder / "color")] if (folder / "color").is_dir() else names
        return badja_keypoints(Path(args.gt or folder / "badja.json"), names, paths.mask, size, sources[: len(names)])
    path = Path(args.gt) if args.gt else paths.gt_tracks
    if args.benchmark == "tapvid":
        return tapvid_tracks(path, video, size, len(names))
    return exact_tracks(path, size, len(names))


def _truth_of_stored(args: Namespace, gt: Path, stem: str) -> tuple[str, str, Truth]:
    """For a file of tracks by its stem: its video, its tracker, and the truth."""
    if gt.suffix in (".pkl", ".zip"):
        return stem, "tracks", tapvid_tracks(gt, stem, TAPVID_SIZE)
    paths = SequencePaths(gt.parent)
    size = frame_size(paths)
    if size is None:
        raise InputError(
            f"{gt.parent} has no color/, which tells the size of the frames: give a file in a sequence folder"
        )
    names = [frame.name for frame in list_frames(paths.color)]
    return gt.resolve().parent.name, stem, find_truth(args, gt.parent, paths, names, size, stem)


def mean_rows(results: Results) -> dict[str, Row]:
    """Each tracker's figures, averaged over the videos in which they exist; NaN where in none."""
    rows = [scores for scores in results.values()]
    means: dict[str, Row] = {}
    for tracker in dict.fromkeys(name for scores in rows for name in scores):
        found = [scores[tracker].row for scores in rows if tracker in scores]
        means[tracker] = {key: _mean([row[key] for row in found]) for key in found[0]}
    return means


def write_scores(
    path: Path, results: Results, truth: Truth, args: Namespace, seconds: float, trained: dict[str, dict] | None = None
) -> None:
    """Everything as JSON: what was `trained` for each video, settings of the scoring, commit, time, machine.

    A figure that does not exist is null.
    """
    rows = {video: {name: each.row for name, each in scores.items()} for video, scores in results.items()}
    by_gap = {video: {name: each.by_gap for name, each in scores.items()} for video, scores in results.items()}
    content = {
        "benchmark": kind_of(truth),
        "query_mode": args.query_mode,
        **provenance(),
        "seconds": round(seconds, 1),
        "settings": vars(args),
        "trained": trained or {},
        "videos": rows,
        "by_gap": by_gap,
        "mean": mean_rows(results),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def kind_of(truth: Truth) -> str:
    """The benchmark that a truth is of, as `--benchmark` names it."""
    return "badja" if isinstance(truth, KeypointTruth) else "tracks" if truth.exact else "tapvid"


def save_answers(path: Path, answers: TrackPredictions) -> None:
    """A tracker's `tracks` [T,Q,2] and `visibility` [T,Q] as `--tracks` reads them; `queries` [Q,3] (t,x,y)."""
    rows = np.arange(len(answers.query_frames))
    queries = np.concatenate([answers.query_frames[:, None], answers.gt_tracks[rows, answers.query_frames]], 1)
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            tracks=answers.pred_tracks.swapaxes(0, 1),
            visibility=~answers.pred_occluded.T,
            queries=queries.astype(np.float32),
        )


def video_name(data_dir: str) -> str:
    """A video's name in a benchmark: that of its folder or file."""
    source = Path(data_dir)
    return source.stem if source.is_file() else source.resolve().name


def _on_foreground(clip: Clip, answers: TrackPredictions) -> np.ndarray | None:
    """Which queries [Q] lie on the foreground mask of their frame; None unless every frame that is asked has one."""
    files = {path.stem: path for path in image_files(clip.paths.mask)}
    frames = np.unique(answers.query_frames)
    try:
        masks = {t: read_mask(files[Path(clip.names[t]).stem], *answers.size) for t in frames}
    except (KeyError, InputError):  # no mask, or an empty one
        return None
    on = np.zeros(len(answers.query_frames), bool)
    for t in frames:
        rows = answers.query_frames == t
        x, y = np.round(answers.gt_tracks[rows, t]).astype(int).clip(0, np.array(answers.size[::-1]) - 1).T
        on[rows] = masks[t][y, x]
    return on


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _without_nan(value: object) -> object:
    """NaN is not JSON: null instead."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
