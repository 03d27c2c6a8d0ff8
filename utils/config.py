"""Every flag, declared once: type, default, meaning. Names, types and defaults are the released ones where they exist.

A config file holds `name = value` lines; the command line wins over it. Unknown names are errors.
"""

import argparse
import math
from pathlib import Path

import configargparse
import torch

from utils.atomic import write_whole
from utils.errors import InputError
from utils.export_flags import add_export_flags
from utils.picture_flags import add_picture_flags

TRUE, FALSE = {"true", "yes", "1", "on"}, {"false", "no", "0", "off"}


def boolean(text: str) -> bool:
    """`--flag`, `--flag true` and `flag = true` switch on; `--flag false` switches off."""
    if text.lower() in TRUE | FALSE:
        return text.lower() in TRUE
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


# Counts, sizes and periods that are never 0.
POSITIVE = (
    *("num_pairs", "num_pts", "num_iters", "chunk_size", "start_interval", "lrate_decay_steps"),
    *("num_layers", "coupling_width", "coupling_depth", "code_size", "code_width", "code_depth"),
    *("affine_width", "affine_depth", "volume_width", "volume_depth"),
    *("plane_channels", "plane_interval", "volume_plane_channels"),
    *("i_print", "i_img", "i_weight", "i_cache"),
)

SWITCH = {"type": boolean, "nargs": "?", "const": True}


def build_parser() -> configargparse.ArgumentParser:
    """The parser of train.py, viz.py and evaluate.py."""
    parser = configargparse.ArgumentParser(
        config_file_parser_class=configargparse.DefaultConfigFileParser,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        ignore_unknown_config_file_keys=False,
        allow_abbrev=False,
    )
    _general_flags(parser)
    _data_flags(parser)
    _network_flags(parser)
    _training_flags(parser)
    _inference_flags(parser)
    add_export_flags(parser)
    add_picture_flags(parser)
    _evaluation_flags(parser)
    return parser


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
    for name in POSITIVE:
        if getattr(args, name) < 1:
            raise InputError(f"--{name} is {getattr(args, name)}, expected at least 1")
    if args.schedule_scale <= 0 or args.num_workers < 0 or (args.max_side is not None and args.max_side < 1):
        raise InputError("--schedule_scale must be above 0, --num_workers at least 0, --max_side at least 1")
    if args.lr_warmup < 0:
        raise InputError(f"--lr_warmup is {args.lr_warmup}, expected a number of steps, or 0 for none")
    if args.neighbour_weight <= 0 or args.pair_exponent < 0 or args.depth_prior < 0:
        raise InputError("--neighbour_weight must be above 0, --pair_exponent and --depth_prior at least 0")
    if args.depth_prior > 0 and not uses_flow(args):
        raise InputError("--depth_prior guesses depth from flow, which --dataset_types tracks lacks: --depth_prior 0")
    if args.micro_batch < 0:
        raise InputError(f"--micro_batch is {args.micro_batch}, expected a number of pairs, or 0 for all of a batch")
    if args.num_samples_ray < 2 or args.min_depth >= args.max_depth:
        raise InputError("rays need --num_samples_ray of at least 2 and --min_depth below --max_depth")
    if args.num_imgs < 2:
        raise InputError(f"--num_imgs is {args.num_imgs}, but a motion needs at least 2 frames")
    _check_inputs(args)
    return args


def uses_flow(args: argparse.Namespace) -> bool:
    """Whether optical flow supervises, alone or beside tracks."""
    return "flow" in args.dataset_types.split("+")


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


def run_name(args: argparse.Namespace) -> str:
    """<expname>_<sequence name>; the name is that of the video file or folder given, without its suffix."""
    source = Path(args.data_dir)
    return f"{args.expname}_{source.stem if source.is_file() else source.resolve().name}"


def run_dir(args: argparse.Namespace) -> Path:
    """Folder of the run's checkpoints and pictures."""
    return Path(args.save_dir) / run_name(args)


