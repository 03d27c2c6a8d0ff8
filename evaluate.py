"""Score trained models, or stored tracks: `python evaluate.py --config configs/demo.txt` or `--run out/<run>`.

`--data_dir` may be a folder of sequence folders, each with its own run. The scores of a model and of its input flow are
printed and written as `scores.json` into the run's folder, beside the model's tracks and a picture of its errors.
`python evaluate.py --tracks tracks.npz --gt FILE` scores the tracks of any tracker.
"""

import os

# Waiting threads must not spin: beside other programs scoring would slow to a crawl. Set before torch starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys
from argparse import Namespace
from pathlib import Path

from configs.flags import parse_evaluate, run_dir, uses_flow
from utils.config import select
from utils.errors import exit_on_input_error


@exit_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Score the runs or the stored tracks, print the scores and write them."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_evaluate(argv)
    # Imported after parsing: torch takes seconds to load, and `--help` must not wait for it.
    from evaluation.options import EvaluationOptions
    from evaluation.runs import Run, evaluate_runs, sequence_folders
    from evaluation.stored_tracks import evaluate_stored
    from loaders.clip_masks import MaskOptions
    from networks.model_config import ModelConfig
    from networks.tracks import TrackingOptions

    def run_of(flags: Namespace) -> Run:
        return select(
            Run,
            flags,
            data_dir=Path(flags.data_dir),
            folder=run_dir(flags),
            config=select(ModelConfig, flags, num_frames=0, height=0, width=0),
            tracking=select(TrackingOptions, flags),
            mask_options=select(MaskOptions, flags),
            uses_flow=uses_flow(flags),
            settings=vars(flags),
        )

    options = select(EvaluationOptions, args)
    if args.tracks and (not args.data_dir or args.dataset_types == "flow"):  # otherwise the run was trained on them
        report, written = evaluate_stored(Path(args.tracks), options, select(MaskOptions, args), vars(args))
    else:
        root = Path(args.data_dir)
        folders = [] if (root / "color").is_dir() else sequence_folders(root)
        flags_of_runs = [parse_evaluate([*argv, "--data_dir", str(folder)]) for folder in folders] or [args]
        summary = Path(args.save_dir) / f"{args.expname}_scores.json"
        report, written = evaluate_runs([run_of(flags) for flags in flags_of_runs], options, summary, vars(args))
    print(f"{report.text()}\nwrote {written}")


if __name__ == "__main__":
    main()
