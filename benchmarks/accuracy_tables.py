"""Tables of `benchmarks.accuracy`: scenes and their mean, and groups of queries, with the spread over the seeds."""

from collections.abc import Sequence
from statistics import mean

from benchmarks.tables import code_and_machine, markdown_table, mean_and_deviation

MODEL = "OmniMotion"
LOW_IS_GOOD = ("visible lost", "TC", "px visible", "visible 90%", "px occluded", "occluded 90%")  # of the columns

Row = dict[str, float | None]  # JSON's null is a score that does not exist
Trackers = dict[str, list[Row]]  # tracker → its rows of each seed


def accuracy_tables(runs: list[dict]) -> str:
    """Return a Markdown table of the scenes and their mean for each set of metrics, and one of the groups of queries.

    Args:
        runs: Scene, config, seed and scores of each run.
    """
    by_columns: dict[tuple[str, ...], dict[str, Trackers]] = {}
    for name, trackers in rows_by_scene(runs).items():
        by_columns.setdefault(tuple(next(iter(trackers.values()))[0]), {})[name] = trackers
    parts = [_scene_table(columns, scenes) for columns, scenes in by_columns.items()]
    if groups := _groups(runs):
        parts.append("Groups of queries, mean over the scenes that have them:")
        parts.append(_group_table({group: rows_by_scene(runs, group) for group in groups}))
    made_by = code_and_machine(run["scores"] for run in runs)
    parts.append(f"± standard deviation over the seeds; worst: of them, for each column. Code and machine: {made_by}.")
    return "\n\n".join(parts)


def rows_by_scene(runs: list[dict], group: str | None = None) -> dict[str, Trackers]:
    """Return the scenes' trackers with a row of each seed, flow's once; a model is named after its config.

    Args:
        runs: The runs.
        group: The group of queries whose rows are returned, of the scenes that have it; None returns the overall rows.
    """
    found: dict[str, Trackers] = {}
    for run in runs:
        for tracker, row in _rows_of_run(run, group).items():
            rows = found.setdefault(run["scene"], {}).setdefault(run["config"] if tracker == MODEL else tracker, [])
            if tracker == MODEL or not rows:
                rows.append(row)
    return found


def mean_over_scenes(scenes: Sequence[Trackers]) -> Trackers:
    """Return the mean over scenes, seed by seed, of the trackers that all scenes have with as many seeds."""
    means = {}
    for tracker, rows in scenes[0].items():
        others = [scene.get(tracker, []) for scene in scenes]
        if all(len(each) == len(rows) for each in others):
            means[tracker] = [
                {key: _known_mean([each[seed].get(key) for each in others]) for key in row}
                for seed, row in enumerate(rows)
            ]
    return means


def _groups(runs: list[dict]) -> list[str]:
    """Return the names of all groups of queries, in order of their appearance."""
    return list(dict.fromkeys(group for run in runs for rows in _rows_by_group(run).values() for group in rows))


def _rows_of_run(run: dict, group: str | None) -> dict[str, Row]:
    if group is None:
        return run["scores"]["mean"]
    return {tracker: rows[group] for tracker, rows in _rows_by_group(run).items() if group in rows}


def _rows_by_group(run: dict) -> dict[str, dict[str, Row]]:
    """Return tracker → group → row; runs of earlier versions have no groups."""
    return run["scores"].get("by_group", {}).get(run["scene"], {})


def _scene_table(columns: Sequence[str], scenes: dict[str, Trackers]) -> str:
    blocks = dict(scenes)
    if len(scenes) > 1:
        blocks[f"mean of {len(scenes)}"] = mean_over_scenes(list(scenes.values()))
    cells = [[name, *line] for name, trackers in blocks.items() for line in _lines(trackers, columns)]
    return markdown_table(["scene", "tracker", "runs", *columns], cells)


def _group_table(groups: dict[str, dict[str, Trackers]]) -> str:
    cells, columns = [], list[str]()
    for group, scenes in groups.items():
        rows = [next(iter(trackers.values()))[0] for trackers in scenes.values()]
        queries = sum(row["queries"] or 0 for row in rows)
        columns = [key for key in rows[0] if key != "queries"]
        means = mean_over_scenes(list(scenes.values()))
        cells += [[group, str(len(scenes)), str(queries), *line] for line in _lines(means, columns)]
    return markdown_table(["group", "scenes", "queries", "tracker", "runs", *columns], cells)


def _lines(trackers: Trackers, columns: Sequence[str]) -> list[list[str]]:
    """Return cells of each tracker: its mean over the seeds, and below that the worst of several seeds."""
    lines = []
    for tracker, rows in trackers.items():
        values = [[row.get(key) for row in rows] for key in columns]
        lines.append([tracker, str(len(rows)), *map(mean_and_deviation, values)])
        if len(rows) > 1:
            lines.append([f"{tracker}, worst", "", *map(_worst, columns, values)])
    return lines


def _worst(column: str, values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return mean_and_deviation([(max if column in LOW_IS_GOOD else min)(known)] if known else [])


def _known_mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None
