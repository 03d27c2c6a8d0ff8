"""Data of a training: flow, tracks or both, with the depth prior and the error maps that guide sampling."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from loaders.batches import Batch, MixedBatches, PairBatches, SamplingConfig
from loaders.clip import Clip
from loaders.depth_prior import estimate_depth_prior, independent_motion_probability
from loaders.device_batches import DeviceFlowBatches
from loaders.error_maps import error_map_path, load_error_maps, save_error_maps
from loaders.flow_batches import FlowBatches
from loaders.flow_store import FlowStore
from loaders.mapped_flow import MappedFlowStore
from loaders.track_batches import TrackBatches
from loaders.track_file import InputTracks
from networks.omnimotion import OmniMotion
from networks.tracks import TrackingOptions
from preprocessing import pipeline
from preprocessing.settings import Settings
from utils.coords import pixel_grid
from utils.distributed import SINGLE_PROCESS, Context


@dataclass(frozen=True)
class DataConfig:
    """How batches are made; fields are named as the flags are."""

    sampling: SamplingConfig
    dataset_weights: list[float] = field(default_factory=lambda: [1.0])
    draw_on_device: bool = False
    use_error_map: bool = False
    i_cache: int = 20000  # steps between two sets of error maps
    tracking: TrackingOptions = field(default_factory=TrackingOptions)  # of error maps


class TrainingData:
    """The input of a training run, from which the dataset of any step is made.

    Args:
        config: How batches are made.
        video: Frames uint8 [T,H,W,3].
        store: Flow products; None to train only on tracks.
        tracks: Input tracks; None to train only on flow.
        run_dir: Folder of the run, for its error maps.
        device: The training device.
        context: The processes that train together.
    """

    def __init__(
        self,
        config: DataConfig,
        video: np.ndarray,
        store: FlowStore | None,
        tracks: InputTracks | None,
        run_dir: Path,
        device: torch.device,
        context: Context = SINGLE_PROCESS,
    ):
        self.config, self.video, self.store, self.tracks = config, video, store, tracks
        self.run_dir, self.device, self.context = run_dir, device, context
        self._depth_prior: Tensor | None = None  # [T,H,W], 4 bytes for each pixel of the video

    def dataset(self, step: int, model: OmniMotion) -> PairBatches:
        """Return the batches from a step up to the step of the next error maps.

        Args:
            step: The first step.
            model: Source of the error maps, if they are due at this step.
        """
        error_maps = self._error_maps(step, model)
        moving = None
        if self.config.sampling.motion_share > 0 and error_maps is None:
            moving = map(independent_motion_probability, self.depth_prior().numpy(force=True))
        if self.config.draw_on_device:
            if not isinstance(self.store, MappedFlowStore):
                raise TypeError("draw_on_device needs a MappedFlowStore")
            return DeviceFlowBatches(
                self.video, self.store, self.config.sampling, error_maps, moving, device=self.device
            )
        parts: list[PairBatches] = []
        if self.store is not None:
            parts.append(FlowBatches(self.video, self.store, self.config.sampling, error_maps, moving))
        if self.tracks is not None:
            parts.append(TrackBatches(self.video, self.tracks, self.config.sampling))
        return parts[0] if len(parts) == 1 else MixedBatches(parts, self.config.dataset_weights)

    def next_error_maps(self, step: int) -> float:
        """Return the step after `step` at which error maps are made; infinite without error maps."""
        i_cache = self.config.i_cache
        return (step // i_cache + 1) * i_cache if self.config.use_error_map else float("inf")

    def depth_prior(self) -> Tensor:
        """Return the depth prior [T,H,W] on the device, NaN where unknown; it is cached until `drop_depth_prior`."""
        if self._depth_prior is None:
            if self.store is None:
                raise ValueError("the depth prior needs flow")
            depth = estimate_depth_prior(self.store, quiet=self.context.rank > 0)
            self._depth_prior = torch.from_numpy(depth).to(self.device)
        return self._depth_prior

    def depth_prior_at(self, batch: Batch) -> Tensor:
        """Return the depth prior [P,N] at the source points of a batch."""
        height, width = self.video.shape[1:3]
        x, y = batch.src_px.round().long().unbind(-1)
        frames = batch.src_ids.to(x.device).unsqueeze(-1)
        return self.depth_prior()[frames, y.clamp(0, height - 1), x.clamp(0, width - 1)]

    def drop_depth_prior(self) -> None:
        """Free the depth prior's memory."""
        self._depth_prior = None

    def _error_maps(self, step: int, model: OmniMotion) -> np.ndarray | None:
        """Return the error maps [T,H,W] to use at a step, made now if they are due; None before the first ones."""
        made_at = step // self.config.i_cache * self.config.i_cache
        if not self.config.use_error_map or made_at == 0:
            return None
        path = error_map_path(self.run_dir, made_at)

        def make() -> None:
            if self.store is None:
                raise ValueError("error maps need flow")
            if step == made_at or not path.exists():
                save_error_maps(path, flow_errors(model, self.video, self.store, self.config.tracking))

        self.context.on_rank0(make)
        return load_error_maps(path, self.video.shape[:3])


