"""How good tracks are, and how much better a model's are than those of the flow it was trained on."""

from argparse import Namespace
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from tqdm import tqdm

from evaluation.flow_trackers import ChainedFlowTracker, DirectFlowTracker
from evaluation.ground_truth import KeypointTruth, TrackTruth, Truth
from evaluation.metrics import badja_metrics, position_errors, tap_vid_metrics, temporal_coherence
from evaluation.queries import QueryMode, Tracker, TrackPredictions, run_tracker
from evaluation.tables import Row, format_table
from loaders.flow_store import FlowStore
from networks.omnimotion import OmniMotion
from preprocessing.sequence_paths import SequencePaths
from utils.config import uses_flow

VALIDATION_POINTS = 60  # of those with exact tracks, evenly picked: enough to see the trend in training
GAPS = ((1, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 10**9))  # frames from the query, first and last


@dataclass(frozen=True)
class Scores:
    """A tracker's figures on one video; by distance from the query; and its answers, where the truth are tracks."""

    row: Row
    by_gap: dict[str, Row] = field(default_factory=dict)
    answers: TrackPredictions | None = None


def model_tracker(model: OmniMotion, args: Namespace) -> Tracker:
    """The model as a tracker: query points [N,3] (t, x, y) → tracks [N,T,2] in pixels, occluded [N,T]."""
    height, width = model.config.height, model.config.width

    def track(query_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        px = np.zeros((len(query_points), model.config.num_frames, 2), np.float32)
        occluded = np.zeros(px.shape[:2], bool)
        query_frames = query_points[:, 0].astype(int)
        for frame in tqdm(np.unique(query_frames), desc="tracking queries", unit="frame", leave=False):
            rows = query_frames == frame
            queries = torch.from_numpy(query_points[rows])
            tracks = model.track(queries, None, args.use_max_loc, args.chunk_size)
            px[rows] = tracks.px.transpose(0, 1).cpu().numpy()
            occluded[rows] = tracks.occluded(args.occlusion_th, height, width).T.cpu().numpy()
        return px, occluded

    return track


def trackers_of(model: OmniMotion, paths: SequencePaths, names: list[str], args: Namespace) -> dict[str, Tracker]:
    """The model and before it the two ways to follow its raw flow, if it has any."""
    trackers: dict[str, Tracker] = {}
    if uses_flow(args):
        flow = FlowStore(paths, names, prefer_chained=False), model.config.height, model.config.width
        trackers = {"direct flow": DirectFlowTracker(*flow), "chained flow": ChainedFlowTracker(*flow)}
    return trackers | {"OmniMotion": model_tracker(model, args)}


def score(track: Tracker, truth: Truth, query_mode: QueryMode = "strided") -> Scores:
    """Ask a tracker what the truth knows, and score what it answers."""
    if isinstance(truth, KeypointTruth):
        return Scores(_keypoint_row(track, truth))
    answers = run_tracker(track, truth.points, truth.occluded, truth.size, query_mode)
    distance = np.abs(answers.gaps)
    by_gap = {}
    for low, high in GAPS:
        high = min(high, truth.points.shape[1] - 1)
        if low <= high:
            by_gap[f"gap {low}-{high}"] = _tap_row(answers, (distance >= low) & (distance <= high))
    return Scores(_tap_row(answers) | _error_row(answers, truth.exact), by_gap, answers)


def score_model(model: OmniMotion, truth: TrackTruth, args: Namespace) -> dict[str, float]:
    """`AJ`, `d_avg`, `OA` (0..1) on some of the exact tracks, quick enough to follow a running optimisation."""
    step = max(1, len(truth.points) // VALIDATION_POINTS)
    some = replace(truth, points=truth.points[::step], occluded=truth.occluded[::step])
    metrics = tap_vid_metrics(run_tracker(model_tracker(model, args), some.points, some.occluded, some.size))
    return {"AJ": metrics.aj, "d_avg": metrics.d_avg, "OA": metrics.oa}


def comparison(model: OmniMotion, paths: SequencePaths, names: list[str], truth: TrackTruth, args: Namespace) -> str:
    """The model and its flow on all exact tracks, strided queries, as a table under what it is."""
    trackers = trackers_of(model, paths, names, args)
    return f"{title(truth)}\n{format_table({name: score(track, truth).row for name, track in trackers.items()})}"


def title(truth: Truth, query_mode: QueryMode = "strided") -> str:
    """A line that says what the columns of a table are."""
    if isinstance(truth, KeypointTruth):
        return "BADJA: share of the labels within 0.2 sqrt(mask area) and within 3 px of the frames in hand"
    scores = (
        f"TAP-Vid scores and TC at 256x256, {query_mode} queries; px: errors in the video's pixels, median and 90th"
    )
    return scores + (" percentile, occluded: inside the image" if truth.exact else " percentile")


def _tap_row(answers: TrackPredictions, where: np.ndarray | None = None) -> Row:
    metrics = tap_vid_metrics(answers, where)
    return {"AJ": metrics.aj, "<d_avg": metrics.d_avg, "OA": metrics.oa}


def _error_row(answers: TrackPredictions, exact: bool) -> Row:
    visible, occluded = position_errors(answers)
    row = {"TC": temporal_coherence(answers), "px visible": visible.p50, "visible 90%": visible.p90}
    return row | ({"px occluded": occluded.p50, "occluded 90%": occluded.p90} if exact else {})


def _keypoint_row(track: Tracker, truth: KeypointTruth) -> Row:
    """The keypoints that are visible in the first annotated frame, looked for in the others."""
    asked = truth.visible[:, 0]
    start = np.full((asked.sum(), 1), truth.frames[0])
    tracks, _ = track(np.concatenate([start, truth.points[asked, 0]], 1).astype(np.float32))
    metrics = badja_metrics(tracks[:, truth.frames], truth.points[asked], truth.visible[asked], truth.areas)
    return {"0.2 area": metrics.within_area, "3 px": metrics.within_3px}
