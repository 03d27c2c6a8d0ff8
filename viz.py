"""Look at a trained model: `python viz.py --config configs/default.txt --data_dir DIR [--query_frame_id 0]`.

Writes into `<run folder>/vis`: tracks of a grid of points of the query frame (`<frame>_grid`,
`<frame>_trails`), the model's colour and depth of every frame, and the dense flow from the query frame to every
frame; each as mp4 with a contact sheet (png).
"""

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.sequence import load_video
from networks.official_checkpoint import read_as_ours
from networks.omnimotion import OmniMotion, load_model
from preprocessing.frames import prepare_sequence
from utils.checkpoint import find_checkpoint
from utils.config import parse_config, pick_device, run_dir
from utils.draw_dense import color_and_depth_frames, flow_frames
from utils.draw_tracks import grid_points, save_track_videos, save_with_sheet
from utils.errors import InputError, exits_on_input_error
from utils.paths import SequencePaths
from utils.video_io import image_files, read_mask

GRID_POINTS = 250  # on the foreground; more would hide it
BACKGROUND_POINTS = 400  # for the median motion only
CPU_SIDE = 160  # pixels: dense pictures made on a CPU are no larger, seconds a frame instead of minutes


def find_foreground(given: str, paths: SequencePaths, name: str, size: tuple[int, int]) -> NDArray | None:
    """Foreground bool [H,W] of frame `name`: the file `given`, else the sequence's own mask, else None."""
    own = [path for path in image_files(paths.mask) if path.stem == Path(name).stem]
    files = [Path(given)] if given else own
    return read_mask(files[0], *size) if files else None


def load_trained(args: Namespace, video: NDArray, device: torch.device) -> OmniMotion:
    """The model that the flags name, or the run's newest.

    Raises:
        InputError: there is none, or it is of a clip of another size or length than `video`.
    """
    path = find_checkpoint(run_dir(args), args.ckpt_path)
    if path is None:
        raise InputError(f"no checkpoint in {run_dir(args)}: train first, or name one with --ckpt_path")
    rays = {name: getattr(args, name) for name in ("num_samples_ray", "min_depth", "max_depth")}
    model = load_model(read_as_ours(path, *video.shape[1:3], **rays), device)
    trained = model.config.num_frames, model.config.height, model.config.width
    if trained != video.shape[:3]:
        raise InputError(
            f"{path} was trained on (frames, height, width) {trained}, this clip has {video.shape[:3]}: "
            "give the data_dir, num_imgs and max_side of its training"
        )
    return model


def grid_tracks(
    model: OmniMotion, query: int, foreground: NDArray | None, occlusion_th: float, **options
) -> tuple[NDArray, NDArray, NDArray]:
    """Follow a grid of points of frame `query`; `options` are those of `OmniMotion.track`.

    Returns:
        tracks [T,N,2] pixels; occluded bool [T,N], outside the image or with a score above `occlusion_th`;
        background bool [N], all True without a foreground.
    """
    size = model.config.height, model.config.width
    shown = grid_points(*size, GRID_POINTS, foreground)
    behind = shown[:0] if foreground is None else grid_points(*size, BACKGROUND_POINTS, ~foreground)
    background = np.arange(len(shown) + len(behind)) >= (0 if foreground is None else len(shown))
    tracks = model.track(query, torch.from_numpy(np.concatenate([shown, behind])), **options)
    return tracks.px.cpu().numpy(), tracks.occluded(occlusion_th, *size).cpu().numpy(), background


@exits_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Load what the flags name, draw, and say where the files are."""
    args = parse_config(argv)
    query, device = args.query_frame_id, pick_device(args.device)
    paths = prepare_sequence(Path(args.data_dir), args.max_side)
    names, video = load_video(paths, args.num_imgs)
    if not 0 <= query < len(video):
        raise InputError(f"--query_frame_id is {query}, but the clip's frames are 0 to {len(video) - 1}")
    foreground = find_foreground(args.foreground_mask_path, paths, names[query], video.shape[1:3])
    if foreground is None:
        print("no foreground mask: points on the whole frame, trails relative to their median motion")
    model = load_trained(args, video, device)

    out_dir, prefix = run_dir(args) / "vis", Path(names[query]).stem
    options = {"use_max_loc": args.use_max_loc, "chunk_size": args.chunk_size}
    tracks = grid_tracks(model, query, foreground, args.occlusion_th, **options)
    written = save_track_videos(out_dir, prefix, video, *tracks, query, args.vis_occlusion)

    side = CPU_SIDE if device.type == "cpu" else None
    color, depth = color_and_depth_frames(video, lambda i, px: model.render(i, px, args.chunk_size), side)
    written += save_with_sheet(out_dir, "color", color) + save_with_sheet(out_dir, "depth", depth)

    def follow(px: torch.Tensor) -> torch.Tensor:
        return model.map_points(query, px, range(len(video)), **options, with_occlusion=False).px

    flow = flow_frames(video.shape[1:3], follow, args.chunk_size, side)
    written += save_with_sheet(out_dir, "flow", flow)
    print("\n".join(["files to look at:", *(f"  {path}" for path in written)]))


if __name__ == "__main__":
    main()
