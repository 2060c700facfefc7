"""What came of a scenario: one line of the table."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

HEAD = ("scenario", "kills", "restarts", "accepted", "lost", "doubled", "recovered in", "took")


@dataclass
class Result:
    """Counts of one scenario; ``broken`` names each promise that was not kept."""

    name: str
    kills: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    #: Seconds until each program that was killed was back.
    back: dict[str, list[float]] = field(default_factory=dict)
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    #: Seconds until all was done after the trouble was over.
    recovered: float = 0.0
    took: float = 0.0
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def judge(self) -> None:
        """What every scenario promises."""
        self.demand(not self.lost, f"{self.lost} accepted and lost")
        self.demand(not self.doubled, f"{self.doubled} doubled")

    def demand(self, kept: bool, broken: str) -> None:
        if not kept:
            self.broken.append(broken)

    def row(self) -> Sequence[str]:
        return (
            self.name,
            *(f"{sum(counts.values()):,}" for counts in (self.kills, self.restarts)),
            *(f"{count:,}" for count in (self.accepted, self.lost, self.doubled)),
            f"{self.recovered:.0f} s",
            f"{self.took:.0f} s",
        )

    def remarks(self) -> list[str]:
        """One line for each program that died, and whatever else is worth knowing."""
        lines = [
            f"{name}: {self.kills[name]} kills, back after {statistics.median(times):.1f} s,"
            f" at worst {max(times):.1f} s"
            for name, times in sorted(self.back.items())
        ]
        return [*lines, *self.notes, *(f"✗ {broken}" for broken in self.broken)]


def table(results: Sequence[Result]) -> str:
    """All scenarios, one a line, and what there is to say of each."""
    rows = [HEAD, *(result.row() for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = []
    for n, row in enumerate(rows):
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row, widths, strict=True))]
        mark = " " if n == 0 else "✗" if results[n - 1].broken else "✓"
        lines.append(f"{mark} " + "  ".join([cells[0], *cells[2:]]))
    for result in results:
        lines += ["", f"{result.name}:", *(f"  {line}" for line in result.remarks())]
    return "\n".join(lines)
