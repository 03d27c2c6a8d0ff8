"""Every flag, declared once: type, default, meaning. Names, types and defaults are the released ones where they exist.

A config file holds `name = value` lines; the command line wins over it. Unknown names are errors.
"""

import argparse
import io
import math
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import configargparse

from utils.atomic import write_atomic
from utils.errors import InputError, OneLineErrorParser
from utils.training_flags import SWITCH, add_network_flags, add_training_flags
from visualization.export_formats import add_export_flags
from visualization.flags import add_picture_flags

T = TypeVar("T")

# The smallest value of each number; what is not listed may be anything finite.
AT_LEAST = {
    "num_imgs": 2,  # a motion needs two frames
    "num_samples_ray": 2,
    **dict.fromkeys(("num_pairs", "num_pts", "num_iters", "chunk_size", "start_interval", "lrate_decay_steps"), 1),
    **dict.fromkeys(("num_layers", "coupling_width", "coupling_depth", "code_size", "code_width", "code_depth"), 1),
    **dict.fromkeys(("affine_width", "affine_depth", "volume_width", "volume_depth", "pe_freq", "max_side"), 1),
    **dict.fromkeys(("plane_channels", "plane_interval", "volume_plane_channels"), 1),
    **dict.fromkeys(("plane_size", "volume_plane_size", "soft_bound", "pair_exponent"), 0),
    **dict.fromkeys(("depth_prior", "motion_share"), 0),
    **dict.fromkeys(("i_print", "i_img", "i_weight", "i_cache", "raft_batch", "dino_batch"), 1),
    **dict.fromkeys(("num_workers", "num_threads", "lr_warmup", "micro_batch", "loader_seed", "first_frame"), 0),
    **dict.fromkeys(("lr_feature", "lr_deform", "lr_muon", "lr_color", "lrate_decay_factor", "grad_clip"), 0),
    **dict.fromkeys(("load_opt", "load_scheduler", "max_padding", "occlusion_th", "density_th"), 0),
    "fps": 0.001,
}
AT_MOST = {
    **dict.fromkeys(("load_opt", "load_scheduler", "occlusion_th"), 1),
    **{"lr_muon": 1e30, "neighbour_weight": 1e9, "pair_exponent": 10},  # larger ones overflow
    "motion_share": 0.9,  # what stands still has to be learned, too
    "soft_bound": 8,  # where the others are cut off
    **dict.fromkeys(("num_layers", "code_depth", "coupling_depth", "affine_depth", "volume_depth", "pe_freq"), 1000),
    **{"num_workers": 1024, "num_threads": 1024},
    **{"fps": 1000, "radius": 1000},  # what encoder and drawing take
}
MOST_SAMPLES = 10**9  # of a batch: a step keeps more than a hundred bytes of each
MOST = 10**9  # of any other whole number: what is larger is a slip, and overflows in C


class _Parser(OneLineErrorParser, configargparse.ArgumentParser):
    """Reads config files, and complains in one sentence."""


def build_parser() -> configargparse.ArgumentParser:
    """The parser of train.py, viz.py and evaluate.py."""
    parser = _Parser(
        config_file_parser_class=configargparse.DefaultConfigFileParser,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        ignore_unknown_config_file_keys=False,
        config_file_open_func=_open_config,
        allow_abbrev=False,
    )
    _general_flags(parser)
    _data_flags(parser)
    add_network_flags(parser)
    add_training_flags(parser)
    _inference_flags(parser)
    add_export_flags(parser)
    add_picture_flags(parser)
    _evaluation_flags(parser)
    return parser


def _open_config(path: str) -> io.StringIO:
    """All of a config file: what is no text is found here, where the parser expects failures."""
    stream = io.StringIO(Path(path).read_text(encoding="utf-8"))
    stream.name = path
    return stream


def parse_config(argv: list[str] | None = None) -> argparse.Namespace:
    """The resolved flags; a mistake ends with one sentence and exit status 2.

    Raises:
        InputError: no `--data_dir`, or values that cannot work together.
    """
    args = build_parser().parse_args(argv)
    if not args.data_dir:
        raise InputError(
            "--data_dir is missing: give a video file, a folder of frames, or a sequence folder with color/"
        )
    _check_numbers(args)
    _check_inputs(args)
    return args


