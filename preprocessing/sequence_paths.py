"""Where the files of a sequence lie on disk: the released layout, so that published data can be read as they are."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SequencePaths:
    """Paths inside one sequence folder. `a`, `b`, `name` are frame file names with extension (`00000.jpg`)."""

    root: Path

    @property
    def color(self) -> Path:
        """Folder of the RGB frames."""
        return self.root / "color"

    @property
    def mask(self) -> Path:
        """Folder of optional foreground masks, one for each frame."""
        return self.root / "mask"

    @property
    def gt_tracks(self) -> Path:
        """Exact tracks, where known: `points` [N,T,2] (x, y) pixels, `occluded` [N,T]."""
        return self.root / "gt_tracks.npz"

    @property
    def flow_stats(self) -> Path:
        """JSON {a: {b: number of valid correspondences}}."""
        return self.root / "flow_stats.json"

    def flow(self, a: str, b: str) -> Path:
        """Flow from frame `a` to frame `b`, packed (`preprocessing.flow_files`)."""
        return self.root / "raft_exhaustive" / f"{a}_{b}.flow"

    def released_flow(self, a: str, b: str) -> Path:
        """The same in published data: [H,W,2] (dx, dy) pixels, float32 or float16."""
        return self.root / "raft_exhaustive" / f"{a}_{b}.npy"

    def flow_mask(self, a: str, b: str) -> Path:
        """RGB png of the flow a→b: R = 255 where cycle-consistent, G = 255 where rescued as occluded, B = 0."""
        return self.root / "raft_masks" / f"{a}_{b}.png"

    def feature(self, kind: str, name: str) -> Path:
        """Dense features of a frame, [h,w,C]."""
        return self.root / "features" / kind / f"{name}.npy"

    def count_map(self, name: str) -> Path:
        """16-bit png [H,W]: in how many pairs each pixel of the frame is valid."""
        return self.root / "count_maps" / f"{Path(name).stem}.png"

    @property
    def manifest(self) -> Path:
        """JSON: with which settings, versions and frames the products were made; published sequences have none."""
        return self.root / "preprocess.json"

    def training_flow(self, key: str) -> Path:
        """The valid flow of all pairs in one file (`loaders.mapped_flow`), of the products that `key` stands for."""
        return self.root / "training_flow" / f"{key}.bin"

    @property
    def chained(self) -> "SequencePaths":
        """The products of chaining, laid out like the folder itself; the raw flow is never overwritten."""
        return SequencePaths(self.root / "chained")
