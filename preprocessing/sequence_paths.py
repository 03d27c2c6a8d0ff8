"""Paths of the files of a sequence, in the released layout, so that published data can be read."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SequencePaths:
    """Paths inside one sequence folder; `a`, `b` and `name` are file names of frames (`00000.jpg`).

    Args:
        root: The sequence folder.
    """

    root: Path

    @property
    def color(self) -> Path:
        """The folder of the RGB frames."""
        return self.root / "color"

    @property
    def mask(self) -> Path:
        """The folder of foreground masks, optional, named after their frames."""
        return self.root / "mask"

    @property
    def gt_tracks(self) -> Path:
        """Exact tracks, if known: `points` [N,T,2] (x, y) pixels, `occluded` [N,T]."""
        return self.root / "gt_tracks.npz"

    @property
    def flow_stats(self) -> Path:
        """JSON {a: {b: number of valid correspondences}}."""
        return self.root / "flow_stats.json"

    def flow(self, a: str, b: str) -> Path:
        """Return the path of the flow from frame `a` to frame `b`, packed (`preprocessing.flow_files`)."""
        return self.root / "raft_exhaustive" / f"{a}_{b}.flow"

    def released_flow(self, a: str, b: str) -> Path:
        """Return the path of the same flow in published data: [H,W,2] (dx, dy) pixels, float32 or float16."""
        return self.root / "raft_exhaustive" / f"{a}_{b}.npy"

    def flow_mask(self, a: str, b: str) -> Path:
        """Return the path of the flow's mask, a png: R = 255 if cycle-consistent, G = 255 if rescued as occluded."""
        return self.root / "raft_masks" / f"{a}_{b}.png"

    def feature(self, kind: str, name: str) -> Path:
        """Return the path of a frame's dense features, [h,w,C]."""
        return self.root / "features" / kind / f"{name}.npy"

    def count_map(self, name: str) -> Path:
        """Return the path of a frame's count map, a 16-bit png [H,W]: in how many pairs each pixel is valid."""
        return self.root / "count_maps" / f"{Path(name).stem}.png"

    @property
    def manifest(self) -> Path:
        """JSON of the settings, versions and frames that the products were made with; published sequences have none."""
        return self.root / "preprocess.json"

    def training_flow(self, key: str) -> Path:
        """Return the path of the valid flow of all pairs (`loaders.mapped_flow`); `key` identifies the products."""
        return self.root / "training_flow" / f"{key}.bin"

    @property
    def chained(self) -> "SequencePaths":
        """The products of chaining, laid out like the folder itself; the raw flow is never overwritten."""
        return SequencePaths(self.root / "chained")