def select(kind: type[T], source: argparse.Namespace, **given: Any) -> T:
    """Build a dataclass from the flags that have the names of its fields.

    Args:
        kind: the dataclass.
        source: parsed flags; those that it lacks keep the dataclass's defaults.
        given: values of fields that are no flags, or that take the place of one.

    Returns:
        An instance of `kind`.
    """
    names = {field.name for field in fields(kind) if field.init}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(source).items() if name in names} | given)


def uses_flow(args: argparse.Namespace) -> bool:
    """Whether optical flow supervises, alone or beside tracks."""
    return "flow" in args.dataset_types.split("+")


def _check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers that are out of their range, alone or together."""
    for name, value in vars(args).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        low, high = AT_LEAST.get(name, -MOST), AT_MOST.get(name, MOST if isinstance(value, int) else sys.float_info.max)
        if not low <= value <= high:  # NaN fails too
            raise InputError(f"--{name} is {value}, expected a number from {low} to {high}")
    for name in ("schedule_scale", "neighbour_weight"):
        if getattr(args, name) <= 0:
            raise InputError(f"--{name} is {getattr(args, name)}, expected a number above 0")
    if 0 < args.soft_bound < 1e-3:  # divided by; maps that hardly stretch follow no motion
        raise InputError(f"--soft_bound is {args.soft_bound}, expected 0 or a number from 0.001 to 8")
    if args.min_depth >= args.max_depth:
        raise InputError(f"--min_depth is {args.min_depth}, expected one below --max_depth, which is {args.max_depth}")
    samples = args.num_pairs * args.num_pts * args.num_samples_ray
    if samples > MOST_SAMPLES:
        raise InputError(
            f"--num_pairs, --num_pts and --num_samples_ray make {samples} samples of a batch, expected at most "
            f"{MOST_SAMPLES}: give fewer of one of them"
        )
    if args.expname and Path(args.expname).name != args.expname:
        raise InputError(
            f"--expname is {args.expname!r}, expected a name without slashes: choose the place with --save_dir"
        )


def _check_inputs(args: argparse.Namespace) -> None:
    """Refuse flags of flow and tracks that contradict one another."""
    types, weights = args.dataset_types.split("+"), args.dataset_weights
    if len(weights) != len(types) or not all(0 < weight < math.inf for weight in weights):
        raise InputError(
            f"--dataset_weights is {weights}, expected a positive number for each of --dataset_types {'+'.join(types)}"
        )
    if ("tracks" in types) != bool(args.tracks):
        found = "is given" if args.tracks else "is missing"
        raise InputError(
            f"--tracks {found}, but --dataset_types is {args.dataset_types}: tracks need --tracks FILE and "
            "--dataset_types tracks or flow+tracks"
        )
    if args.draw_on_device and (args.dataset_types != "flow" or not args.map_flow):
        raise InputError(
            f"--draw_on_device reads the mapped flow and nothing else, but --dataset_types is {args.dataset_types} and "
            f"--map_flow {str(args.map_flow).lower()}: give flow and true, or leave it out"
        )
    if args.use_error_map and not uses_flow(args):
        raise InputError("error maps compare with flow, which --dataset_types tracks lacks: --use_error_map false")
    for name in ("depth_prior", "motion_share"):
        if getattr(args, name) > 0 and not uses_flow(args):
            raise InputError(f"--{name} asks flow what moves, which --dataset_types tracks lacks: --{name} 0")


def run_name(args: argparse.Namespace) -> str:
    """<expname>_<sequence name>; the name is that of the video file or folder given, without its suffix."""
    source = Path(args.data_dir)
    return f"{args.expname}_{source.stem if source.is_file() else source.resolve().name}"


def run_dir(args: argparse.Namespace) -> Path:
    """Folder of the run's checkpoints and pictures."""
    return Path(args.save_dir) / run_name(args)


def write_config(args: argparse.Namespace, folder: Path) -> None:
    """Leave the resolved flags as `args.txt` and the config file as `config.txt`."""
    lines = "".join(f"{name} = {value}\n" for name, value in sorted(vars(args).items()))
    write_atomic(folder / "args.txt", lines.encode())  # a path may hold any letter
    if args.config:
        write_atomic(folder / "config.txt", Path(args.config).read_bytes())


