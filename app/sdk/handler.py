"""Handlers say what an event means; ingest carries their wishes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from app.domain.values import Event, Observation, Ref
from app.sdk.connector import Connector

MARKS = "__syncline_on__"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the handlers of one event want done, in the order they asked.

    ``marks`` are refs to look at, ``relinks`` move a link from one ref to another, ``gone``
    are refs that no longer exist, ``purges`` those whose person asked to be forgotten.
    ``skipped`` is why nothing at all is to be done.
    """

    marks: tuple[Ref, ...] = ()
    relinks: tuple[tuple[Ref, Ref], ...] = ()
    gone: tuple[Ref, ...] = ()
    skipped: str | None = None
    purges: tuple[Ref, ...] = ()


class Context:
    """What a handler may do: read, and wish. It never writes to a CRM itself."""

    def __init__(self, connector: Connector) -> None:
        self.connector = connector
        self.account = connector.account.name
        self._marks: dict[Ref, None] = {}
        self._relinks: dict[Ref, Ref] = {}
        self._gone: dict[Ref, None] = {}
        self._purges: dict[Ref, None] = {}
        self._skipped: str | None = None

    def mark(self, ref: Ref) -> None:
        """Look at this record soon."""
        self._marks[ref] = None

    def relink(self, ref: Ref, *, to: Ref | str) -> None:
        """Whatever was linked to ``ref`` is now ``to``: a ref, or an id of the same type."""
        self._relinks[ref] = to if isinstance(to, Ref) else Ref(ref.account, ref.type, to)

    def gone(self, ref: Ref) -> None:
        """The vendor says that this record was deleted."""
        self._gone[ref] = None

    def purge(self, ref: Ref) -> None:
        """The person of this record asked to be forgotten: nothing of it is to be kept."""
        self._purges[ref] = None

    def skip(self, reason: str) -> None:
        """Do nothing for this event, whatever other handlers wish; the reason is kept."""
        self._skipped = reason

    async def read(self, ref: Ref) -> Observation:
        """The present state of a record, from the CRM itself."""
        (observation,) = await self.connector.read([ref])
        return observation

    @property
    def wishes(self) -> Wishes:
        if self._skipped is not None:
            return Wishes(skipped=self._skipped)
        return Wishes(
            tuple(self._marks),
            tuple(self._relinks.items()),
            tuple(self._gone),
            purges=tuple(self._purges),
        )


Handler: TypeAlias = Callable[[Event, Context], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Mark:
    """One ``@on`` as written down on its function."""

    connector: str
    event: str
    instead: bool


def on(connector: str, event: str, *, instead: bool = False) -> Callable[[Handler], Handler]:
    """Call this handler for each such event, after the house handler or instead of it.

    It only marks the function; the registry collects, checks and freezes at the start.
    """

    def mark(handler: Handler) -> Handler:
        handler.__dict__.setdefault(MARKS, []).append(Mark(connector, event, instead))
        return handler

    return mark
