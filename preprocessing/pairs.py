"""The ordered pairs of frames that have flow, and the order of their estimation.

Mode "all" has every pair, as released; each flow is initialised with the flow to the frame before. Mode "sparse" has
every gap up to `WINDOW`, then doubled gaps (16, 32, …), so that the number of pairs grows as N log N; a flow over a
doubled gap is initialised with its two halves.

A sweep is a source frame and its targets in one direction, by growing gap: (5, [6, 7, 8]) or (5, [4, 3]).
"""

from dataclasses import dataclass

WINDOW = 8  # frames
Pair = tuple[int, int]  # frame ids (source, target)
Sweep = tuple[int, list[int]]  # source, targets


@dataclass(frozen=True)
class Pairs:
    """The pairs of a clip of `num_frames` frames; `mode` is "all" or "sparse"."""

    num_frames: int
    mode: str = "all"

    @property
    def window(self) -> int:
        """Largest gap of the sweeps, up to which every gap occurs."""
        return self.num_frames - 1 if self.mode == "all" else min(WINDOW, self.num_frames - 1)

    def doubled_gaps(self) -> list[int]:
        """Return the gaps beyond the window, ascending."""
        gaps, gap = [], 2 * self.window
        while gap < self.num_frames:
            gaps.append(gap)
            gap *= 2
        return gaps

    def sweeps(self) -> list[Sweep]:
        """Return the sweeps within the window: those of all frames forwards, then backwards."""
        last = self.num_frames - 1
        forwards = [(i, list(range(i + 1, min(i + self.window, last) + 1))) for i in range(self.num_frames)]
        backwards = [(i, list(range(i - 1, max(i - self.window, 0) - 1, -1))) for i in range(self.num_frames)]
        return [(i, targets) for i, targets in forwards + backwards if targets]

    def with_gap(self, gap: int) -> list[Pair]:
        """Return the pairs (i, j) with |i − j| = `gap`."""
        forwards = [(i, i + gap) for i in range(self.num_frames - gap)]
        return forwards + [(j, i) for i, j in forwards]

    def all(self) -> list[Pair]:
        """Return every pair, in the order of estimation."""
        swept = [(i, j) for i, targets in self.sweeps() for j in targets]
        return swept + [pair for gap in self.doubled_gaps() for pair in self.with_gap(gap)]

    def named(self, names: list[str]) -> list[tuple[str, str]]:
        """Return every pair as frame names."""
        return [(names[i], names[j]) for i, j in self.all()]
