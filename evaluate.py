"""Score a trained model against exact tracks: `python evaluate.py --config configs/demo.txt`.

Takes the flags of the training. Prints TAP-Vid's metrics of the model beside those of the raw flow, if any, that it was
trained from, and leaves them as `scores.json` in the run's folder.
"""

import json

from runs import load_trained, open_clip
from scoring import compare_with_flow, comparison_text, load_exact_tracks
from utils.atomic import atomic_path
from utils.config import parse_config, pick_device, run_dir
from utils.errors import InputError, exits_on_input_error


@exits_on_input_error
def main(argv: list[str] | None = None) -> None:
    """Load what the flags name, track, print and write the scores."""
    args = parse_config(argv)
    clip = open_clip(args)
    exact = load_exact_tracks(clip.paths, len(clip.names))
    if exact is None:
        raise InputError(
            f"{clip.paths.gt_tracks} is missing: scores need exact tracks (points [N,T,2], occluded [N,T])"
        )
    model = load_trained(args, clip.video, pick_device(args.device))
    rows = compare_with_flow(model, clip.paths, clip.names, exact, args)
    print(comparison_text(rows))
    with atomic_path(run_dir(args) / "scores.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"wrote {run_dir(args) / 'scores.json'}")


if __name__ == "__main__":
    main()
