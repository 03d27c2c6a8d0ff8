"""What a GPU computes and how fast: `python -m benchmarks.gpu --minutes 10 [--shared ../shared] [--out DIR]`.

Correctness first, then times, whole commands and scores; `benchmarks/gpu_parts.py` says what each part does. Each has a
process of its own and a share of the minutes, to which falls what earlier parts left over. After each part, `gpu.json`
and the tables in `gpu.md` are written: a part that fails or is ended at its limit is recorded with the reason and what
it had reported, and the next one starts. The same command makes the parts that are not done. The exit status is 0 if
all checks of correctness passed, else 1. `--device cpu` runs the same on a CPU.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.gpu_parts import PARTS
from benchmarks.gpu_setup import Setup
from benchmarks.gpu_tables import gpu_tables
from benchmarks.measure import read_kept
from evaluation.provenance import REPOSITORY, provenance
from utils.atomic import write_atomic
from utils.device import pick_device
from utils.errors import InputError, exit_on_input_error

GRACE = 10.0  # seconds in which a part that is ended reports what it has, and a training saves its state
DONE, FAILED, LATE, SKIPPED = "done", "failed", "over its limit", "skipped"


@dataclass(frozen=True)
class Outcome:
    """How a part ended, and what it reported."""

    status: str
    reason: str = ""
    limit: float = 0.0  # seconds
    seconds: float = 0.0
    result: dict | None = None


def run_part(name: str, setup: Setup, limit: float) -> Outcome:
    """Run a part in a process of its own, and end it with all processes that it started after `limit` seconds."""
    if missing := PARTS[name].missing(setup):
        return Outcome(SKIPPED, missing)
    folder = setup.folder(name)
    setup.report_of(name).unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, *setup.flags()]
    start = time.monotonic()
    with (folder / "stdout.txt").open("w") as out, (folder / "stderr.txt").open("w") as errors:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=out, stderr=errors, start_new_session=True)
        try:
            code: int | None = process.wait(limit)
            reason = ""
        except subprocess.TimeoutExpired:
            code, reason = None, last_line(folder / "stderr.txt")  # before it says that it was ended
        finally:  # Ctrl-C included
            end_group(process)
    seconds, report = time.monotonic() - start, setup.report_of(name)
    result = json.loads(report.read_text(encoding="utf-8")) if report.exists() else None
    if code == 0:
        return Outcome(DONE, "", limit, seconds, result)
    if code is None:
        return Outcome(LATE, reason or "it printed nothing", limit, seconds, result)
    return Outcome(FAILED, last_line(folder / "stderr.txt") or f"exit status {code}", limit, seconds, result)


def end_group(process: subprocess.Popen) -> None:
    """End a process and those that it started: kindly, and after `GRACE` seconds by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                continue
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what outlived it


def last_line(log: Path) -> str:
    """Return the last line of an output that is not blank."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def limit_of(name: str, names: Sequence[str], left: float) -> float:
    """Return the seconds of a part: of those left, its share among the parts that are still to run."""
    shares = [PARTS[each].share for each in names[names.index(name) :]]
    return left * PARTS[name].share / sum(shares)


def run_parts(setup: Setup, names: Sequence[str], seconds: float) -> dict[str, dict]:
    """Run the parts that are not done, and write their outcomes after each."""
    report, settings = setup.out / "gpu.json", {"device": setup.device, "configs": str(setup.configs)}
    kept = (read_kept(report, settings) or {}).get("parts", {})
    todo = [name for name in names if kept.get(name, {}).get("status") != DONE]
    end = time.monotonic() + seconds
    for name in todo:
        outcome = run_part(name, setup, limit_of(name, todo, max(0.0, end - time.monotonic() - GRACE)))
        kept[name] = {**asdict(outcome), **provenance()}
        parts = {each: kept[each] for each in PARTS if each in kept}
        write_atomic(report, json.dumps({"settings": settings, "parts": parts}, indent=1).encode())
        write_atomic(setup.out / "gpu.md", (gpu_tables(parts) + "\n").encode())
        took = f"{outcome.seconds:.0f} of {outcome.limit:.0f} s"
        print(f"{name}: {outcome.status}, {took}{f', {outcome.reason}' if outcome.reason else ''}", flush=True)
    return {each: kept[each] for each in PARTS if each in kept}


def parse() -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=10.0, help="in which all parts end")
    parser.add_argument(
        "--shared", type=Path, default=REPOSITORY.parent / "shared", help="clips, weights, golden files"
    )
    parser.add_argument(
        "--configs", type=Path, default=REPOSITORY / "configs", help="folder of the settings to measure"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1 or cpu")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="where everything is kept")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="which parts, in order")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)  # the one that this process runs
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    """Run all parts, or in a part's process that part."""
    args = parse()
    setup = Setup(args.shared.resolve(), args.configs.resolve(), args.device, args.out.resolve())
    if args.part:  # whose process must not touch the device before: some start forks
        PARTS[args.part].run(setup)
        return
    if args.minutes <= 0:
        raise InputError(f"--minutes is {args.minutes}, expected more than 0")
    setup = replace(setup, device=str(pick_device(args.device)))
    if not setup.measured_configs():
        raise InputError(f"{setup.configs} has neither fast_gpu.txt, fast.txt nor default.txt: give a folder with one")
    parts = run_parts(setup, args.parts, 60 * args.minutes)
    print(f"\n{gpu_tables(parts)}\n\nwrote {setup.out / 'gpu.json'} and gpu.md")
    if any(parts[name]["status"] != DONE for name in args.parts if PARTS[name].is_check):
        sys.exit(1)


if __name__ == "__main__":
    main()
