"""Which ordered pairs of frames have flow, and in which order they are made.

all: every pair, as released; a flow starts from the one a frame nearer. sparse: every gap up to `WINDOW` and then
doubled gaps (16, 32, …), so that their number grows as N log N; a doubled gap starts from its two halves.
"""

from dataclasses import dataclass

WINDOW = 8


@dataclass(frozen=True)
class Pairs:
    """The pairs of a clip of `num_frames` frames in a mode."""

    num_frames: int
    mode: str = "all"

    @property
    def reach(self) -> int:
        """The largest gap up to which every gap is there."""
        return self.num_frames - 1 if self.mode == "all" else min(WINDOW, self.num_frames - 1)

    def doublings(self) -> list[int]:
        """The gaps beyond `reach`, in the order in which they can be made."""
        gaps, gap = [], 2 * self.reach
        while gap < self.num_frames:
            gaps.append(gap)
            gap *= 2
        return gaps

    def sweeps(self) -> list[tuple[int, list[int]]]:
        """(i, targets by growing gap up to `reach`), forwards and then backwards, for every frame that has any."""
        last = self.num_frames - 1
        forwards = [(i, list(range(i + 1, min(i + self.reach, last) + 1))) for i in range(self.num_frames)]
        backwards = [(i, list(range(i - 1, max(i - self.reach, 0) - 1, -1))) for i in range(self.num_frames)]
        return [(i, targets) for i, targets in forwards + backwards if targets]

    def at_gap(self, gap: int) -> list[tuple[int, int]]:
        """The ordered pairs (i, j) with |i − j| = `gap`."""
        forwards = [(i, i + gap) for i in range(self.num_frames - gap)]
        return forwards + [(j, i) for i, j in forwards]

    def all(self) -> list[tuple[int, int]]:
        """Every ordered pair (i, j)."""
        swept = [(i, j) for i, targets in self.sweeps() for j in targets]
        return swept + [pair for gap in self.doublings() for pair in self.at_gap(gap)]

    def named(self, names: list[str]) -> list[tuple[str, str]]:
        """Return every ordered pair as frame names."""
        return [(names[i], names[j]) for i, j in self.all()]
