"""Random tracks, for the tests of every exported format."""

import numpy as np

from visualization.export_tracks import TrackTable

HEIGHT, WIDTH, FRAMES, POINTS = 20, 33, 5, 7


def random_table() -> TrackTable:
    """Return points in every second frame from 1001 on, some occluded, some outside the image."""
    rng = np.random.default_rng(0)
    tracks = rng.uniform(-2, [WIDTH + 1, HEIGHT + 1], (FRAMES, POINTS, 2)).astype(np.float32)
    queries = np.concatenate([rng.integers(0, FRAMES, (POINTS, 1)), rng.uniform(0, HEIGHT - 1, (POINTS, 2))], 1)
    return TrackTable(
        tracks,
        rng.random((FRAMES, POINTS)) < 0.6,
        rng.random((FRAMES, POINTS)).astype(np.float32),
        rng.uniform(0, 2, (FRAMES, POINTS)).astype(np.float32),
        queries.astype(np.float32),
        rng.integers(0, 256, (POINTS, 3), np.uint8),
        (HEIGHT, WIDTH),
        25.0,
        np.arange(1001, 1001 + 2 * FRAMES, 2),
        np.array([0.0, 0.04, 0.08, 0.2, 0.24]),
    )
