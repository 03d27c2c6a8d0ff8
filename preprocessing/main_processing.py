"""Estimate, filter and chain the optical flow of a video. Finished stages are skipped.

python preprocessing/main_processing.py --data_dir SEQUENCE_OR_VIDEO [--flow dis] [--max_side 256] ...
"""

import os

# Waiting threads must not spin: beside other programs that slows everything down. Set before torch starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds only modules in its own folder

from preprocessing.settings import Settings
from utils.config import SWITCH, flags_of, select
from utils.errors import OneLineErrorParser, exit_on_input_error


def parse_flags(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the given arguments, or those of the process if None."""
    parser = OneLineErrorParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--data_dir", type=Path, required=True, help="video, folder of frames, or sequence folder with color/")
    add("--data_root", type=Path, default=Path("data"), help="folder for copies of the frames (default: data)")
    add("--max_side", type=int, help="working resolution: longer side in pixels (default: that of the frames)")
    add("--num_frames", type=int, help="use only the first frames")
    for flag in flags_of(Settings):
        flag.add_to(add, shown=True)
        parser.set_defaults(**{flag.name: flag.default})
    add("--redo", **SWITCH, default=False, help="remake products made with other settings instead of refusing them")
    add("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu")
    return parser.parse_args(arguments)


@exit_on_input_error
def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_flags(arguments)
    settings = select(Settings, args)
    # Imported after parsing: torch takes seconds to load.
    from preprocessing.frames import prepare_sequence
    from preprocessing.pipeline import preprocess
    from utils.device import pick_device
    from utils.distributed import Context

    context = Context.join()
    device = context.device(pick_device(args.device))
    context.on_rank0(lambda: prepare_sequence(args.data_dir, args.max_side, args.data_root))
    paths = prepare_sequence(args.data_dir, args.max_side, args.data_root)
    preprocess(paths, settings, device=device, num_frames=args.num_frames, redo=args.redo, context=context)
    if context.rank == 0:
        print(f"ready: {paths.root}")


if __name__ == "__main__":
    main()
