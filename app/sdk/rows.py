"""A delivery of several events, read one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from app.domain.values import Event
from app.errors import BadPayloadError

_Row = TypeVar("_Row")


def read_each(
    what: str, rows: Iterable[_Row], read: Callable[[int, _Row], Iterable[Event]]
) -> list[Event]:
    """The events of these rows, in their order; ``what`` a row is called.

    Raises BadPayloadError naming the first row that cannot be read, with the events of all
    others: they need not wait for it.
    """
    events: list[Event] = []
    bad: list[str] = []
    for number, row in enumerate(rows):
        try:
            events += [*read(number, row)]
        except BadPayloadError as error:
            bad.append(f"{what} {number}: {error.reason}")
    if bad:
        more = f" (and {len(bad) - 1} more)" if bad[1:] else ""
        raise BadPayloadError(bad[0] + more, read=events)
    return events
