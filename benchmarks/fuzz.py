"""Damaged files for every reader: `python -m benchmarks.fuzz --examples 20000 [--readers checkpoint config]`.

The strategies of tests/test_fuzz.py with other inputs in each call: prints how many were read, refused in a sentence,
and what ended otherwise (with exit status 1).
"""

import argparse
import contextlib
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from tqdm import tqdm

from evaluation.tables import format_table
from tests.readers import READERS, damaged, prepare
from utils.atomic import write_atomic
from utils.errors import InputError


def fuzz(name: str, examples: int, start: int) -> dict[str, float]:
    """How many inputs of one reader were read, refused and neither (each such kind is printed once), and seconds."""
    found, begun = Counter(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, tqdm(total=examples, desc=name, unit="file") as bar:
        reader = READERS[name]
        good = prepare(reader, Path(folder))

        @seed(start)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(damaged(good))
        def check(data: bytes) -> None:
            bar.update()
            found[outcome(lambda: reader.read(Path(folder)), Path(folder) / reader.path, data)] += 1

        check()
    for what in found.keys() - {"read", "refused"}:
        print(f"{name}: {what}")
    failed = found.total() - found["read"] - found["refused"]
    return {"inputs": found.total(), "read": found["read"], "refused": found["refused"], "failed": failed} | {
        "s": time.perf_counter() - begun
    }


def outcome(read, path: Path, data: bytes) -> str:
    """What reading a file of these bytes comes to, in a word, or the exception and its place."""
    path.write_bytes(data)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            read()
        return "read"
    except (InputError, SystemExit) as error:
        return "refused" if getattr(error, "code", 2) == 2 else f"exit status {error.code}"
    except Exception as error:
        trace = error.__traceback__
        while trace.tb_next:
            trace = trace.tb_next
        return f"{type(error).__name__}: {str(error)[:100]} ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=20000, help="inputs of each reader")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS), help="only these")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="of the inputs")
    parser.add_argument("--out", type=Path, default=Path("fuzz.json"), help="figures as JSON")
    args = parser.parse_args()
    rows = {name: fuzz(name, args.examples, args.seed) for name in args.readers}
    print(format_table(rows))
    write_atomic(args.out, json.dumps({"seed": args.seed, "rows": rows}, indent=1).encode())
    sys.exit(any(row["failed"] for row in rows.values()))


if __name__ == "__main__":
    main()
