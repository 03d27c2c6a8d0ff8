"""Parsers of train.py, viz.py and evaluate.py; free of torch, so that `--help` answers at once.

The flags themselves are declared in `configs.flag_table`.
"""

from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from configs import flag_table as table
from utils.config import Flag, FlagParser
from utils.errors import InputError

MOST_SAMPLES = 10**9  # per batch: a step keeps more than a hundred bytes for each
AS_TRAINED = ", as in the training unless given"
# Flags that viz.py and evaluate.py do not take from the run.
NOT_FROM_RUN = {"ckpt_path", "device", "no_reload", *(flag.name for flag in (*table.PICTURES, *table.EXPORT))}


def parse_train(argv: list[str] | None = None) -> Namespace:
    """Return the flags of train.py.

    Raises:
        InputError: No `--data_dir`, or values that cannot be used, alone or together.
    """
    parser = _parser(
        "Train OmniMotion on one video, or resume the run of the same name.",
        [
            "--config configs/demo.txt",
            "--config configs/fast.txt --data_dir my_video.mp4 --max_side 256",
            "--config configs/default.txt --data_dir my_video.mp4",
        ],
        {"run": table.RUN, "clip": table.CLIP, **table.TRAINING},
    )
    command_line, config = _parse_given(parser, argv)
    args = Namespace(**parser.defaults | config | command_line)
    if not args.data_dir:
        raise InputError(
            "--data_dir is missing: give a video file, a folder of frames, or a sequence folder with color/"
        )
    if "synthetic" not in command_line and not _same_path(args.data_dir, config.get("data_dir", "")):
        args.synthetic = False  # a mistyped folder must not become the demo scene of the config file
    _derive(args)
    _check_run(args)
    _check_training(args)
    return args


def parse_viz(argv: list[str] | None = None) -> Namespace:
    """Return the flags of viz.py; those of the training that are not given are taken from the run.

    Raises:
        InputError: Neither `--run` nor `--data_dir`, an unusable run, or values that cannot be used.
    """
    parser = _parser(
        "Draw or export the motion that a run has learned. The flags of train.py are accepted, too.",
        [
            "--run out/demo_demo_scene",
            "--run out/demo_demo_scene --style trails --points '0,20,30;0,25,30' --out pictures",
            "--config configs/default.txt --data_dir my_video.mp4 --export npz,ply",
        ],
        {
            "run": (*table.TRAINED_RUN, *table.RUN),
            f"clip{AS_TRAINED}": table.CLIP,
            f"tracking{AS_TRAINED}": table.TRACKING,
            f"query points{AS_TRAINED}": table.QUERIES,
            "pictures": table.PICTURES,
            "export": table.EXPORT,
        },
    )
    command_line, config = _parse_given(parser, argv)
    args = _with_training(parser, config | command_line)
    if args.random and args.grid_interval:
        raise InputError("--random and --grid_interval are both given, expected one of them: drop the other")
    return args


def parse_evaluate(argv: list[str] | None = None) -> Namespace:
    """Return the flags of evaluate.py; those of the training that are not given are taken from the run.

    For several runs, call this once per run, with its `--data_dir` appended to `argv`. If `--tracks` names tracks to
    score, not those of a training, no run is read.

    Raises:
        InputError: None of `--run`, `--data_dir`, `--tracks`, an unusable run, or values that cannot be used.
    """
    parser = _parser(
        "Score trained runs, or the stored tracks of any tracker. The flags of train.py are accepted, too.",
        [
            "--run out/demo_demo_scene",
            "--config configs/default.txt --data_dir davis/ --benchmark tapvid --gt tapvid_davis.pkl",
            "--tracks tracks.npz --gt data/demo_scene/gt_tracks.npz",
        ],
        {
            "run": (*table.TRAINED_RUN, *table.RUN),
            "benchmark": (*table.BENCHMARK, table.STORED_TRACKS),
            f"clip{AS_TRAINED}": table.CLIP,
            f"tracking{AS_TRAINED}": table.TRACKING,
        },
    )
    command_line, config = _parse_given(parser, argv)
    given = config | command_line
    trained_on_tracks = given.get("dataset_types", "flow") != "flow" and (given.get("run") or given.get("data_dir"))
    if given.get("tracks") and not trained_on_tracks:
        return Namespace(**parser.defaults | given)
    return _with_training(parser, given)


def run_name(args: Namespace) -> str:
    """Return the name of the run's folder: `<expname>_<sequence>`, the sequence named like its file or folder.

    A range of frames (`--frame_range`) is added to it.
    """
    if getattr(args, "run", ""):
        return Path(args.run).resolve().name
    source = Path(args.data_dir)
    name = f"{args.expname}_{source.stem if source.is_file() else source.resolve().name}"
    return f"{name}_{args.frame_range.replace(':', '-')}" if args.frame_range else name


def run_dir(args: Namespace) -> Path:
    """Return the folder of the run's checkpoints and pictures."""
    return Path(getattr(args, "run", "") or Path(args.save_dir) / run_name(args))


def uses_flow(args: Namespace) -> bool:
    """Return whether optical flow supervises the training, alone or beside tracks."""
    return "flow" in args.dataset_types.split("+")


