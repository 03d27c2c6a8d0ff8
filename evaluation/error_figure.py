"""Where tracks go wrong, as one picture: which queries, at which distance from them, on which layer."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluation.queries import TrackPredictions, is_outside_image
from utils.figures import figure_image

SHOWN_FRAMES = 3  # query frames: more would be too small to see the points
SCALE = LogNorm(0.25, 64)  # pixels: from what no one sees to what is lost


def error_figure(
    video: NDArray[np.uint8], answers: dict[str, TrackPredictions], on_foreground: NDArray[np.bool_] | None
) -> NDArray[np.uint8]:
    """The last tracker's queries coloured by mean error, over all trackers' median error by distance from the query.

    Args:
        video: [T,H,W,3].
        answers: of the trackers to compare, to the same Q queries.
        on_foreground: which of the queries lie on the foreground mask, [Q]; None draws them as one layer.
    Returns:
        uint8 [h,w,3]. Above: query frames, a dot for each query, its error over visible frames. Below: visible frames
        to the left, hidden ones inside the image to the right.
    """
    figure = Figure(figsize=(15, 9), layout="constrained")
    above, below = figure.subfigures(2, 1)
    _draw_queries(above, video, *list(answers.items())[-1])
    layers = {"all": np.ones(len(next(iter(answers.values())).query_frames), bool)}
    if on_foreground is not None:
        layers = {"foreground": on_foreground, "background": ~on_foreground}
    panels = below.subplots(1, 2)
    for axes, hidden in zip(panels, (False, True), strict=True):
        _draw_gaps(axes, answers, layers, hidden)
    lines = panels[0].get_legend_handles_labels()
    below.legend(*lines, loc="outside lower center", ncols=len(answers) * len(layers))  # inside it would hide some
    return figure_image(figure)


def _draw_queries(figure: Figure, video: NDArray[np.uint8], name: str, answers: TrackPredictions) -> None:
    frames = np.unique(answers.query_frames)
    shown = frames[np.unique(np.linspace(0, len(frames) - 1, SHOWN_FRAMES).round().astype(int))] if len(frames) else []
    counted = answers.evaluated & ~answers.gt_occluded
    error = np.where(counted, _distance(answers), 0).sum(1) / np.maximum(counted.sum(1), 1)
    panels = figure.subplots(1, max(len(shown), 1), squeeze=False)[0]
    for axes, t in zip(panels, shown, strict=False):
        rows = (answers.query_frames == t) & counted.any(1)
        axes.imshow(video[t], alpha=0.5)
        x, y = answers.gt_tracks[rows, t].T
        dots = axes.scatter(x, y, 16, np.maximum(error[rows], SCALE.vmin), norm=SCALE, cmap="turbo")
        axes.set_title(f"{name}: queries of frame {t}")
        axes.set_axis_off()
    if len(shown):
        figure.colorbar(dots, ax=list(panels), label="mean error where visible, px")


def _draw_gaps(axes: Axes, answers: dict[str, TrackPredictions], layers: dict[str, NDArray], hidden: bool) -> None:
    for number, (name, each) in enumerate(answers.items()):
        counted = each.evaluated & (each.gt_occluded == hidden) & ~is_outside_image(each.gt_tracks, each.size)
        gaps, distance = np.abs(each.gaps), _distance(each)
        for layer, style in zip(layers, ("-", "--"), strict=False):
            chosen = counted & layers[layer][:, None]
            known = np.unique(gaps[chosen])
            medians = [np.median(distance[chosen & (gaps == gap)]) for gap in known]
            axes.plot(known, medians, style, color=f"C{number}", label=f"{name}, {layer}")
    axes.set_yscale("log")
    axes.set_xlabel("frames from the query")
    axes.set_title(f"median error where {'hidden inside the image' if hidden else 'visible'}, px")
    axes.grid(alpha=0.3)


def _distance(answers: TrackPredictions) -> NDArray:
    """Error in pixels of the video, [Q,T]."""
    return np.linalg.norm(answers.pred_tracks - answers.gt_tracks, axis=-1)
