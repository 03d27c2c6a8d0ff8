"""Times of a command's progress bars: `python benchmarks/stage_times.py REPORT SCRIPT flags…`.

Runs the script of any checkout as `python SCRIPT flags…` does, and writes to REPORT, as JSON, the CPU and wall seconds
in which each progress bar of tqdm was the innermost open one. `benchmarks.whole` starts it. It imports nothing of the
project, whose modules would take the place of the script's own.
"""

import json
import resource
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

NESTED = " > "  # between the names of nested bars; no open bar has the empty name


def cpu_seconds(*whose: int) -> float:
    """Return the CPU time of all threads of these processes: `resource.RUSAGE_SELF`, `resource.RUSAGE_CHILDREN`."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whose))


def read_clocks() -> tuple[float, float]:
    """Return CPU seconds, those of finished child processes included, and wall seconds."""
    return cpu_seconds(resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN), time.perf_counter()


class StageTimes:
    """Seconds between the creation and the close of each bar, without those of the bars nested in it.

    Args:
        clocks: Returns CPU and wall seconds.
    """

    def __init__(self, clocks: Callable[[], tuple[float, float]] = read_clocks) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}
        self._clocks, self._before = clocks, clocks()
        self._bars: list[tuple[int, str]] = []  # the open ones; a reference would keep an abandoned bar open

    def open(self, bar: int, name: str) -> None:
        """Begin a bar, which is known by its id."""
        self.count()
        self._bars.append((bar, name))

    def close(self, bar: int) -> None:
        """End a bar, wherever it is among the open ones; a second time has no effect."""
        self.count()
        self._bars = [each for each in self._bars if each[0] != bar]

    def count(self) -> None:
        """Add the time since the last event to the innermost bar."""
        now, name = self._clocks(), NESTED.join(name for _, name in self._bars)
        cpu, wall = self.seconds.get(name, (0.0, 0.0))
        self.seconds[name] = cpu + now[0] - self._before[0], wall + now[1] - self._before[1]
        self._before = now


def watch_bars(times: StageTimes) -> None:
    """Count the time of all bars from now on, however the code imports tqdm; disabled ones are left out."""
    create, close = tqdm.__init__, tqdm.close

    def watched_create(bar: tqdm, *values: Any, **options: Any) -> None:
        create(bar, *values, **options)
        if not bar.disable:
            times.open(id(bar), bar.desc)

    def watched_close(bar: tqdm) -> None:
        close(bar)
        times.close(id(bar))

    tqdm.__init__, tqdm.close = watched_create, watched_close


def main(report: str, script: str, *flags: str) -> None:
    """Run the script in this process; its exit status is the script's."""
    times = StageTimes()
    watch_bars(times)
    sys.path[0], sys.argv = str(Path(script).parent), [script, *flags]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        times.count()
        Path(report).write_text(json.dumps(times.seconds), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
