"""Look at a trained model: `python viz.py --config configs/default.txt --data_dir DIR [--query_frame_id 0]`.

Writes into `<run folder>/vis`: tracks of a grid of points of the query frame (`<frame>_grid`,
`<frame>_trails`), the model's colour and depth of every frame, and the dense flow from the query frame to all
frames; each as mp4 with a contact sheet (png). With `--export npz,flow,…` it writes files for other programs instead,
into `<run folder>/export`.
"""

import os

# Waiting threads must not spin: beside other programs training would slow to a crawl. Set before torch starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import math
from argparse import Namespace
from pathlib import Path

import torch
from numpy.typing import NDArray

from exports import export_run
from networks.omnimotion import OmniMotion
from runs import load_trained, open_clip
from utils.config import parse_config, pick_device, run_dir
from utils.coords import with_time
from utils.draw_dense import color_and_depth_frames, flow_frames
from utils.draw_tracks import grid_points, save_with_sheet
from utils.errors import exits_on_input_error
from visuals import GRID_POINTS, save_grid_tracks

CPU_WORK = 4e11  # multiplications that a CPU is given for one dense picture: about ten seconds


def affordable_side(model: OmniMotion) -> int | None:
    """Longest side of the dense pictures, pixels: on a CPU what `CPU_WORK` allows, else None (no limit)."""
    if model.device.type != "cpu":
        return None
    work_per_px = sum(p.numel() for p in model.parameters()) * model.config.num_samples_ray
    return max(1, round(math.sqrt(CPU_WORK / work_per_px)))


def save_dense_videos(model: OmniMotion, video: NDArray, out_dir: Path, args: Namespace) -> list[Path]:
    """Write the colour, depth and flow videos; their paths."""
    side, size = affordable_side(model), video.shape[1:3]
    if side is not None and side < max(size):
        print(f"on this CPU colour, depth and flow are drawn {side} instead of {max(size)} pixels wide or high")

    def render(frame_id: int, px: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return model.render(frame_id, px, args.chunk_size)

    def follow(px: torch.Tensor) -> torch.Tensor:
        targets, options = range(len(video)), (args.use_max_loc, args.chunk_size)
        return model.map_points(args.query_frame_id, px, targets, *options, with_occlusion=False).px

    color, depth = color_and_depth_frames(video, render, side)
    written = save_with_sheet(out_dir, "color", color) + save_with_sheet(out_dir, "depth", depth)
    return written + save_with_sheet(out_dir, "flow", flow_frames(size, follow, args.chunk_size, side))


@exits_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Load what the flags name, draw, and say where the files are."""
    args = parse_config(argv)
    device, out_dir = pick_device(args.device), run_dir(args) / "vis"
    clip = open_clip(args)
    if clip.foreground is None:
        print("no foreground mask: points on the whole frame, trails relative to their median motion")
    model = load_trained(args, clip.video, device)
    if args.export:
        px = grid_points(*clip.video.shape[1:3], GRID_POINTS, clip.foreground)
        queries = with_time(args.query_frame_id, torch.from_numpy(px))
        written = export_run(model, clip.video, clip.names, queries, args)
    else:
        written = save_grid_tracks(model, clip.video, clip.names, clip.foreground, out_dir, args)
        written += save_dense_videos(model, clip.video, out_dir, args)
    print("\n".join(["files to look at:", *(f"  {path}" for path in written)]))


if __name__ == "__main__":
    main()
