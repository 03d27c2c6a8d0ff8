"""How predictions are scored: the options that every evaluation has."""

from dataclasses import dataclass
from typing import Literal

Benchmark = Literal["tracks", "tapvid", "badja"]
QueryMode = Literal["first", "strided"]


@dataclass(frozen=True)
class EvaluationOptions:
    """The kind of truth, its file (empty: the one of the sequence), and which frames points are queried in."""

    benchmark: Benchmark = "tracks"
    gt: str = ""
    query_mode: QueryMode = "strided"
