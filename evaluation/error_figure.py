"""A figure of track errors by query, by frame gap, and by foreground or background."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from evaluation.queries import TrackPredictions, is_outside_image
from utils.figures import figure_image

SHOWN_FRAMES = 3  # query frames; the points of more would be too small
MIN_ERROR, MAX_ERROR = 0.25, 64.0  # pixels: from imperceptible to lost
Masks = dict[str, NDArray[np.bool_]]  # layer → which queries lie on it, [Q]


def error_figure(
    video: NDArray[np.uint8], predictions: Mapping[str, TrackPredictions], on_foreground: NDArray[np.bool_] | None
) -> NDArray[np.uint8]:
    """Draw the last tracker's queries, coloured by mean error, above the median errors of all trackers by frame gap.

    Args:
        video: Frames [T,H,W,3].
        predictions: Predictions of the trackers to compare, for the same Q queries.
        on_foreground: Which of the queries lie on the foreground, [Q]; None draws all as one layer.

    Returns:
        uint8 [h,w,3]. Above: query frames with a dot for each query, its error over visible frames. Below: errors in
        visible frames to the left, in frames where the point is occluded inside the image to the right.
    """
    figure = Figure(figsize=(15, 9), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False)[:, 0]
    _draw_queries(above, video, *list(predictions.items())[-1])
    layers = {"all": np.ones(len(next(iter(predictions.values())).query_frames), bool)}
    if on_foreground is not None:
        layers = {"foreground": on_foreground, "background": ~on_foreground}
    panels = below.subplots(1, 2)
    for axes, occluded in zip(panels, (False, True), strict=True):
        _draw_errors_by_gap(axes, predictions, layers, occluded)
    lines = panels[0].get_legend_handles_labels()
    # Outside the panels, so that it covers no curves.
    below.legend(*lines, loc="outside lower center", ncols=len(predictions) * len(layers))
    return figure_image(figure)


def _draw_queries(figure: SubFigure, video: NDArray[np.uint8], name: str, predictions: TrackPredictions) -> None:
    frames, scale = np.unique(predictions.query_frames), LogNorm(MIN_ERROR, MAX_ERROR)
    chosen = np.unique(np.linspace(0, max(len(frames) - 1, 0), SHOWN_FRAMES).round().astype(int))
    shown = [int(frames[k]) for k in chosen if k < len(frames)]
    counted = predictions.evaluated & ~predictions.gt_occluded
    error = np.where(counted, _distance(predictions), 0).sum(1) / np.maximum(counted.sum(1), 1)
    panels = figure.subplots(1, max(len(shown), 1), squeeze=False)[0]
    for axes, t in zip(panels, shown, strict=False):
        rows = (predictions.query_frames == t) & counted.any(1)
        axes.imshow(video[t], alpha=0.5)
        x, y = predictions.gt_tracks[rows, t].T
        dots = axes.scatter(x, y, 16, np.maximum(error[rows], MIN_ERROR), norm=scale, cmap="turbo")
        axes.set_title(f"{name}: queries of frame {t}")
        axes.set_axis_off()
    if shown:
        figure.colorbar(dots, ax=list(panels), label="mean error where visible, px")


def _draw_errors_by_gap(axes: Axes, predictions: Mapping[str, TrackPredictions], layers: Masks, occluded: bool) -> None:
    for number, (name, each) in enumerate(predictions.items()):
        counted = each.evaluated & (each.gt_occluded == occluded) & ~is_outside_image(each.gt_tracks, each.size)
        gaps, distance = np.abs(each.frame_gaps), _distance(each)
        for layer, style in zip(layers, ("-", "--"), strict=False):
            chosen = counted & layers[layer][:, None]
            present = np.unique(gaps[chosen])
            medians = [np.median(distance[chosen & (gaps == gap)]) for gap in present]
            axes.plot(present, medians, style, color=f"C{number}", label=f"{name}, {layer}")
    axes.set_yscale("log")
    axes.set_xlabel("frames from the query")
    axes.set_title(f"median error where {'occluded inside the image' if occluded else 'visible'}, px")
    axes.grid(alpha=0.3)


def _distance(predictions: TrackPredictions) -> NDArray:
    """Return the errors in pixels of the video, [Q,T]."""
    return np.linalg.norm(predictions.pred_tracks - predictions.gt_tracks, axis=-1)
