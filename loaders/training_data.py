"""What a step is drawn from: batches of flow, tracks or both, guided by where the model is still wrong."""

from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from loaders.batches import FlowBatches, MixedBatches, PairBatches, SamplingConfig, TrackBatches
from loaders.clip import Clip
from loaders.device_batches import DeviceFlowBatches
from loaders.error_maps import error_map_path, load_error_maps, save_error_maps
from loaders.flow_store import FlowStore
from loaders.mapped_flow import MappedFlowStore
from loaders.track_file import InputTracks
from networks.omnimotion import OmniMotion
from preprocessing.main_processing import preprocess, require_complete
from preprocessing.manifest import Settings
from utils.coords import pixel_grid
from utils.distributed import SINGLE_PROCESS, Context


def sampling_config(args: Namespace, context: Context) -> SamplingConfig:
    """How the flags want batches drawn, by this process."""
    return SamplingConfig(
        num_pairs=args.num_pairs,
        num_pts=args.num_pts,
        start_interval=args.start_interval,
        use_count_map=args.use_count_map,
        seed=args.loader_seed,
        schedule_scale=args.schedule_scale,
        neighbour_weight=args.neighbour_weight,
        pair_exponent=args.pair_exponent,
        motion_share=args.motion_share,
        rank=context.rank,
        world_size=context.size,
    )


def make_dataset(
    args: Namespace,
    sampling: SamplingConfig,
    video: np.ndarray,
    store: FlowStore | None,
    tracks: InputTracks | None,
    error_maps: np.ndarray | None,
    own: Iterable[np.ndarray] | None,
    device: torch.device,
) -> PairBatches:
    """The batches of flow, tracks or both, whichever is there; `error_maps` and `own` as of `FlowBatches`."""
    if args.draw_on_device:
        return DeviceFlowBatches(video, store, sampling, error_maps, own, device=device)
    parts: list[PairBatches] = []
    if store is not None:
        parts.append(FlowBatches(video, store, sampling, error_maps, own))
    if tracks is not None:
        parts.append(TrackBatches(video, tracks, sampling))
    return parts[0] if len(parts) == 1 else MixedBatches(parts, args.dataset_weights)


def error_maps_at(
    step: int, args: Namespace, model: OmniMotion, video: np.ndarray, store: FlowStore, run_dir: Path, context: Context
) -> np.ndarray | None:
    """The error maps in force at a step, made now if it is theirs: none before the first `i_cache` steps."""
    made_at = step // args.i_cache * args.i_cache
    if not args.use_error_map or made_at == 0:
        return None
    path = error_map_path(run_dir, made_at)

    def make() -> None:
        if step == made_at or not path.exists():
            save_error_maps(path, flow_errors(model, video, store, args))

    context.on_rank0(make)
    return load_error_maps(path, video.shape[:3])


def flow_errors(model: OmniMotion, video: np.ndarray, store: FlowStore, args: Namespace) -> np.ndarray:
    """|predicted − input flow| in pixels, [T,H,W], of every frame to its next (the last: to its previous).

    Measured at every second pixel of every second row and repeated: sampling blurs the maps over 5x5 pixels anyway.
    """
    num_frames, (height, width) = len(video), video.shape[1:3]
    sparse = pixel_grid(height, width, model.device)[::2, ::2]
    px = sparse.reshape(-1, 2)
    errors = []
    for i in tqdm(range(num_frames), desc="error maps", leave=False):
        j = i + 1 if i + 1 < num_frames else i - 1
        tracks = model.map_points(i, px, [j], args.use_max_loc, args.chunk_size, with_occlusion=False)
        flow = torch.from_numpy(store.flow(i, j)[::2, ::2]).to(px).reshape(-1, 2)
        error = (tracks.px[0] - px - flow).norm(dim=-1).reshape(sparse.shape[:2])
        errors.append(error.repeat_interleave(2, 0).repeat_interleave(2, 1)[:height, :width].cpu().numpy())
    return np.stack(errors)


def ensure_flow(args: Namespace, clip: Clip, device: torch.device, context: Context = SINGLE_PROCESS) -> None:
    """Do what preprocessing is missing, or refuse (`--preprocess never`)."""
    settings = Settings.of(args)
    if args.preprocess == "never":
        require_complete(clip.paths, clip.names, settings)
        return
    preprocess(clip.paths, settings, device=device, num_frames=len(clip.names), redo=args.redo, context=context)


def open_store(args: Namespace, clip: Clip, device: torch.device, context: Context = SINGLE_PROCESS) -> FlowStore:
    """The clip's flow products, made where they are missing (by all processes), its file for training by the first.

    Raises:
        InputError: what `ensure_flow` and the stores raise.
    """
    ensure_flow(args, clip, device, context)

    def opened() -> FlowStore:
        store = (MappedFlowStore if args.map_flow else FlowStore)(clip.paths, clip.names, prefer_chained=args.chain)
        for i in range(len(clip.names) if args.use_count_map else 0):
            store.count_map(i)  # unusable ones are found before the run's folder is touched
        return store

    if context.size > 1:
        context.on_rank0(opened)
    return opened()
