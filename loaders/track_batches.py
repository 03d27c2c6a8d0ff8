"""Batches of points from input tracks, visible in both frames of a pair."""

import numpy as np
import torch

from loaders.batches import Correspondences, PairBatches, SamplingConfig
from loaders.pair_sampling import choose_pixels, pair_weight, partner_probabilities
from loaders.track_file import InputTracks


class TrackBatches(PairBatches):
    """Batches of points of `tracks` visible in both frames of a pair.

    Args:
        video: Frames uint8 [T,H,W,3].
        tracks: Tracks of the same clip.
        config: How batches are drawn.
    """

    def __init__(self, video: np.ndarray, tracks: InputTracks, config: SamplingConfig):
        super().__init__(video, config)
        self.tracks = tracks
        visible = tracks.visible.astype(np.float32)
        self.visible_counts = visible @ visible.T  # [T,T] points visible in both frames

    def draw_correspondences(self, i: int, max_gap: int, rng: np.random.Generator) -> Correspondences:
        """Draw points visible in frame i and a partner with equal probability.

        If frame i shares no visible point with a possible partner, draw random pixels with weight 0: they still train
        the colours.
        """
        px, visible, num_pts = self.tracks.px, self.tracks.visible, self.config.num_pts
        p = partner_probabilities(i, self.visible_counts, max_gap)
        shared = np.where(self.visible_counts[i] > 0, p, 0)  # adjacent frames have weight even if they share no track
        j = int(rng.choice(len(px), p=shared / shared.sum() if shared.any() else p))
        if not shared.any():
            height, width = self.video.shape[1:3]
            random_px = torch.from_numpy(rng.uniform(0, [width - 1, height - 1], (num_pts, 2)).astype(np.float32))
            no_weight = torch.zeros(num_pts)
            return Correspondences(j, random_px, random_px, no_weight, no_weight)
        both = visible[i] & visible[j]
        index = choose_pixels(both, np.ones(len(both)), num_pts, rng)
        weights = torch.full((num_pts,), pair_weight(abs(i - j), max_gap))
        return Correspondences(j, torch.from_numpy(px[i, index]), torch.from_numpy(px[j, index]), weights, weights)
