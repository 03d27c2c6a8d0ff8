"""Score trained models, or stored tracks: `python evaluate.py --config configs/demo.txt`.

Takes the flags of the training; `--data_dir` may be a folder of sequence folders, each with a run of its own. Prints
the figures of the model beside those of its flow and leaves them as `scores.json`, its tracks and a picture of its
errors in the run's folder. `python evaluate.py --tracks tracks.npz --gt FILE` scores the tracks of any tracker.
"""

import os

# Waiting threads must not spin: beside other programs training would slow to a crawl. Set before torch starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from argparse import Namespace

from evaluation.ground_truth import Truth
from evaluation.runs import Results, evaluate_runs, evaluate_stored, mean_rows
from evaluation.scoring import title
from evaluation.tables import format_table
from utils.config import build_parser, parse_config
from utils.errors import InputError, exit_on_input_error


def print_results(results: Results, truth: Truth, args: Namespace) -> None:
    """A table for each video, the mean of several, and with `--split gap` the scores by distance from the query."""
    print(title(truth, args.query_mode))
    for video, scores in results.items():
        print(f"\n{video}\n{format_table({name: each.row for name, each in scores.items()})}")
        if args.split == "gap":
            rows = {f"{name}, {gap}": row for name, each in scores.items() for gap, row in each.by_gap.items()}
            print(f"\n{video} by frames from the query\n{format_table(rows)}")
    if len(results) > 1:
        print(f"\nmean of {len(results)} videos\n{format_table(mean_rows(results))}")


@exit_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Score what the flags name, print and write the scores."""
    args = build_parser().parse_args(argv)
    if args.split and args.benchmark == "badja":
        raise InputError("--split gap breaks down TAP-Vid's scores, which --benchmark badja has not: drop one of them")
    if args.tracks and (not args.data_dir or args.dataset_types == "flow"):  # else it is what the run was trained on
        results, truth, written = evaluate_stored(args)
    else:
        args = parse_config(argv)
        results, truth, written = evaluate_runs(args)
    print_results(results, truth, args)
    print(f"wrote {written}")


if __name__ == "__main__":
    main()
