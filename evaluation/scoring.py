"""Scores of trackers on a clip: a trained model, compared with the flow that it was trained on."""

from dataclasses import dataclass, field, replace

import numpy as np

from evaluation.flow_trackers import ChainedFlowTracker, DirectFlowTracker
from evaluation.ground_truth import KeypointTruth, TrackTruth, Truth
from evaluation.metrics import (
    badja_metrics,
    occlusion_metrics,
    position_errors,
    tap_vid_metrics,
    temporal_coherence,
)
from evaluation.options import QueryMode
from evaluation.queries import Tracker, TrackPredictions, run_tracker
from evaluation.query_groups import Groups
from evaluation.tables import Row, format_table
from loaders.flow_store import FlowStore
from networks.omnimotion import OmniMotion
from networks.tracks import TrackingOptions
from preprocessing.sequence_paths import SequencePaths
from visualization.tracking import track_points

VALIDATION_POINTS = 60  # evenly picked; enough to show the trend during training
GAPS = ((1, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 10**9))  # frames from the query, both ends included
MODEL = "OmniMotion"  # the model's name among the trackers


@dataclass(frozen=True)
class Scores:
    """A tracker's metrics on one video, overall and in parts, and its predictions (None for keypoints)."""

    row: Row
    by_gap: dict[str, Row] = field(default_factory=dict)
    by_group: dict[str, Row] = field(default_factory=dict)  # group of queries → its metrics
    predictions: TrackPredictions | None = None


def model_tracker(model: OmniMotion, tracking: TrackingOptions) -> Tracker:
    """Return the model as a tracker."""
    height, width = model.config.height, model.config.width

    def track(query_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not len(query_points):
            return np.zeros((0, model.config.num_frames, 2), np.float32), np.zeros((0, model.config.num_frames), bool)
        tracks = track_points(model, query_points, None, tracking)
        occluded = tracks.occluded(tracking.occlusion_th, height, width)
        return tracks.px.transpose(0, 1).cpu().numpy(), occluded.T.cpu().numpy()

    return track


def trackers_of(
    model: OmniMotion, paths: SequencePaths, names: list[str], uses_flow: bool, tracking: TrackingOptions
) -> dict[str, Tracker]:
    """Return the trackers to compare, by name: two baselines if the model was trained on flow, then the model."""
    trackers: dict[str, Tracker] = {}
    if uses_flow:
        store = FlowStore(paths, names, prefer_chained=False)
        size = model.config.height, model.config.width
        trackers = {"direct flow": DirectFlowTracker(store, *size), "chained flow": ChainedFlowTracker(store, *size)}
    return trackers | {MODEL: model_tracker(model, tracking)}


def score(track: Tracker, truth: Truth, query_mode: QueryMode = "strided") -> Scores:
    """Run a tracker on the truth's queries and score its predictions."""
    if isinstance(truth, KeypointTruth):
        return Scores(_keypoint_row(track, truth))
    predictions = run_tracker(track, truth.points, truth.occluded, truth.size, query_mode)
    distance = np.abs(predictions.frame_gaps)
    by_gap = {}
    for low, high in GAPS:
        high = min(high, truth.num_frames - 1)
        if low <= high:
            by_gap[f"gap {low}-{high}"] = _tap_vid_row(predictions, truth.exact, (distance >= low) & (distance <= high))
    row = _tap_vid_row(predictions, truth.exact) | _error_row(predictions, truth.exact)
    return Scores(row, by_gap, predictions=predictions)


def score_groups(predictions: TrackPredictions, groups: Groups, exact: bool) -> dict[str, Row]:
    """Return the number of queries and the metrics of each group.

    Args:
        predictions: Predictions for Q queries in T frames.
        groups: Which of the queries belong to each group.
        exact: Whether true positions are known where points are occluded, too.
    """
    return {
        name: {"queries": int(chosen.sum())} | _tap_vid_row(predictions, exact, chosen[:, None])
        for name, chosen in groups.items()
    }


def score_model(model: OmniMotion, truth: TrackTruth, tracking: TrackingOptions) -> dict[str, float]:
    """Return `AJ`, `d_avg` and `OA` (0..1) on a subset of the tracks, fast enough to run during training."""
    step = max(1, len(truth.points) // VALIDATION_POINTS)
    subset = replace(truth, points=truth.points[::step], occluded=truth.occluded[::step])
    metrics = tap_vid_metrics(run_tracker(model_tracker(model, tracking), subset.points, subset.occluded, subset.size))
    return {"AJ": metrics.aj, "d_avg": metrics.d_avg, "OA": metrics.oa}


def comparison(
    model: OmniMotion,
    paths: SequencePaths,
    names: list[str],
    truth: TrackTruth,
    uses_flow: bool,
    tracking: TrackingOptions,
) -> str:
    """Score the model and its flow on strided queries of all tracks; return the table with its title."""
    trackers = trackers_of(model, paths, names, uses_flow, tracking)
    return f"{title(truth)}\n{format_table({name: score(track, truth).row for name, track in trackers.items()})}"


def title(truth: Truth, query_mode: QueryMode = "strided") -> str:
    """Return a line that explains the columns of a table of scores."""
    if isinstance(truth, KeypointTruth):
        return "BADJA: fraction of the keypoints within 0.2 sqrt(mask area), and within 3 px of the clip's frames"
    scores = f"TAP-Vid scores and TC at 256x256, {query_mode} queries"
    errors = "px: errors in the video's pixels, median and 90th percentile"
    if truth.exact:
        return f"{scores}; {errors}, occluded: inside the image"
    return f"{scores}; occl. found, visible lost: labels predicted occluded, of the occluded, of the visible; {errors}"


def _tap_vid_row(predictions: TrackPredictions, exact: bool, where: np.ndarray | None = None) -> Row:
    metrics, occlusion = tap_vid_metrics(predictions, where), occlusion_metrics(predictions, where)
    row = {"AJ": metrics.aj, "<d_avg": metrics.d_avg, "OA": metrics.oa}
    # Exact tracks have errors where occluded instead.
    return row if exact else row | {"occl. found": occlusion.occluded_found, "visible lost": occlusion.visible_lost}


def _error_row(predictions: TrackPredictions, exact: bool) -> Row:
    visible, occluded = position_errors(predictions)
    row = {"TC": temporal_coherence(predictions), "px visible": visible.p50, "visible 90%": visible.p90}
    return row | ({"px occluded": occluded.p50, "occluded 90%": occluded.p90} if exact else {})


def _keypoint_row(track: Tracker, truth: KeypointTruth) -> Row:
    """Query the keypoints that are visible in the first annotated frame, and score them in the others."""
    queried = truth.visible[:, 0]
    start = np.full((queried.sum(), 1), truth.frames[0])
    tracks, _ = track(np.concatenate([start, truth.points[queried, 0]], 1).astype(np.float32))
    metrics = badja_metrics(tracks[:, truth.frames], truth.points[queried], truth.visible[queried], truth.areas)
    return {"0.2 area": metrics.within_area, "3 px": metrics.within_3px}
