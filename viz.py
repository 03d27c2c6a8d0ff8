"""Draw a trained model: `python viz.py --run out/demo_demo_scene [--style grid flow]`.

Draws the given styles (default: all) into `<run folder>/vis` or `--out`. Each style is a video with a contact sheet,
and `overview.png` shows all contact sheets; the style `page` is `index.html`, for a browser. With `--export npz,flow,…`
it writes files for other programs instead, into `<run folder>/export` or `--out`. It needs only the checkpoint and
the frames.
"""

import os

# Waiting threads must not spin: beside other programs drawing would slow to a crawl. Set before torch starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import math
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.flags import parse_viz, run_dir, run_name
from utils.config import select
from utils.errors import exit_on_input_error
from visualization.style_names import STYLE_NAMES

if TYPE_CHECKING:
    from visualization.view import View


@exit_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Load the model, draw or export it, and print the paths of the written files."""
    args = parse_viz(argv)
    view, checkpoint = open_view(args)
    written = _export(view, args) if args.export else _draw(view, args, checkpoint)
    print("\n".join(["files to look at:", *(f"  {path}" for path in written)]))


# The functions below import their own modules: `--help` must not wait for torch.


def open_view(args: Namespace) -> tuple["View", Path]:
    """Find the checkpoint, open the clip, choose the query points and load the model, in this order.

    Returns:
        The view to draw, and the checkpoint file of its model.
    """
    from loaders.clip import open_clip
    from loaders.clip_masks import MaskOptions
    from networks.model_config import ModelConfig
    from networks.run_checkpoints import find_trained_checkpoint, load_trained
    from networks.tracks import TrackingOptions
    from preprocessing.source_record import frame_origin
    from utils.device import pick_device
    from visualization.export_formats import check_timing
    from visualization.query_points import query_points
    from visualization.view import View, ViewOptions, check_frames

    device, folder, query = pick_device(args.device), run_dir(args), args.query_frame_id
    checkpoint = find_trained_checkpoint(folder, args.ckpt_path)  # before the frames of a video are copied
    size = {name: getattr(args, name) for name in ("max_side", "num_imgs", "frame_range", "value_range")}
    masks = {"mask_path": args.foreground_mask_path, "mask_options": select(MaskOptions, args)}
    clip = open_clip(Path(args.data_dir), **size, query_frame_id=query, **masks)
    num_frames, height, width, _ = clip.video.shape
    check_frames(args.frames, num_frames)
    origin = frame_origin(clip.paths, clip.names)
    first = origin.numbers[0] if args.first_frame is None else args.first_frame
    check_timing(args.export, args.fps or origin.fps or math.nan, first, num_frames)
    choice = {name: getattr(args, name) for name in ("points", "region", "grid_interval", "random")}
    queries = query_points(clip, query_frame_id=query, **choice, seed=args.loader_seed)
    if clip.foreground is None:
        print("no foreground mask: points cover the whole frame, and trails are relative to its dominant motion")
    config = select(ModelConfig, args, num_frames=num_frames, height=height, width=width)
    model = load_trained(checkpoint, clip.video, config, device)
    out_dir = Path(args.out) if args.out else folder / ("export" if args.export else "vis")
    options = select(ViewOptions, args, out_dir=out_dir, tracking=select(TrackingOptions, args))
    return View(model, clip, queries.points, options, queries.names), checkpoint


def _draw(view: "View", args: Namespace, checkpoint: Path) -> list[Path]:
    from visualization.page import save_page
    from visualization.styles import save_styles

    print(view.describe_rate())
    names = STYLE_NAMES if "all" in args.style else args.style
    written = save_styles(view, names)
    if "page" in names:
        metrics = Path("logs") / run_name(args) / "metrics.jsonl"
        written.append(save_page(view, run_name(args), checkpoint, metrics))
    return written


def _export(view: "View", args: Namespace) -> list[Path]:
    from visualization.export import export

    return export(
        view.model,
        view.clip.video,
        view.queries,
        args.export,
        view.options.out_dir,
        query_frame=args.query_frame_id,
        first_frame=args.first_frame,
        origin=view.origin,
        fps=view.known_fps or math.nan,
        tracking=view.options.tracking,
        names=view.names,
        plate=view.originals,
    )


if __name__ == "__main__":
    main()
