"""Groups of queries that are scored apart: on the foreground or the background, moving or static, small or large."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from evaluation.queries import TrackPredictions
from loaders.clip_masks import ClipMasks
from loaders.depth_prior import estimate_depth_prior, independent_motion_probability
from loaders.flow_store import FlowStore
from preprocessing.sequence_paths import SequencePaths
from utils.errors import InputError
from utils.masks import describe_rules

# Of the foreground's area, in shares of the frame. Nine DAVIS clips with 708 foreground queries have about a third of
# them below the first bound and an eighth above the second.
SMALL_AREA, LARGE_AREA = 0.03, 0.1
MOVING_PROBABILITY = 0.5  # from which on a query counts as moving

Groups = Mapping[str, NDArray[np.bool_]]  # name → which queries belong to it, [Q]


def query_groups(
    paths: SequencePaths, names: list[str], masks: ClipMasks, predictions: TrackPredictions, uses_flow: bool
) -> Groups:
    """Group queries by the masks of their frames, or by independent motion if a query frame has no usable mask.

    Args:
        paths: The sequence folder.
        names: File names of the clip's frames.
        masks: The masks of the clip's frames.
        predictions: Predictions of any tracker for the queries.
        uses_flow: Whether the clip's flow may be read; without masks and flow there are no groups.

    Returns:
        `foreground`, `background`, and parts of the foreground by the area of the mask in the query frame; or
        `moving` and `static`. Groups without queries are left out.
    """
    foreground = _query_foreground(names, masks, predictions)
    groups: Groups = {}
    if foreground is not None:
        groups = _groups_by_mask(foreground, predictions)
    elif uses_flow and len(predictions.query_frames):
        groups = _groups_by_motion(FlowStore(paths, names, prefer_chained=False), predictions)
    return {name: chosen for name, chosen in groups.items() if chosen.any()}


def _query_foreground(
    names: list[str], masks: ClipMasks, predictions: TrackPredictions
) -> dict[int, NDArray[np.bool_]] | None:
    """Return the foreground [H,W] of each query frame and print its rule; None unless every one has a usable mask."""
    frames = np.unique(predictions.query_frames).tolist()
    try:
        found = {t: masks.read(names[t], predictions.size) for t in frames}
    except InputError as error:  # no mask, or an empty one
        if masks.files:
            print(f"masks make no groups of queries: {error}")
        return None
    if found:
        print(f"groups of queries by {len(found)} masks: {describe_rules(found.values())}")
    return {t: mask.foreground for t, mask in found.items()}


def _groups_by_mask(masks: Mapping[int, NDArray[np.bool_]], predictions: TrackPredictions) -> Groups:
    foreground = _values_at_queries(masks, predictions).astype(bool)
    area = np.array([masks[t].mean() for t in predictions.query_frames.tolist()])
    small, large = area < SMALL_AREA, area > LARGE_AREA
    return {
        "foreground": foreground,
        "background": ~foreground,
        f"foreground < {SMALL_AREA:.0%}": foreground & small,
        f"foreground {SMALL_AREA:.0%} to {LARGE_AREA:.0%}": foreground & ~small & ~large,
        f"foreground > {LARGE_AREA:.0%}": foreground & large,
    }


def _groups_by_motion(store: FlowStore, predictions: TrackPredictions) -> Groups:
    probability = independent_motion_probability(estimate_depth_prior(store))
    moving = _values_at_queries(probability, predictions) > MOVING_PROBABILITY
    return {"moving": moving, "static": ~moving}


def _values_at_queries(maps: Mapping[int, np.ndarray] | np.ndarray, predictions: TrackPredictions) -> np.ndarray:
    """Return the values [Q] of maps [H,W] of the query frames at the queries' nearest pixels."""
    rows, frames = np.arange(len(predictions.query_frames)), predictions.query_frames
    last = np.array(predictions.size[::-1]) - 1
    px = np.round(predictions.gt_tracks[rows, frames]).astype(int).clip(0, last)
    return np.array([maps[t][y, x] for t, (x, y) in zip(frames.tolist(), px.tolist(), strict=True)])
