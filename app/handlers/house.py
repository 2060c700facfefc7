"""What the ordinary events mean, one function per `Event.change`."""

from __future__ import annotations

from app.sdk import Context, Event


async def changed(event: Event, ctx: Context) -> None:
    """Something moved: look at the record."""
    if event.ref is not None:
        ctx.mark(event.ref)


async def gone(event: Event, ctx: Context) -> None:
    """The vendor says it was deleted."""
    if event.ref is not None:
        ctx.gone(event.ref)


async def merged(event: Event, ctx: Context) -> None:
    """Our link moves to the record that lives on, and that one is looked at."""
    if event.ref is not None and event.survivor is not None:
        ctx.relink(event.ref, to=event.survivor)
        ctx.mark(event.survivor)


async def purged(event: Event, ctx: Context) -> None:
    """The vendor says that this person asked to be forgotten."""
    if event.ref is not None:
        ctx.purge(event.ref)
