"""Tracks of any tracker, stored in a file, as the answers to a benchmark's queries."""

from pathlib import Path

import numpy as np

from evaluation.queries import Tracker
from loaders.track_file import read_tracks
from utils.conventions import Size, raster_from_px
from utils.errors import InputError

# In its query's frame a track is at the query, or for trackers that also predict that frame, near it: further off at
# the median (pixels of the 256x256 raster), the tracks are in another order or of another size.
FARTHEST_START = 16.0


def stored_tracker(path: Path, num_frames: int, size: Size) -> Tracker:
    """The file's N tracks (layouts: `loaders.track_file`) answer N queries in order; `size` (height, width) of frames.

    Raises:
        InputError: an unusable file; when asked: another number of queries, or tracks that do not start at them.
    """
    stored = read_tracks(path, num_frames, *size, to_score=True)

    def track(query_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tracks = stored.px.swapaxes(0, 1)
        if len(tracks) != len(query_points):
            raise InputError(
                f"{path} holds {len(tracks)} tracks, but there are {len(query_points)} queries: save one track "
                "for each query, in their order, and check --query_mode"
            )
        starts = tracks[np.arange(len(tracks)), query_points[:, 0].astype(int)]
        offset = raster_from_px(starts, size) - raster_from_px(query_points[:, 1:], size)
        if len(tracks) and not np.median(np.linalg.norm(offset, axis=-1)) <= FARTHEST_START:
            raise InputError(
                f"{path}: in the queries' frames half of the tracks are far from the queries: store them in the order "
                "of the queries, in pixels of the truth's frames"
            )
        return tracks, ~stored.visible.T

    return track
