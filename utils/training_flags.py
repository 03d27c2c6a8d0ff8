"""Flags of the networks and of their training."""

import argparse

from networks.rate_schedule import FALLS

TRUE, FALSE = {"true", "yes", "1", "on"}, {"false", "no", "0", "off"}


def boolean(text: str) -> bool:
    """`--flag`, `--flag true` and `flag = true` switch on; `--flag false` switches off."""
    if text.lower() in TRUE | FALSE:
        return text.lower() in TRUE
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


SWITCH = {"type": boolean, "nargs": "?", "const": True}


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the sizes of the networks and where rays run."""
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
    add("--soft_bound", type=float, default=0.0, help="smooth bound of couplings' scales and shifts (0: e^±8, cut off)")
    add("--num_samples_ray", type=int, default=32, help="samples on a ray")
    add("--min_depth", type=float, default=0.0, help="where rays start")
    add("--max_depth", type=float, default=2.0, help="where rays end")


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Declare how training goes: rates, memory, which pairs and pixels, how often something is written."""
    add = parser.add_argument_group("training").add_argument
    add("--lr_feature", type=float, default=1e-3, help="learning rate of the code net")
    add("--lr_deform", type=float, default=1e-4, help="learning rate of couplings and affine net")
    add("--lr_muon", type=float, default=0.0, help="rate of Muon for the couplings' matrices (0: Adam)")
    add("--lr_color", type=float, default=3e-4, help="learning rate of the volume")
    add("--lrate_decay_steps", type=int, default=20000, help="steps between two decays of the learning rates")
    add("--lrate_decay_factor", type=float, default=0.5, help="factor of each decay")
    add(
        "--lr_schedule",
        choices=["step", *FALLS],
        default="step",
        help="square: rates fall as (1 - step / num_iters)^2 to a hundredth, without decays; cosine: as half a cosine",
    )
    add("--lr_warmup", type=int, default=0, help="steps over which the rates rise")
    add("--grad_clip", type=float, default=0.0, help="largest gradient norm (0: no limit)")
    add("--micro_batch", type=int, default=0, help="pairs whose hidden layers are in memory at a time (0: all)")
    add("--checkpoint_activations", **SWITCH, default=False, help="compute hidden layers again instead of keeping them")
    add("--amp", **SWITCH, default=False, help="products of the volume's hidden layers in bfloat16, for GPUs")
    add("--tf32", **SWITCH, default=False, help="all products in TF32, for GPUs; maps are then off by 0.2 px")
    add("--compile", **SWITCH, default=False, help="kernels of torch.compile for the networks, for GPUs")
    add("--use_error_map", **SWITCH, default=False, help="draw frames and pixels by flow error")
    add("--use_count_map", **SWITCH, default=False, help="draw rarely valid pixels more often")
    add("--depth_prior", type=float, default=0.0, help="weight, at first, of depths guessed from motion (0: none)")
    add(
        "--motion_share",
        type=float,
        default=0.0,
        help="of a frame's weight in drawing, for what moves by itself; until there are error maps",
    )
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
