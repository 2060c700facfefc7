"""When somebody keeps answering our writes: another automation works on the same field.

Two systems that each insist on a value of their own would make us carry it to and fro for
ever. What a link remembers of our last write to each field is enough to see that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from app.domain.codecs import ABSENT
from app.domain.entities import equal, is_blank
from app.domain.values import Fields, Value

#: Our last write of each field:
#: {field: {was, now, at (ISO 8601), version, known, ours, rounds, answers}}.
#: ``version`` is that of the record once it was written, as its account tells the time, if it
#: does; ``known`` are further values that we know it had there lately, ``ours`` those that our last
#: writes left there. ``rounds``
#: counts how often in a row the account had gone back to what it was before the write before;
#: ``answers`` how often in a row it had changed within a minute of a write.
Written: TypeAlias = Mapping[str, Mapping[str, Any]]

#: What lies further back is another story.
WINDOW = timedelta(minutes=10)
#: So soon after our write, a change is an answer to it.
AT_ONCE = timedelta(minutes=1)
#: This often is a value carried again to an account that sets it back; people give up sooner.
ROUNDS = 3
#: Values that never return are held too, much later: people who type fast do not do this.
ANSWERS = 30
#: Close makes one event of several writes: so many of them are told apart.
KNOWN = 5


#: How the reasons below begin: who counts fights knows their cards by it.
SAYS = ("it was set back ", "it was changed ")


def after_write(
    written: Written,
    base: Fields,
    stored: Fields,
    told: Collection[str],
    at: datetime,
    version: datetime | None,
) -> dict[str, Any]:
    """What to remember after ``told`` was written over ``base`` and is ``stored`` now."""
    fresh: dict[str, Any] = {n: w for n, w in written.items() if at - _at(w) < WINDOW}
    for name in told:
        if name not in base:
            continue
        was, last = base[name], fresh.get(name)
        back = last is not None and equal(was, last["was"])
        answered = last is not None and at - _at(last) < AT_ONCE and not equal(was, last["now"])
        fresh[name] = {
            "was": was,
            "now": stored.get(name),
            "at": at.isoformat(),
            "version": version.isoformat() if version else None,
            "known": [last["was"], *last["known"]][:KNOWN] if last else [],
            "ours": [stored.get(name), *(last["ours"] if last else [])][:KNOWN],
            "rounds": last["rounds"] + 1 if last and back else 0,
            "answers": last["answers"] + 1 if last and answered else 0,
        }
    return fresh


def is_over(written: Written, version: datetime) -> bool:
    """Whether a record of that version is later than our last writes to it."""
    return all(
        entry["version"] is not None and datetime.fromisoformat(entry["version"]) < version
        for entry in written.values()
    )


def verdict(written: Written, name: str, theirs: Value, now: datetime) -> str | None:
    """Why this change must be held and not carried; None for an ordinary one."""
    last = written.get(name)
    if last is None or now - _at(last) >= WINDOW:
        return None
    if last["rounds"] >= ROUNDS and equal(theirs, last.get("was", ABSENT)):
        return f"it was set back {last['rounds'] + 1} times within minutes of our writes"
    if last["answers"] >= ANSWERS and now - _at(last) < AT_ONCE:
        return f"it was changed {last['answers'] + 1} times in a row right after our writes"
    return None


def overwrote(entry: Mapping[str, Any] | None, value: Value, at: datetime) -> bool:
    """Whether a write of ours may have replaced this value, which nobody had shown us."""
    if entry is None or abs(at - _at(entry)) >= WINDOW:
        return False
    return not any(_same(value, known) for known in (entry["was"], entry["now"], *entry["known"]))


def is_ours(entry: Mapping[str, Any], value: Value) -> bool:
    """Whether one of our last writes left this value there: news of it may come after the next."""
    return any(equal(value, one) for one in entry["ours"])


def _same(one: Value, other: Value) -> bool:
    """Events may tell of a cleared field as "" where the record shows null."""
    return equal(one, other) or (is_blank(one) and is_blank(other))


def _at(entry: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["at"])
