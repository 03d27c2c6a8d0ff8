"""Estimate, filter and chain the optical flow of a video. Finished stages are skipped.

python preprocessing/main_processing.py --data_dir SEQUENCE_OR_VIDEO [--flow dis] [--max_side 256] ...
"""

import os

# Waiting threads must not spin: beside other programs that slows everything down. Set before torch starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds only modules in its own folder

from preprocessing.settings import DATA_DIR, DEVICE, FRAME_RANGE, MAX_SIDE, REDO, VALUE_RANGE, Settings
from utils.config import Flag, flags_of, select
from utils.errors import OneLineErrorParser, exit_on_input_error

FLAGS = (
    Flag("data_root", "data", "folder for copies of the frames"),
    MAX_SIDE,
    FRAME_RANGE,
    VALUE_RANGE,
    Flag("num_frames", None, "use only the first frames (default: all)", 2, parse=int),  # motion needs two
    *flags_of(Settings),
    REDO,
    DEVICE,
)


def parse_flags(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the given arguments, or those of the process if None."""
    parser = OneLineErrorParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    DATA_DIR.add_to(partial(parser.add_argument, required=True), shown=True, with_default=True)
    for flag in FLAGS:
        flag.add_to(partial(parser.add_argument, default=flag.default), shown=True, with_default=True)
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
    prepare = partial(
        prepare_sequence,
        Path(args.data_dir),
        args.max_side,
        Path(args.data_root),
        frame_range=args.frame_range,
        value_range=args.value_range,
        limit=args.num_frames,
    )
    context.on_rank0(prepare)
    paths = prepare(log=lambda sentence: None)
    preprocess(paths, settings, device=device, num_frames=args.num_frames, redo=args.redo, context=context)
    if context.rank == 0:
        print(f"ready: {paths.root}")


if __name__ == "__main__":
    main()
