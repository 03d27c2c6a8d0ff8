"""What TAP-Vid's scores leave out: how smooth tracks are, and how far off, in pixels, where visible and where hidden.

A figure over no entries at all is NaN.
"""

from dataclasses import dataclass

import numpy as np

from utils.queries import Answers, outside_image


@dataclass(frozen=True)
class ErrorSummary:
    """Median and 90th percentile (linear between ranks) of distances in pixels of the video."""

    p50: float
    p90: float

    @classmethod
    def of(cls, distances: np.ndarray) -> "ErrorSummary":
        """Summary of the distances [M]."""
        return cls(*map(float, np.percentile(distances, (50, 90)))) if distances.size else cls(np.nan, np.nan)


def position_errors(answers: Answers) -> tuple[ErrorSummary, ErrorSummary]:
    """Distances from predicted to true positions, whatever was predicted of their visibility.

    Returns: over evaluated entries that are visible, and over those that are hidden but inside the image, which only
    exact tracks know (TAP-Vid's annotated ones hold no position there).
    """
    distance = np.linalg.norm(np.asarray(answers.pred_tracks, np.float64) - answers.gt_tracks, axis=-1)
    inside = ~outside_image(answers.gt_tracks, answers.size)
    visible = answers.evaluated & ~answers.gt_occluded
    hidden = answers.evaluated & answers.gt_occluded & inside
    return ErrorSummary.of(distance[visible]), ErrorSummary.of(distance[hidden])


def temporal_coherence(answers: Answers) -> float:
    """The paper's TC: mean ‖a_pred − a_true‖₂ with acceleration a_t = x_{t+1} − 2·x_t + x_{t−1}; low is good.

    Over the triples t−1, t, t+1 that are visible in the truth at all three; each frame is evaluated or the query's.
    In pixels of the 256x256 raster: the paper names no unit, and this is the one of its other figures.
    """
    # Acceleration is linear: the difference of the two is that of the error.
    difference = np.diff(answers.raster_error, n=2, axis=1)
    seen = ~answers.gt_occluded & (answers.evaluated | (answers.gaps == 0))
    triples = seen[:, :-2] & seen[:, 1:-1] & seen[:, 2:]
    lengths = np.linalg.norm(difference, axis=-1)[triples]
    return float(lengths.mean()) if lengths.size else float("nan")