def pick_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, else mps, else cpu.

    On a CPU, numbers below 1e-38 become 0 from here on. The Gaussians of the code net and the transmittance behind a
    surface are full of them once a model is trained, and a CPU takes many times as long over each: a step of the demo's
    last third takes 0.14 s, not 0.43 s. Threads inherit this, so it comes before the first computation.

    Raises:
        InputError: a device that this machine or this PyTorch does not have.
    """
    torch.set_flush_denormal(True)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, present in available.items() if present))
    if not available.get(name.split(":")[0], False):
        found = ", ".join(kind for kind, present in available.items() if present)
        raise InputError(f"--device {name}: not available here (found: {found}); choose one of these or `auto`")
    return torch.device(name)


def write_config(args: argparse.Namespace, folder: Path) -> None:
    """Leave the resolved flags as `args.txt` and the config file as `config.txt`."""
    lines = "".join(f"{name} = {value}\n" for name, value in sorted(vars(args).items()))
    write_whole(folder / "args.txt", lines.encode())  # a path may hold any letter
    if args.config:
        write_whole(folder / "config.txt", Path(args.config).read_bytes())


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
    add("--load_opt", type=int, default=1, help="resume the optimiser's state (0: fresh moments)")
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
    add("--tracks", default="", help="npz file of any tracker: to train on, or (evaluate.py, no data_dir) to score")
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
    add("--chain", **SWITCH, default=True, help="chain adjacent flow into denser correspondences")
    add("--map_flow", **SWITCH, default=True, help="train from one file of all valid flow, made beside the flow")
    add("--draw_on_device", **SWITCH, default=False, help="draw the pixels of flow on the device that trains")
    add("--raft_weights", default=None, help="RAFT weights file instead of the download")
    add("--dino_weights", default=None, help="DINO weights file instead of the download")
    add("--synthetic", **SWITCH, default=False, help="first make the demo scene in data_dir")


def _network_flags(parser: configargparse.ArgumentParser) -> None:
    add = parser.add_argument_group("networks").add_argument
    add("--use_affine", **SWITCH, default=False, help="affine map of every frame before the couplings")
    add("--pe_freq", type=int, default=4, help="octaves of the positional encodings")
    add("--num_layers", type=int, default=6, help="coupling layers")
    add("--coupling_width", type=int, default=256, help="hidden width of the coupling nets")
    add("--coupling_depth", type=int, default=3, help="hidden layers of the coupling nets")
    add("--code_size", type=int, default=128, help="length of a frame's code")
    add("--code_width", type=int, default=256, help="hidden width of the code net")
    add("--code_depth", type=int, default=2, help="linears between the code net's filters")
    add("--affine_width", type=int, default=256, help="hidden width of the affine net")
    add("--affine_depth", type=int, default=7, help="hidden layers of the affine net")
    add("--volume_width", type=int, default=512, help="hidden width of the volume net")
    add("--volume_depth", type=int, default=3, help="linears between the volume net's filters")
    add("--plane_size", type=int, default=0, help="cells a side of the coupling nets' feature planes (0: none)")
    add("--plane_channels", type=int, default=16, help="features of a cell")
    add("--plane_interval", type=int, default=2, help="frames between two planes")
    add("--volume_plane_size", type=int, default=0, help="cells a side of the volume's feature planes (0: a GaborNet)")
    add("--volume_plane_channels", type=int, default=8, help="features of a cell")
    add("--num_samples_ray", type=int, default=32, help="samples on a ray")
    add("--min_depth", type=float, default=0.0, help="where rays start")
    add("--max_depth", type=float, default=2.0, help="where rays end")


def _training_flags(parser: configargparse.ArgumentParser) -> None:
    add = parser.add_argument_group("training").add_argument
    add("--lr_feature", type=float, default=1e-3, help="learning rate of the code net")
    add("--lr_deform", type=float, default=1e-4, help="learning rate of couplings and affine net")
    add("--lr_color", type=float, default=3e-4, help="learning rate of the volume")
    add("--lrate_decay_steps", type=int, default=20000, help="steps between two decays of the learning rates")
    add("--lrate_decay_factor", type=float, default=0.5, help="factor of each decay")
    add("--lr_schedule", choices=["step", "cosine"], default="step", help="cosine: one fall over num_iters, no decays")
    add("--lr_warmup", type=int, default=0, help="steps over which the rates rise")
    add("--grad_clip", type=float, default=0.0, help="largest gradient norm (0: no limit)")
    add("--micro_batch", type=int, default=0, help="pairs whose hidden layers are in memory at a time (0: all)")
    add("--checkpoint_activations", **SWITCH, default=False, help="compute hidden layers again instead of keeping them")
    add("--amp", **SWITCH, default=False, help="products of the volume's hidden layers in bfloat16, for GPUs")
    add("--compile", **SWITCH, default=False, help="kernels of torch.compile for the networks, for GPUs")
    add("--use_error_map", **SWITCH, default=False, help="draw frames and pixels by flow error")
    add("--use_count_map", **SWITCH, default=False, help="draw rarely valid pixels more often")
    add("--depth_prior", type=float, default=0.0, help="weight, at first, of depths guessed from motion (0: none)")
    add("--mask_near", **SWITCH, default=False, help="hide the nearest samples early on")
    add(
        "--neighbour_weight",
        type=float,
        default=0.5,
        help="how often a neighbour is drawn, beside 1 for all valid pairs",
    )
    add("--pair_exponent", type=float, default=1.0, help="of the partners' weights; below 1 far pairs come more often")
    add("--start_interval", type=int, default=20, help="largest frame gap of a pair at the start")
    add(
        "--max_padding",
        type=float,
        default=0.0,
        help="pixels outside the image within which a prediction still counts",
    )
    add(
        "--schedule_scale",
        type=float,
        default=1.0,
        help="stretch of the loss schedules (1: written for 100,000 steps)",
    )
    add("--i_print", type=int, default=100, help="steps between two lines of scalars")
    add("--i_img", type=int, default=500, help="steps between two sets of images")
    add("--i_weight", type=int, default=20000, help="steps between two checkpoints")
    add("--i_cache", type=int, default=20000, help="steps between two sets of error maps")


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
