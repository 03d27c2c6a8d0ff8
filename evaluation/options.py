"""Options of every evaluation."""

from dataclasses import dataclass
from typing import Literal

Benchmark = Literal["tracks", "tapvid", "badja"]
QueryMode = Literal["first", "strided"]


@dataclass(frozen=True)
class EvaluationOptions:
    """Kind of ground truth, its file (empty: that of the sequence), and the frames in which points are queried."""

    benchmark: Benchmark = "tracks"
    gt: str = ""
    query_mode: QueryMode = "strided"
