"""Every flag of train.py, viz.py and evaluate.py: name, default, meaning and range, in the groups of `--help`.

Names, types and defaults are the released ones where the released code has the flag. The sizes of the networks are
declared in `networks.model_config`, the settings of preprocessing in `preprocessing.settings`.
"""

import argparse
from itertools import chain

from networks.model_config import ModelConfig
from preprocessing.settings import DATA_DIR, DEVICE, FRAME_RANGE, MAX_SIDE, REDO, VALUE_RANGE, Settings
from utils.config import Flag, flags_of
from visualization.export_formats import EXPORT_FORMATS, parse_formats
from visualization.style_names import STYLE_NAMES

STYLES, FORMATS = ", ".join(STYLE_NAMES), ", ".join(EXPORT_FORMATS)


def parse_frames(text: str) -> tuple[int, int]:
    """Parse `a:b` into (a, b), the frames a to b − 1."""
    try:
        first, end = (int(part) for part in text.split(":"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a:b, two frame numbers, as in 10:40") from error
    if not 0 <= first < end:
        raise argparse.ArgumentTypeError(f"{text!r} holds no frame: expected 0 <= a < b (b itself is left out)")
    return first, end


def parse_rectangle(text: str) -> tuple[int, int, int, int]:
    """Parse `x0,y0,x1,y1` into the rectangle of the pixels x0 to x1 − 1 and y0 to y1 − 1."""
    try:
        x0, y0, x1, y1 = (int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected x0,y0,x1,y1 in whole pixels") from error
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise argparse.ArgumentTypeError(f"{text!r} holds no pixel: expected 0 <= x0 < x1 and 0 <= y0 < y1")
    return x0, y0, x1, y1


TRAINED_RUN = (Flag("run", "", "folder of a run; flags that are not given are taken from its training"),)
RUN = (
    DATA_DIR,
    Flag("expname", "", "the run's folder is <save_dir>/<expname>_<sequence> (default: the config file's name)"),
    Flag("save_dir", "out/", "folder of all runs"),
    Flag("ckpt_path", "", "checkpoint to start from instead of the run's newest"),
    DEVICE,
)
CLIP = (
    Flag("num_imgs", 250, "use at most this many frames", 2),  # motion needs two
    FRAME_RANGE,
    VALUE_RANGE,
    MAX_SIDE,
)
TRACKING = (
    Flag("use_max_loc", False, "map the sample with the largest weight, not the composite of all"),
    Flag("occlusion_th", 0.99, "score above which a point is occluded", 0, 1),
    Flag("chunk_size", 10000, "points computed at a time", 1),
)
QUERIES = (
    Flag("query_frame_id", 0, "frame whose points are tracked", 0),
    Flag("foreground_mask_path", "", "mask of the query frame (default: its own in --mask_dir or in mask/)"),
    Flag("mask_dir", "", "folder of the clip's masks, images or .npy (default: the sequence's mask/)"),
    Flag("mask_label", None, "label that is foreground in masks (default: every label but 0)", 1, parse=int),
    Flag("vis_occlusion", False, "draw occluded points as crosses instead of leaving them out"),
    Flag("loader_seed", 12, "seed of initial weights, batches, rays and random query points", 0),
)
PREPROCESSING = (
    Flag("preprocess", "auto", "do what is missing, or refuse to train if something is", choices=("auto", "never")),
    *flags_of(Settings),
    REDO,
    Flag("synthetic", False, "make the demo scene in data_dir (set by a config file: in that file's data_dir only)"),
)
SUPERVISION = (
    Flag("dataset_types", "flow", "what supervises motion", choices=("flow", "tracks", "flow+tracks")),
    Flag("dataset_weights", [1.0], "share of the pairs for each of dataset_types", parse=float, several=True, above=0),
    Flag("tracks", "", "npz file with the tracks of any tracker"),
    Flag("mask_near", False, "ignore the nearest samples of a ray in the first steps"),
    Flag("max_padding", 0.0, "pixels outside the image within which a prediction still counts", 0),
    Flag("depth_prior", 0.0, "initial weight of the depth prior that is estimated from motion (0: none)", 0),
)
SAMPLING = (
    Flag("num_pairs", 8, "pairs of frames in a batch", 1),
    Flag("num_pts", 256, "points per pair", 1),
    Flag("use_error_map", False, "sample frames and pixels by their flow error"),
    Flag("use_count_map", False, "sample pixels with few valid correspondences more often"),
    Flag("motion_share", 0.0, "share of the sampling weight for independent motion, before error maps", 0, 0.9),
    Flag("start_interval", 20, "largest frame gap of a pair in the first steps", 1),
)
OPTIMIZATION = (
    Flag("num_iters", 100000, "steps in all, those before a resume included", 1),
    Flag("no_reload", False, "start anew; checkpoints of the run are set aside"),
    Flag("load_opt", 1, "resume the optimizer's moments (0: zero moments)", 0, 1),
    Flag("load_scheduler", 1, "resume the schedule of the learning rates (0: from its start)", 0, 1),
    Flag("lr_feature", 1e-3, "learning rate of the code net", 0),
    Flag("lr_deform", 1e-4, "learning rate of the couplings and the affine net", 0),
    Flag("lr_color", 3e-4, "learning rate of the volume", 0),
    Flag("lr_muon", 0.0, "learning rate of Muon for the couplings' matrices (0: Adam)", 0, 1e30),
    Flag("lr_schedule", "step", "square: (1 - step / num_iters)^2 instead of decays", choices=("step", "square")),
    Flag("lr_warmup", 0.0, "steps of the warm-up; below 1 a share of num_iters", 0),
    Flag("lrate_decay_steps", 20000, "steps between two decays of the learning rates", 1),
    Flag("lrate_decay_factor", 0.5, "factor of a decay", 0),
    Flag("grad_clip", 0.0, "largest gradient norm (0: no limit)", 0),
    Flag(
        "schedule_scale",
        None,
        "factor that stretches the loss schedules, which are written for 100,000 steps (default: num_iters / 100000; "
        "give it to keep the schedules when resuming with another --num_iters)",
        above=0,
        parse=float,
    ),
)
COMPUTATION = (
    Flag("num_workers", 4, "processes that prepare batches (0: none)", 0, 1024),
    Flag("num_threads", 0, "CPU threads for training (0: chosen by torch)", 0, 1024),
    Flag("micro_batch", 0, "pairs computed at a time, to save memory (0: all)", 0),
    Flag("checkpoint_activations", False, "recompute hidden layers in the backward pass, to save memory"),
    Flag("draw_on_device", False, "sample the pixels of flow batches on the training device"),
    Flag("amp", False, "bfloat16 in the volume's hidden layers, for GPUs"),
    Flag("tf32", False, "TF32 in all matrix products, for GPUs; tracks are then off by up to 0.2 px"),
    Flag("compile", False, "compile the networks with torch.compile, for GPUs"),
)
LOGGING = (
    Flag("i_print", 100, "steps between two lines of scalars", 1),
    Flag("i_img", 500, "steps between two sets of images", 1),
    Flag("i_weight", 20000, "steps between two checkpoints", 1),
    Flag("i_cache", 20000, "steps between two sets of error maps", 1),
)
PICTURES = (
    Flag("style", ["all"], f"what to draw: {STYLES} or all", choices=(*STYLE_NAMES, "all"), parse=str, several=True),
    Flag("out", "", "folder of the pictures or exports (default: vis/ or export/ in the run's folder)"),
    Flag("points", "", "query points: a file of lines t,x,y, an npz with queries [N,3], or 't,x,y;t,x,y'"),
    Flag("grid_interval", None, "pixels between query points on a grid (default: about 250 points)", 1, parse=int),
    Flag("random", None, "this many random query points instead of a grid", 1, parse=int),
    Flag("region", None, "x0,y0,x1,y1: query points in this rectangle only", parse=parse_rectangle),
    Flag("frames", None, "a:b: draw the frames a to b-1 only", parse=parse_frames),
    Flag("fps", None, "frames per second (default: the source's, else 10 for pictures)", 0.001, 1000, parse=float),
    Flag("radius", None, "radius of the marks in pixels (default: by picture size)", above=0, most=1000, parse=float),
    Flag("trail_length", 10, "frames until a trail has faded", 1),
)
EXPORT = (
    Flag("export", [], f"write files instead of pictures, `a,b`: {FORMATS} or all", parse=parse_formats),
    Flag("first_frame", None, "number of the first frame in exports (default: from its name)", 0, parse=int),
)
BENCHMARK = (
    Flag("benchmark", "tracks", "kind of ground truth and of scores", choices=("tracks", "tapvid", "badja")),
    Flag("gt", "", "gt_tracks.npz, TAP-Vid's pickle or zip, or BADJA's json (default: the sequence's)"),
    Flag("query_mode", "strided", "queries of TAP-Vid", choices=("strided", "first")),
)
STORED_TRACKS = Flag("tracks", "", "npz file with tracks to score against --gt, or folder of such files")
TRAINING = {  # by title in the help
    "preprocessing": PREPROCESSING,
    "supervision": SUPERVISION,
    "sampling of pairs and pixels": SAMPLING,
    "networks": flags_of(ModelConfig),
    "optimization": OPTIMIZATION,
    "speed and memory": COMPUTATION,
    "intervals": LOGGING,
    "tracking": TRACKING,
    "pictures": QUERIES,
}
FLAGS = (*TRAINED_RUN, *RUN, *CLIP, *chain(*TRAINING.values()), *PICTURES, *EXPORT, *BENCHMARK)