def _general_flags(parser: configargparse.ArgumentParser) -> None:
    add = parser.add_argument_group("general").add_argument
    add("--config", is_config_file=True, help="file of `name = value` lines")
    add("--data_dir", help="video file, folder of frames, or sequence folder with color/")
    add("--expname", default="", help="name of the experiment, first part of the run's folder")
    add("--save_dir", default="out/", help="where runs are kept")
    add("--ckpt_path", default="", help="checkpoint to start from instead of the run's newest")
    add("--no_reload", **SWITCH, default=False, help="start anew; earlier checkpoints are set aside")
    add("--num_iters", type=int, default=200000, help="steps in all, those of earlier calls included")
    add("--num_workers", type=int, default=4, help="processes that prepare batches (0: none)")
    add("--num_threads", type=int, default=0, help="threads that a CPU trains with (0: torch's choice)")
    add("--load_opt", type=int, default=1, help="resume the optimizer's state (0: fresh moments)")
    add(
        "--load_scheduler",
        type=int,
        default=1,
        help="resume the learning rate's schedule (0: from its start)",
    )
    add("--loader_seed", type=int, default=12, help="seed of weights, batches and rays")
    add("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu")


def _data_flags(parser: configargparse.ArgumentParser) -> None:
    add = parser.add_argument_group("data").add_argument
    add("--num_imgs", type=int, default=250, help="use at most this many frames")
    add(
        "--dataset_types",
        choices=["flow", "tracks", "flow+tracks"],
        default="flow",
        help="what supervises motion; tracks alone need no flow",
    )
    add(
        "--dataset_weights",
        type=float,
        nargs="+",
        default=[1.0],
        help="relative shares of the pairs, one for each of dataset_types",
    )
    add("--tracks", default="", help="npz file of any tracker: to train on, or (evaluate.py, with --gt) to score")
    add("--num_pairs", type=int, default=8, help="pairs of frames in a batch")
    add("--num_pts", type=int, default=256, help="points of each pair")
    add(
        "--max_side",
        type=int,
        default=None,
        help="working resolution: longer side in pixels (default: as it is)",
    )
    add(
        "--preprocess",
        choices=["auto", "never"],
        default="auto",
        help="do what is missing, or refuse if it is",
    )
    add("--flow", choices=["raft", "dis"], default="raft", help="optical flow; dis needs no weights")
    add(
        "--features",
        choices=["auto", "dino", "sift"],
        default="auto",
        help="appearance check; auto: dino with raft, sift with dis",
    )
    add("--pairs", choices=["all", "sparse"], default="all", help="pairs with flow; sparse: near and doubled gaps")
    add("--redo", **SWITCH, default=False, help="preprocess anew what was made with other settings")
    add("--raft_batch", type=int, default=None, help="RAFT's pairs side by side (default: by memory)")
    add("--raft_half", **SWITCH, default=False, help="RAFT in float16, for GPUs")
    add("--dino_batch", type=int, default=1, help="DINO's frames side by side")
    add("--dino_half", **SWITCH, default=False, help="DINO in float16, for GPUs")
    add("--chain", **SWITCH, default=True, help="chain adjacent flow into denser correspondences (fast.txt: false)")
    add("--map_flow", **SWITCH, default=True, help="train from one file of all valid flow, made beside the flow")
    add("--draw_on_device", **SWITCH, default=False, help="draw the pixels of flow on the device that trains")
    add("--raft_weights", default=None, help="RAFT weights file instead of the download")
    add("--dino_weights", default=None, help="DINO weights file instead of the download")
    add("--synthetic", **SWITCH, default=False, help="first make the demo scene in data_dir")


def _inference_flags(parser: configargparse.ArgumentParser) -> None:
    add = parser.add_argument_group("inference").add_argument
    add("--chunk_size", type=int, default=10000, help="points computed at a time")
    add("--use_max_loc", **SWITCH, default=False, help="map the heaviest sample only, not the composite")
    add("--query_frame_id", type=int, default=0, help="frame whose points are tracked")
    add("--vis_occlusion", **SWITCH, default=False, help="mark hidden points with crosses, not leave them out")
    add("--occlusion_th", type=float, default=0.99, help="score above which a point is hidden")
    add("--foreground_mask_path", default="", help="mask image of the query frame: RGBA, grey or RGB")


def _evaluation_flags(parser: configargparse.ArgumentParser) -> None:
    add = parser.add_argument_group("evaluation").add_argument
    add(
        "--benchmark", choices=["tracks", "tapvid", "badja"], default="tracks", help="what the truth is, and the scores"
    )
    add(
        "--gt", default="", help="truth: gt_tracks.npz, TAP-Vid's pickle or zip, BADJA's json (default: the sequence's)"
    )
    add("--query_mode", choices=["strided", "first"], default="strided", help="TAP-Vid's queries")
    add("--split", choices=["gap"], default=None, help="print the scores by distance from the query, too")