def _parser(description: str, examples: list[str], shown: Mapping[str, Iterable[Flag]]) -> FlagParser:
    """Return a parser that lists the groups `shown` in its help and accepts the flags of a training beside them."""
    text = "\n".join(["examples:", *(f"  python %(prog)s {example}" for example in examples)])
    parser = FlagParser(description, text, foreign=[flag.name for flag in table.FLAGS])
    for title, flags in shown.items():
        parser.add(title, flags, defaults=not title.endswith(AS_TRAINED))
    trained = [flag for flags in table.TRAINING.values() for flag in flags if flag.name not in parser.defaults]
    parser.add("training", trained, shown=False)
    return parser


def _parse_given(parser: FlagParser, argv: list[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the given flags as `FlagParser.parse_given`; a config file's name becomes the default of `--expname`."""
    command_line, config = parser.parse_given(argv)
    parser.defaults["expname"] = Path(command_line["config"]).stem
    return command_line, config


def _with_training(parser: FlagParser, given: dict[str, Any]) -> Namespace:
    """Complete the given flags with those of the run's training."""
    args = Namespace(**parser.defaults | given)
    if not args.run and not args.data_dir:
        raise InputError(
            "--run is missing: give the folder of a run, as in --run out/demo_demo_scene, or the --config and "
            "--data_dir of its training"
        )
    # Imported after parsing: torch takes seconds to load.
    from networks.checkpoints import find_checkpoint, newest_checkpoint, read_checkpoint

    if args.run and not args.ckpt_path:
        path: Path | None = newest_checkpoint(Path(args.run))
    else:
        path = find_checkpoint(run_dir(args), args.ckpt_path)
    flags = read_checkpoint(path).get("flags", {}) if path else {}
    # Without --run, the flags that locate the run are the given ones.
    skipped = NOT_FROM_RUN if args.run else NOT_FROM_RUN | {"data_dir", "expname", "save_dir"}
    if given.keys() & {"mask_dir", "foreground_mask_path"}:
        skipped = skipped | {"mask_label"}  # it was a label of the training's masks
    trained = parser.accepted({name: value for name, value in flags.items() if name not in skipped})
    args = Namespace(**parser.defaults | trained | given)
    if not args.data_dir:
        raise InputError(f"{path} holds no flags of its training: give the --config and --data_dir of its training")
    if "data_dir" not in given and not Path(args.data_dir).exists():
        raise InputError(f"{path} was trained on {args.data_dir}, which does not exist here: give its --data_dir")
    _derive(args)
    _check_run(args)
    return args


def _derive(args: Namespace) -> None:
    """Set the flags whose values depend on `num_iters`."""
    args.lr_warmup = round(args.lr_warmup * args.num_iters if args.lr_warmup < 1 else args.lr_warmup)
    if args.schedule_scale is None:
        args.schedule_scale = args.num_iters / 100_000


def _same_path(a: str, b: str) -> bool:
    return bool(a and b) and Path(a).resolve() == Path(b).resolve()


def _check_run(args: Namespace) -> None:
    """Refuse an experiment name with slashes, and rays that end before they start."""
    if args.expname and Path(args.expname).name != args.expname:
        raise InputError(
            f"--expname is {args.expname!r}, expected a name without slashes: choose the folder with --save_dir"
        )
    if args.min_depth >= args.max_depth:
        raise InputError(f"--min_depth is {args.min_depth}, expected one below --max_depth, which is {args.max_depth}")


def _check_training(args: Namespace) -> None:
    """Refuse flags of a training that contradict one another."""
    if 0 < args.soft_bound < 1e-3:  # it is a divisor, and maps that hardly stretch cannot follow motion
        raise InputError(f"--soft_bound is {args.soft_bound}, expected 0 or a number from 0.001 to 8")
    samples = args.num_pairs * args.num_pts * args.num_samples_ray
    if samples > MOST_SAMPLES:
        raise InputError(
            f"--num_pairs, --num_pts and --num_samples_ray make {samples} samples per batch, expected at most "
            f"{MOST_SAMPLES}: reduce one of them"
        )
    types, weights = args.dataset_types.split("+"), args.dataset_weights
    if len(weights) != len(types):
        raise InputError(f"--dataset_weights is {weights}, expected one for each of --dataset_types {'+'.join(types)}")
    if ("tracks" in types) != bool(args.tracks):
        found = "is given" if args.tracks else "is missing"
        raise InputError(
            f"--tracks {found}, but --dataset_types is {args.dataset_types}: tracks need --tracks FILE and "
            "--dataset_types tracks or flow+tracks"
        )
    if args.draw_on_device and args.dataset_types != "flow":
        raise InputError(
            f"--draw_on_device samples only flow, but --dataset_types is {args.dataset_types}: give flow, or drop it"
        )
    for name in ("use_error_map", "depth_prior", "motion_share"):
        if getattr(args, name) and not uses_flow(args):
            off = "false" if name == "use_error_map" else "0"
            raise InputError(f"--{name} needs flow, but --dataset_types is tracks: give --{name} {off}, or add flow")
