"""Track query points through a model, with a progress bar."""

from collections.abc import Sequence

import torch
from numpy.typing import NDArray
from tqdm import tqdm

from networks.omnimotion import OmniMotion
from networks.tracks import TrackingOptions, Tracks

MAX_POINTS = 1000  # between two updates of the progress bar


def track_points(
    model: OmniMotion, queries: NDArray, frame_ids: Sequence[int] | None, options: TrackingOptions
) -> Tracks:
    """Track query points [N,3] (t, x, y) into frames (None: all of them).

    In its query's frame, a point lies exactly at the query and is visible.

    Raises:
        InputError: Queries that are not finite, or frames outside the clip.
    """
    pieces = torch.from_numpy(queries).split(min(MAX_POINTS, model.rays_at_once(options.chunk_size)))
    return Tracks.joined(
        [
            model.track(piece, frame_ids, options.use_max_loc, options.chunk_size)
            for piece in tqdm(pieces, "tracking points", leave=False)
        ]
    )
