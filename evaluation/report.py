"""The scores of an evaluation, as text for the terminal and as `scores.json`."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.ground_truth import Truth
from evaluation.options import QueryMode
from evaluation.provenance import provenance
from evaluation.scoring import Scores, title
from evaluation.tables import Row, format_table
from utils.atomic import atomic_path

Results = dict[str, dict[str, Scores]]  # video → tracker → its scores


@dataclass
class Report:
    """Scores of videos by one benchmark; the time since its creation is written with them."""

    query_mode: QueryMode
    results: Results = field(default_factory=dict)
    trained: dict[str, dict] = field(default_factory=dict)  # video → how its model was trained
    benchmark: str = ""
    title: str = ""
    start: float = field(default_factory=time.perf_counter)

    def add(self, video: str, scores: Mapping[str, Scores], truth: Truth, trained: dict | None = None) -> None:
        """Add the scores of trackers on a video, and how the model among them was trained."""
        self.results.setdefault(video, {}).update(scores)
        self.benchmark, self.title = truth.benchmark, title(truth, self.query_mode)
        if trained is not None:
            self.trained[video] = trained

    def merge(self, other: "Report") -> None:
        """Add the scores of another report on other videos."""
        self.results.update(other.results)
        self.trained.update(other.trained)
        self.benchmark, self.title = other.benchmark, other.title

    def text(self) -> str:
        """Return tables of each video, overall, by frame gap and by group, and the mean over several videos."""
        parts = [self.title]
        for video, trackers in self.results.items():
            parts.append(f"{video}\n{format_table({name: scores.row for name, scores in trackers.items()})}")
            by_gap = {f"{name}, {gap}": row for name, scores in trackers.items() for gap, row in scores.by_gap.items()}
            if by_gap:
                parts.append(f"{video}, by frames from the query\n{format_table(by_gap)}")
            # All trackers have the same groups. Those of one group stand together, to be compared.
            groups = next(iter(trackers.values())).by_group
            by_group = {f"{group}, {name}": s.by_group[group] for group in groups for name, s in trackers.items()}
            if by_group:
                parts.append(f"{video}, by group of queries\n{format_table(by_group)}")
        if len(self.results) > 1:
            parts.append(f"mean of {len(self.results)} videos\n{format_table(mean_rows(self.results))}")
        return "\n\n".join(parts)

    def write(self, path: Path, settings: Mapping[str, object]) -> None:
        """Write the scores as JSON, with the settings, the code, the time and the machine; NaN becomes null."""
        content = {
            "benchmark": self.benchmark,
            "query_mode": self.query_mode,
            **provenance(),
            "seconds": round(time.perf_counter() - self.start, 1),
            "settings": dict(settings),
            "trained": self.trained,
            "videos": {video: {name: s.row for name, s in found.items()} for video, found in self.results.items()},
            "by_gap": {video: {name: s.by_gap for name, s in found.items()} for video, found in self.results.items()},
            "by_group": {
                video: {name: s.by_group for name, s in found.items()} for video, found in self.results.items()
            },
            "mean": mean_rows(self.results),
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(_nan_to_none(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def mean_rows(results: Results) -> dict[str, Row]:
    """Return each tracker's metrics, averaged over the videos in which they exist; NaN where in none."""
    means: dict[str, Row] = {}
    for tracker in dict.fromkeys(name for trackers in results.values() for name in trackers):
        rows = [trackers[tracker].row for trackers in results.values() if tracker in trackers]
        means[tracker] = {key: _known_mean([row[key] for row in rows]) for key in rows[0]}
    return means


def _known_mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _nan_to_none(value: object) -> object:
    if isinstance(value, dict):
        return {key: _nan_to_none(each) for key, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
