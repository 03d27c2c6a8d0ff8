"""Tables of `benchmarks.whole`: what runs of two checkouts cost and scored, and the times of their stages."""

import re
from collections.abc import Sequence
from statistics import median

from benchmarks.stage_times import NESTED
from benchmarks.tables import code_and_machine, markdown_table

SIDES = ("old", "new")
SCORES = ("<d_avg", "AJ", "OA")
REST, WHOLE = "rest", "whole"  # of a command: outside all bars, and in all
STAGES = {  # name → the bars of either checkout that belong to it; any other bar is a stage of its own
    "frames": "frames|looking for cuts|decoding .*",
    "flow": r"flow\b.*",
    "features": r"features\b.*",
    "filter": r"filter\b.*",
    "chain": r"chain\b.*",
    "depth prior": "depth prior|independent motion|occlusion votes|depth from motion|who hides whom",
    "evaluation": "tracking queries|tracking points",
    "pictures": r"rendering|(\d+_)?(grid|trails)",
    "page": r"page\b.*",
}

Times = dict[str, list[float]]  # bar → CPU and wall seconds


def whole_tables(runs: Sequence[dict]) -> str:
    """Return two Markdown tables: each run and the medians of both sides; each stage's medians and their ratio.

    Args:
        runs: Clip, side, seed, repeat, times of each command, scores and provenance of each run.
    """
    units = ["CPU s", "wall s"]
    run_table = markdown_table(["clip", "run", *units, *SCORES], _run_rows(runs))
    compared = [f"{name}, {unit}" if name in SIDES else name for unit in units for name in (*SIDES, "new/old")]
    stage_table = markdown_table(["clip", "command", "stage", *compared], _stage_rows(runs))
    made_by = f"Medians over the runs of each clip. Code and machine: {code_and_machine(runs)}."
    return f"{run_table}\n\n{stage_table}\n\n{made_by}"


def _run_rows(runs: Sequence[dict]) -> list[list[str]]:
    """Return cells of each run, then of the medians of both sides and of their ratio."""
    rows = []
    for clip, of_clip in _by_clip(runs).items():
        rows += [
            [clip, f"{run['side']}, seed {run['seed']}, repeat {run['repeat']}", *_run_cells([run])] for run in of_clip
        ]
        sides = {side: [run for run in of_clip if run["side"] == side] for side in SIDES}
        rows += [[clip, f"{side}, median", *_run_cells(of_side)] for side, of_side in sides.items()]
        old, new = ([_median_of(each, k) for k in (0, 1)] for each in sides.values())
        rows.append([clip, "new/old", *(_ratio(*pair) for pair in zip(old, new, strict=True)), *[""] * len(SCORES)])
    return rows


def _by_clip(runs: Sequence[dict]) -> dict[str, list[dict]]:
    return {clip: [run for run in runs if run["clip"] == clip] for clip in dict.fromkeys(run["clip"] for run in runs)}


def _run_cells(runs: Sequence[dict]) -> list[str]:
    scores = [[run["scores"][name] for run in runs if name in run["scores"]] for name in SCORES]
    return [
        *(f"{_median_of(runs, k):.1f}" for k in (0, 1)),
        *(f"{median(each):.3f}" if each else "-" for each in scores),
    ]


def _median_of(runs: Sequence[dict], clock: int) -> float:
    """Return the median CPU seconds (clock 0) or wall seconds (1) of all commands."""
    return median(sum(times[WHOLE][clock] for times in run["times"].values()) for run in runs)


def _stage_rows(runs: Sequence[dict]) -> list[list[str]]:
    """Return cells of each clip, command and stage."""
    rows = []
    for clip, of_clip in _by_clip(runs).items():
        for script in of_clip[0]["times"]:
            sides = [[stages(script, run["times"][script]) for run in of_clip if run["side"] == side] for side in SIDES]
            names = dict.fromkeys(name for side in reversed(sides) for times in side for name in times)
            bars = [name for name in names if name not in (REST, WHOLE)]
            for name in (*bars, REST, WHOLE):
                found = [[times[name] for times in side if name in times] for side in sides]
                rows.append([clip, script, name, *_compared(found, 0), *_compared(found, 1)])
    return rows


def _compared(sides: Sequence[Sequence[Sequence[float]]], clock: int) -> list[str]:
    """Return cells: the medians of a stage on both sides, and their ratio; a dash where a side lacks the stage."""
    old, new = (median(seconds[clock] for seconds in side) if side else None for side in sides)
    return [*("-" if value is None else f"{value:.2f}" for value in (old, new)), _ratio(old, new)]


def _ratio(old: float | None, new: float | None) -> str:
    return "-" if new is None or not old else f"{new / old:.2f}"


def stages(script: str, times: Times) -> Times:
    """Return CPU and wall seconds of the stages of a command, given those of its bars."""
    found: Times = {}
    for bar, seconds in times.items():
        total = found.setdefault(_stage_of(script, bar), [0.0, 0.0])
        total[:] = [before + more for before, more in zip(total, seconds, strict=True)]
    return found


def _stage_of(script: str, bar: str) -> str:
    """Return the stage of a bar; `outer (inner)` if the bar is nested in one of another stage."""
    names = [_stage_of_one(script, name) for name in bar.split(NESTED)]
    return names[0] if names[0] == names[-1] else f"{names[0]} ({names[-1]})"


def _stage_of_one(script: str, name: str) -> str:
    found = next((stage for stage, bars in STAGES.items() if re.fullmatch(bars, name)), name or "unnamed")
    # There flow, depth and canonical are styles.
    return "pictures" if script == "viz.py" and found not in ("frames", "page", REST, WHOLE) else found
