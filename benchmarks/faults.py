"""What happens to a run that is interrupted: `python -m benchmarks.faults [--trials 50] [--seed 0] [--json FILE]`.

Preprocessing and training of a tiny scene are killed, stopped, left without room on the disk or permission to write,
started twice, and lose a worker, at random moments; then the same command is run again. `tests/oracles/faults.py`
says what is counted. Linux; the disks need root.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import write_json
from evaluation.tables import Row, format_table
from tests.oracles.faults import KINDS, make_commands, run_trials


def main() -> None:
    """Run all kinds of trials, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=50, help="kills of each command; a fifth of it of other kinds")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="which disturbances")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    args = parser.parse_args()
    rows: dict[str, Row] = {}
    torch.set_num_threads(1)  # a fork does not inherit others, and would wait for them
    with tempfile.TemporaryDirectory() as folder:
        commands = make_commands(Path(folder))
        for kind in args.kinds:
            names = ["training with workers"] if kind == "a worker killed" else ["preprocessing", "training"]
            count = {"kill -9": args.trials, "read-only folder": 1}.get(kind, max(1, args.trials // 5))
            for name in names:
                # A stream for each: leaving a kind out changes no moment of the others.
                rng = np.random.default_rng([args.seed, list(KINDS).index(kind), names.index(name)])
                rows[f"{name}, {kind}"] = run_trials(commands[name], kind, count, rng, Path(folder))
                write_json(args.json, rows)
    print(format_table(rows))


if __name__ == "__main__":
    main()
