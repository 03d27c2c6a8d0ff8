"""How good the tracks of a model are against exact ones, and how much better than the flow it was trained on."""

from argparse import Namespace

import numpy as np
import torch
from tqdm import tqdm

from loaders.flow_store import FlowStore
from loaders.flow_tracker import FlowTracker
from networks.omnimotion import OmniMotion
from utils.config import uses_flow
from utils.paths import SequencePaths
from utils.tap_metrics import Tracker, evaluate_tracker, format_table, summarize_tracker

ExactTracks = tuple[np.ndarray, np.ndarray]  # points [N,T,2] pixels, occluded [N,T]
VALIDATION_POINTS = 60  # of those with exact tracks, evenly picked: enough to see the trend in training


def load_exact_tracks(paths: SequencePaths, num_frames: int) -> ExactTracks | None:
    """`gt_tracks.npz` of the sequence, cut to the frames in use; None where there is none."""
    if not paths.gt_tracks.exists():
        return None
    with np.load(paths.gt_tracks) as file:
        return file["points"][:, :num_frames], file["occluded"][:, :num_frames]


def model_tracker(model: OmniMotion, args: Namespace) -> Tracker:
    """The model as a tracker: query points [N,3] (t, x, y) → tracks [N,T,2] in pixels, occluded [N,T]."""
    height, width = model.config.height, model.config.width

    def track(query_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        px = np.zeros((len(query_points), model.config.num_frames, 2), np.float32)
        occluded = np.zeros(px.shape[:2], bool)
        query_frames = query_points[:, 0].astype(int)
        for frame in tqdm(np.unique(query_frames), desc="tracking queries", unit="frame", leave=False):
            rows = query_frames == frame
            queries = torch.from_numpy(query_points[rows, 1:]).float()
            tracks = model.track(int(frame), queries, args.use_max_loc, args.chunk_size)
            px[rows] = tracks.px.transpose(0, 1).cpu().numpy()
            occluded[rows] = tracks.occluded(args.occlusion_th, height, width).T.cpu().numpy()
        return px, occluded

    return track


def score_model(model: OmniMotion, exact: ExactTracks, args: Namespace) -> dict[str, float]:
    """`AJ`, `d_avg`, `OA` (0..1) on some of the exact tracks, quick enough to follow a running optimisation."""
    points, occluded = (values[:: max(1, len(values) // VALIDATION_POINTS)] for values in exact)
    height, width = model.config.height, model.config.width
    scores = evaluate_tracker(model_tracker(model, args), points, occluded, height, width)
    return {"AJ": scores.aj, "d_avg": scores.d_avg, "OA": scores.oa}


def compare_with_flow(
    model: OmniMotion, paths: SequencePaths, names: list[str], exact: ExactTracks, args: Namespace
) -> dict[str, dict[str, float]]:
    """Scores of the model and of its raw flow, if it has any, on all exact tracks: rows of `format_table`."""
    height, width = model.config.height, model.config.width
    trackers: dict[str, Tracker] = {}
    if uses_flow(args):
        trackers["raw flow"] = FlowTracker(FlowStore(paths, names, prefer_chained=False), height, width)
    trackers["OmniMotion"] = model_tracker(model, args)
    return {name: summarize_tracker(track, *exact, height, width) for name, track in trackers.items()}


def comparison_text(rows: dict[str, dict[str, float]]) -> str:
    """The rows as a table under a line that says what the columns are."""
    title = "TAP-Vid scores at 256x256, strided queries; px: median error in pixels of the video, occluded: inside it"
    return f"{title}\n{format_table(rows)}"
