"""The call log: what was asked of which vendor, and how many records it wrote."""

import re
from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime

from sandbox.wire import Json

# What is asked by POST because it is long, or secret.
_READING_POST = re.compile(
    r"(/search|/batch/read|/data/search|/token|/introspect|/revoke|/jobs/query"
    r"|/composite/sobjects/\w+)/?\Z"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One call as it was answered. Status 0: the connection was dropped."""

    at: datetime
    vendor: str
    method: str
    path: str
    status: int
    write: bool
    rows: int
    person: bool
    ms: float


def is_write(method: str, path: str) -> bool:
    """Whether a call means to change records."""
    if method == "POST":
        return _READING_POST.search(path) is None
    return method in ("PUT", "PATCH", "DELETE")


class CallLog:
    """The latest calls, and totals of all of them. A person's calls are not counted."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=200_000)
        self._totals: dict[str, Counter[str]] = {}
        self._rows: dict[str, dict[str, Counter[str]]] = {}

    def add(self, entry: Entry, written: list[tuple[str, str]]) -> None:
        self.entries.append(entry)
        if entry.person:
            return
        totals = self._totals.setdefault(entry.vendor, Counter())
        totals["writes" if entry.write else "reads"] += 1
        if not 200 <= entry.status < 300:
            totals["failed"] += 1
        if entry.status == 429:
            totals["limited"] += 1
        by_type = self._rows.setdefault(entry.vendor, {})
        for verb, type in written:
            by_type.setdefault(type, Counter())[verb] += 1

    def counts(self, vendors: list[str]) -> Json:
        """Reads, writes, failures and 429s per vendor, and rows per vendor, type and verb."""
        answer: Json = {}
        for vendor in vendors:
            totals = self._totals.get(vendor, Counter())
            rows = {type: dict(verbs) for type, verbs in self._rows.get(vendor, {}).items()}
            names = ("reads", "writes", "failed", "limited")
            answer[vendor] = {name: totals[name] for name in names}
            answer[vendor]["rows"] = rows
        return answer

    def clear(self) -> None:
        self.entries.clear()
        self._totals.clear()
        self._rows.clear()
