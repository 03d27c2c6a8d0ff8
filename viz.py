"""Look at a trained model: `python viz.py --config configs/default.txt --data_dir DIR [--style grid flow]`.

Draws the styles that are asked for, by default all, into `<run folder>/vis` (or `--out`): each a video with a contact
sheet, and `overview.png` of all of them; `page` is `index.html`, for a browser. With `--export npz,flow,…` it writes
files for other programs instead, into `<run folder>/export`. Needs the checkpoint and the frames, nothing else of the
training.
"""

import os

# Waiting threads must not spin: beside other programs training would slow to a crawl. Set before torch starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import math

import torch

from loaders.clip import open_clip
from networks.run_checkpoints import load_trained
from utils.config import parse_config
from utils.device import pick_device
from utils.errors import exit_on_input_error
from visualization.contact_sheet import save_overview
from visualization.export import export_run
from visualization.page import save_page
from visualization.view import STYLES, View, query_points


@exit_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Load what the flags name, draw, and say where the files are."""
    args = parse_config(argv)
    device = pick_device(args.device)
    clip = open_clip(args)
    queries = query_points(args, clip)
    if clip.foreground is None:
        print("no foreground mask: points on the whole frame, trails relative to what most of it does")
    view = View(load_trained(args, clip.video, device), clip, queries, args)
    if args.export:
        fps = view.known_fps or math.nan
        written = export_run(view.model, clip.video, clip.names, torch.from_numpy(queries), args, fps)
    else:
        asked = {*STYLES, "page"} if "all" in args.style else args.style
        written = [path for style in STYLES if style in asked for path in STYLES[style](view)]
        if sheets := [path for path in written if path.suffix == ".png"]:
            written.append(save_overview(view.out_dir / "overview.png", sheets))
        if "page" in asked:
            written += save_page(view.model, clip, view.out_dir, args, view.fps)
    print("\n".join(["files to look at:", *(f"  {path}" for path in written)]))


if __name__ == "__main__":
    main()