def flow_errors(model: OmniMotion, video: np.ndarray, store: FlowStore, tracking: TrackingOptions) -> np.ndarray:
    """Return |predicted − input flow| of every frame to its next one (the last: to its previous one).

    Errors are measured at every second pixel of every second row and repeated, since sampling blurs the maps anyway.

    Args:
        model: Model that predicts the flow.
        video: Frames uint8 [T,H,W,3].
        store: Input flow.
        tracking: How the model tracks; its occlusion threshold is unused.

    Returns:
        Errors [T,H,W] in pixels.
    """
    num_frames, (height, width) = len(video), video.shape[1:3]
    sparse = pixel_grid(height, width, model.device)[::2, ::2]
    px = sparse.reshape(-1, 2)
    errors = []
    for i in tqdm(range(num_frames), desc="error maps", leave=False):
        j = i + 1 if i + 1 < num_frames else i - 1
        tracks = model.map_points(i, px, [j], tracking.use_max_loc, tracking.chunk_size, with_occlusion=False)
        flow = torch.from_numpy(store.flow(i, j)[::2, ::2]).to(px).reshape(-1, 2)
        error = (tracks.px[0] - px - flow).norm(dim=-1).reshape(sparse.shape[:2])
        errors.append(error.repeat_interleave(2, 0).repeat_interleave(2, 1)[:height, :width].cpu().numpy())
    return np.stack(errors)


def open_store(
    clip: Clip,
    settings: Settings,
    device: torch.device,
    *,
    preprocess: str = "auto",
    redo: bool = False,
    use_count_map: bool = True,
    context: Context = SINGLE_PROCESS,
) -> MappedFlowStore:
    """Run the preprocessing that is missing, and open a clip's flow products.

    Args:
        clip: The prepared sequence.
        settings: What preprocessing makes, and how.
        device: Device that preprocesses.
        preprocess: `never` refuses missing products instead of making them.
        redo: Whether to remake products that were made with other settings.
        use_count_map: Whether to check now that the count maps are readable.
        context: The processes that share the preprocessing.

    Raises:
        InputError: Products are missing, unusable or made with other settings, or cannot be made.
    """
    if preprocess == "never":
        pipeline.require_complete(clip.paths, clip.names, settings)
    else:
        pipeline.preprocess(clip.paths, settings, device=device, num_frames=len(clip.names), redo=redo, context=context)

    def open_mapped() -> MappedFlowStore:
        store = MappedFlowStore(clip.paths, clip.names, prefer_chained=settings.chain)
        for i in range(len(clip.names) if use_count_map else 0):
            store.count_map(i)
        return store

    if context.size > 1:  # so that rank 0 has written the mapped file before the others open it
        context.on_rank0(open_mapped)
    return open_mapped()
