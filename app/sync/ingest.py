"""Deliveries of an account -> events -> observations -> records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from app import clock, logs, metrics
from app.clock import now
from app.db import events as inbox
from app.db import lanes, links, outbox, purges
from app.db.events import Answered, Pending
from app.db.journal import Cause
from app.db.lanes import Lane
from app.db.links import Link
from app.domain.decide import contradicts, newest
from app.domain.echo import is_echo, may_be_echo
from app.domain.edits import still_timed
from app.domain.entities import order_of
from app.domain.state import PURGED
from app.domain.values import Claim, Delivery, Event, Observation, Ref
from app.domain.verdict import Action
from app.errors import (
    AccountError,
    BadPayloadError,
    RateLimitedError,
    SyncError,
    TransientError,
    UnsupportedEventError,
)
from app.sdk.handler import Context, Wishes
from app.sync.house import House, Member
from app.sync.purge import learn_pepper, purge_told
from app.sync.reconcile import Deferred, known, reconcile
from app.sync.relink import follow, relink
from app.sync.trouble import LanePaused, describe, judge
from app.sync.world import Seen

log = structlog.get_logger()

#: How many events are looked at together, and …
BATCH = 500
#: … how many deliveries are parsed before that.
DELIVERIES = 200
#: How many parsed events are kept in memory until they are looked at.
REMEMBERED = 2000
#: How many ids a line of the log names.
TRACES = 20
#: How long an observation that cannot be trusted yet is put off.
SOON = timedelta(milliseconds=150)
LATER = timedelta(seconds=2)
#: So long after the first news of what may be our own create its answer is waited for.
ANSWERED = timedelta(seconds=2)
#: A record names others, those name others still; a family is this deep at most.
_GENERATIONS = 4


async def ingest(house: House, lane: Lane) -> None:
    """An in-lane for a moment: parse what came in, look at what it named, while more waits."""
    over = clock.ticks() + lanes.TURN
    parsed: dict[tuple[int, str], Event] = {}
    while True:
        await _parse(house, lane, parsed)
        async with house.database.transaction() as db:
            waiting = await inbox.pending(db, lane.account, limit=BATCH)
        if waiting:
            await _look(house, lane, waiting, parsed)
        if len(waiting) < BATCH or clock.ticks() > over:
            return


# --- deliveries -> events ---------------------------------------------------------------------


async def _parse(house: House, lane: Lane, parsed: dict[tuple[int, str], Event]) -> None:
    """Store the events of what came in; ``parsed`` remembers those to be looked at soon."""
    async with house.database.transaction() as db:
        unread = await inbox.unread(db, lane.account, limit=DELIVERIES)
    if not unread:
        return
    member = house.members[lane.account]
    read: list[tuple[Delivery, list[Answered]]] = []
    bad: dict[int, Exception] = {}
    for delivery in unread:
        assert delivery.id is not None
        events: Sequence[Event] = ()
        try:
            # What was purged is empty: there is nothing in it any more.
            parse = member.connector.parse
            events = parse(delivery, member.connector.account) if delivery.body else []
        except BadPayloadError as error:
            events, bad[delivery.id] = error.read, error
        except Exception as error:  # a bug in parse must not stop the lane, nor lose the delivery
            bad[delivery.id] = error
        read.append((delivery, answers(house, member, events)))
    async with house.database.transaction() as db:
        if not await lanes.holds(db, lane):
            return
        for id, trouble in bad.items():
            await inbox.bury_delivery(db, id, describe(trouble, record=f"delivery:{id}"))
            reason = logs.words(trouble)
            log.warning("delivery.unreadable", account=lane.account, delivery=id, reason=reason)
        await inbox.add(db, read)
        others = {i.account for _, items in read for i in items if i.account != lane.account}
        await inbox.mark_read(db, [d.id for d, _ in read if d.id not in bad and d.id is not None])
        for account in sorted(others):
            await lanes.wake(db, account, "in")
    counted = Counter((item.account, item.answer) for _, items in read for item in items)
    for labels, number in counted.items():
        metrics.EVENTS.labels(*labels).inc(number)
    own = [(d, i.event) for d, items in read for i in items if i.account == lane.account]
    for delivery, event in own[: max(0, REMEMBERED - len(parsed))]:
        assert delivery.id is not None
        parsed[delivery.id, event.key] = event


def answers(house: House, member: Member, events: Sequence[Event]) -> list[Answered]:
    """Whose each event is, and which of the three answers it gets."""
    said: dict[tuple[str | None, str], Answered] = {}
    found: list[Answered] = []
    for event in events:
        kind = (event.tenant, event.type)
        if kind not in said:
            said[kind] = _answer(house, member, event)
        like = said[kind]
        found.append(
            Answered(like.account, _addressed(event, like.account), like.answer, like.error)
        )
    return found


def _answer(house: House, member: Member, event: Event) -> Answered:
    account = _addressee(house, member, event)
    if account is None:
        reason = f"portal {event.tenant} belongs to no configured account"
        return Answered(
            member.name, event, "foreign", {"cause": "unknown portal", "reason": reason}
        )
    try:
        said = house.registry.answer(
            member.connector.manifest,
            event.type,
            travels=lambda entity: house.sync_of(entity, account) is not None,
        )
    except UnsupportedEventError as error:
        return Answered(account, event, "unsupported", describe(error))
    return Answered(account, event, said)


def _addressee(house: House, member: Member, event: Event) -> str | None:
    """The account of the portal an event names; several portals may share one URL."""
    if event.tenant is None:
        return member.name
    peers = [
        peer
        for peer in house.members.values()
        if peer.connector.manifest.name == member.connector.manifest.name
    ]
    for peer in peers:
        if str(peer.config.portal_id) == event.tenant:
            return peer.name
    return member.name if member.config.portal_id is None else None


def _addressed(event: Event, account: str) -> Event:
    """The event with every ref in the name of its own account."""
    if event.ref is None or event.ref.account == account:
        return event  # all that a delivery names is named alike

    def own(ref: Ref) -> Ref:
        return replace(ref, account=account)

    snapshot = event.snapshot
    if snapshot is not None and snapshot.ref.account != account:
        snapshot = replace(
            snapshot,
            ref=own(snapshot.ref),
            relations={n: tuple(map(own, refs)) for n, refs in snapshot.relations.items()},
            mentions=tuple(map(own, snapshot.mentions)),
        )
    return replace(
        event,
        ref=own(event.ref),
        survivor=own(event.survivor) if event.survivor else None,
        snapshot=snapshot,
        names={name: own(ref) for name, ref in event.names.items()},
    )


# --- events -> observations -> records ----------------------------------------------------------


@dataclass(slots=True)
class Look:
    """One ref to look at, and all the events that ask for it."""

    events: set[int]
    known_at: datetime
    snapshot: Observation | None = None
    trusted: bool = True  # every event brought a snapshot on its first try
    ours: bool = True  # all that the events tell can be compared with what we know
    gone: bool = False
    gone_at: datetime | None = None  # by the vendor's own clock
    alive_at: datetime | None = None  # … when an event last told of it otherwise
    purged: bool = False
    times: dict[str, datetime] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    delivery: int | None = None

    @property
    def cause(self) -> Cause:
        trace = None if self.delivery is None else f"delivery:{self.delivery}"
        return Cause("event", str(min(self.events)), trace)


async def _look(
    house: House,
    lane: Lane,
    waiting: Sequence[Pending],
    parsed: dict[tuple[int, str], Event],
) -> None:
    started = now()
    member = house.members[lane.account]
    events = await _events_of(house, member, waiting, parsed)
    looks: dict[Ref, Look] = {}
    fates = _Fates({item.id for item in waiting if item.id not in events})
    for item in waiting:
        if (event := events.get(item.id)) is None:
            continue
        try:
            wishes = (await house.registry.dispatch(event, Context(member.connector))).wishes
            if not await _relink(house, lane, item, wishes):
                fates.deferred.add(item.id)
                continue
        except Exception as error:  # a user's handler may raise anything
            fates.failed[item.id] = error
            continue
        if not _gather(house, looks, item, event, wishes):
            fates.done.add(item.id)
    try:
        await house.learn(lane.account)
        await _reconcile(house, member, looks, fates)
    except (RateLimitedError, AccountError, TransientError) as error:
        await _settle(house, lane, waiting, fates)
        raise LanePaused(error) from error
    await _settle(house, lane, waiting, fates)
    await _empty(house, events, waiting, fates.purged)
    log.info(
        "ingest.finished",
        account=lane.account,
        events=len(waiting),
        refs=len(looks),
        traces=sorted({f"delivery:{item.delivery_id}" for item in waiting})[:TRACES],
        failed=len(fates.failed),
        deferred=len(fates.deferred),
        ms=round((now() - started).total_seconds() * 1000),
        **fates.results,
    )


async def _empty(
    house: House, events: Mapping[int, Event], waiting: Sequence[Pending], told: Collection[int]
) -> None:
    """Keep no webhook that repeats the name of somebody who was purged.

    ``told`` are the events about such people; others may name them.
    """
    if not house.peppers:
        return
    named: dict[Ref, set[int]] = {}
    for item in waiting:
        snapshot = events[item.id].snapshot if item.id in events else None
        if snapshot is not None:
            related = [ref for refs in snapshot.relations.values() for ref in refs]
            for ref in (*related, *snapshot.mentions):
                named.setdefault(ref, set()).add(item.delivery_id)
    async with house.database.transaction() as db:
        met = await links.by_ref(db, named)
        gone = {one for ref in met if met[ref].ended == "purged" for one in named[ref]}
        await purges.empty(db, gone | {i.delivery_id for i in waiting if i.id in told})


@dataclass(slots=True)
class _Fates:
    """What became of each event; whatever is in none of these is simply still waiting."""

    done: set[int]
    failed: dict[int, Exception] = field(default_factory=dict)
    deferred: set[int] = field(default_factory=set)
    results: dict[str, int] = field(default_factory=dict)
    #: They tell of somebody who was purged, under an id that we did not know.
    purged: set[int] = field(default_factory=set)


async def _reconcile(house: House, member: Member, looks: dict[Ref, Look], fates: _Fates) -> None:
    """Observe and reconcile; a snapshot that proves too old is followed by a reading."""
    observed = await _observe(house, member, looks, list(looks), fates)
    late = await _apply(house, looks, observed, fates)
    # Nobody needs to read what waits for a write of ours: that would be no better news.
    stale = [ref for ref, deferred in late.items() if deferred.stale]
    for ref in stale:
        looks[ref].trusted = False
        del late[ref]
    if stale:
        again = await _observe(house, member, looks, stale, fates)
        late |= await _apply(house, looks, again, fates)
        observed += again
    await _purge(house, looks, observed, late)
    for ref, look in looks.items():
        (fates.deferred if ref in late else fates.done).update(look.events)
    fates.done -= fates.deferred | fates.failed.keys()


async def _purge(
    house: House, looks: Mapping[Ref, Look], observed: Sequence[Seen], late: Collection[Ref]
) -> None:
    """Forget whom a CRM has erased; whom it still shows it has not."""
    shown = {
        seen.observation.asked or seen.observation.ref
        for seen in observed
        if seen.observation.raw is not None
    }
    for ref, look in looks.items():
        if look.purged and ref not in shown and ref not in late:
            await purge_told(house, ref, look.cause)


async def _apply(
    house: House, looks: Mapping[Ref, Look], observed: Sequence[Seen], fates: _Fates
) -> dict[Ref, Deferred]:
    """Reconcile what was observed; the refs that must be looked at again."""
    late: dict[Ref, Deferred] = {}
    for seen, answer in zip(observed, await reconcile(house, observed), strict=True):
        asked = seen.observation.asked or seen.observation.ref
        if isinstance(answer, Deferred):
            log.debug("event.deferred", ref=str(asked), reason=answer.reason)
            late[asked] = answer
        elif isinstance(answer, Exception):
            fates.failed.update(dict.fromkeys(looks[asked].events, answer))
        else:
            fates.results[answer.result] = fates.results.get(answer.result, 0) + 1
            if answer.reason == PURGED:
                fates.purged |= looks[asked].events
            entity = house.members[asked.account].entity_of(asked.type) or asked.type
            metrics.OBSERVATIONS.labels(asked.account, entity).inc()
    return late


async def _events_of(
    house: House,
    member: Member,
    waiting: Sequence[Pending],
    parsed: dict[tuple[int, str], Event],
) -> dict[int, Event]:
    """The events themselves: just ``parsed``, or read anew from their deliveries."""
    places = {item.id: (item.delivery_id, item.key) for item in waiting}
    found = {place: parsed.pop(place) for place in places.values() if place in parsed}
    missing = {delivery for delivery, key in places.values() if (delivery, key) not in found}
    deliveries: list[Delivery] = []
    if missing:
        async with house.database.transaction() as db:
            deliveries = await inbox.sources(db, missing)
    for delivery in deliveries:
        receiver = house.members.get(delivery.account, member)
        assert delivery.id is not None
        try:
            events: Sequence[Event] = receiver.connector.parse(delivery, receiver.connector.account)
        except BadPayloadError as error:
            events = error.read
        found |= {(delivery.id, event.key): event for event in events}
    return {
        id: _addressed(found[place], member.name) for id, place in places.items() if place in found
    }


async def _relink(house: House, lane: Lane, item: Pending, wishes: Wishes) -> bool:
    """Whether it is done; else the event has to wait."""
    if not wishes.relinks:
        return True
    await _hear_last_words(house, item, wishes)
    done = True
    async with house.database.transaction() as db:
        if await lanes.holds(db, lane):
            for ref, to in wishes.relinks:
                done = await relink(db, ref, to, known_at=item.received_at) and done
                await follow(db, house, to)
    return done


async def _hear_last_words(house: House, item: Pending, wishes: Wishes) -> None:
    """Take in what was edited in those that were merged away, and that nobody had told."""
    linked, moment = await known(house, [ref for ref, _ in wishes.relinks])
    cause = Cause("event", str(item.id), f"delivery:{item.delivery_id}")
    for ref, link in linked.items():
        if link.state != "live" or link.writing:
            continue
        seen = await house.members[ref.account].connector.last_shown(ref)
        if seen is not None:
            await reconcile(house, [Seen(seen, cause, moment)])


def _gather(
    house: House, looks: dict[Ref, Look], item: Pending, event: Event, wishes: Wishes
) -> bool:
    """Ten hints at one ref make one look. False if this event asks for none."""
    asked = False
    survivors = tuple(to for _, to in wishes.relinks)
    for ref in (*wishes.marks, *wishes.gone, *wishes.purges, *survivors):
        entity = house.members[ref.account].entity_of(ref.type)
        if entity is None or house.sync_of(entity, ref.account) is None:
            continue
        asked = True
        look = looks.setdefault(ref, Look(set(), item.received_at))
        look.events.add(item.id)
        look.delivery = item.delivery_id
        look.known_at = min(look.known_at, item.received_at)
        look.purged = look.purged or ref in wishes.purges
        if ref in (*wishes.gone, *wishes.purges):
            look.gone = True
            look.gone_at = max(event.at, look.gone_at or event.at)
        else:
            look.alive_at = max(event.at, look.alive_at or event.at)
        look.ours = look.ours and event.ref == ref and may_be_echo(event)
        snapshot = event.snapshot if event.ref == ref else None
        look.trusted = look.trusted and snapshot is not None and item.attempts == 0
        if snapshot is not None:
            look.trusted = look.trusted and not contradicts(snapshot, look.snapshot)
            look.snapshot = newest(snapshot, look.snapshot)
        if (event.fields or event.names) and event.ref == ref:
            raw = snapshot.raw if snapshot is not None else None
            look.claims.append(
                Claim(event.at, event.fields, event.before, raw, event.by_program, event.names)
            )
        for name in event.fields:
            look.times[name] = max(event.at, look.times.get(name, event.at))
    return asked


async def _observe(
    house: House, member: Member, looks: dict[Ref, Look], refs: Iterable[Ref], fates: _Fates
) -> list[Seen]:
    """The present state of every ref, and of the unknown relatives they name; parents first."""
    seen: dict[Ref, Seen] = {}
    fresh = list(refs)
    for _ in range(_GENERATIONS):
        ends = {ref for one in fresh for claim in looks[one].claims for ref in claim.names.values()}
        linked, read_at = await known(house, [*fresh, *ends])
        # A record we never met is believed as it was sent, unless it left since: events may
        # arrive in any order, and nothing deleted returns.
        async with house.database.transaction() as db:
            departed = await inbox.departed(db, [ref for ref in fresh if ref not in linked])
            begun = await outbox.creating_since(db, member.name)
        reading: dict[str, list[Ref]] = {}
        for ref in fresh:
            look, link = looks[ref], linked.get(ref)
            if look.ours and link is None and _is_begun(look, begun):
                fates.deferred.update(look.events)
                continue
            if link is not None and _is_known(house, member, look, link, linked):
                fates.results["echo"] = fates.results.get("echo", 0) + 1
                continue
            told = look.snapshot is not None and look.trusted and not look.gone
            if look.snapshot is not None and told and (link is not None or ref not in departed):
                seen[ref] = Seen(_timed(look.snapshot, look), look.cause, look.known_at)
            elif link is None and _only_left(look):
                # It came and went before we ever met it, unless it is what we are creating.
                if begun is not None and begun <= look.known_at:
                    fates.deferred.update(look.events)
            elif link is not None and link.writing:
                # What is read beside a write of ours is not believed. Its answer may tell as much.
                fates.deferred.update(look.events)
            else:
                reading.setdefault(ref.type, []).append(ref)
        for remote_type in sorted(reading, key=lambda t: order_of(member.entity_of(t) or t)):
            answers, refused = await _read(member, reading[remote_type])
            for ref, error in refused.items():
                fates.failed.update(dict.fromkeys(looks[ref].events, error))
            for observation in answers:
                asked = observation.asked or observation.ref
                look = looks[asked]
                if observation.raw is None and _agrees(look, linked.get(asked)):
                    observation = replace(observation, gone=True, version=look.gone_at)
                seen[asked] = Seen(_timed(observation, look), look.cause, look.known_at, read_at)
        fresh = await _relatives(house, looks, [seen[ref] for ref in fresh if ref in seen])
        if not fresh:
            break
    return sorted(
        seen.values(),
        key=lambda s: (order_of(member.entity_of(s.observation.ref.type) or ""), s.observation.ref),
    )


def _is_begun(look: Look, begun: datetime | None) -> bool:
    """Whether this may be what a create of ours has just made: its answer is worth a moment,
    and saves a reading.
    """
    return begun is not None and begun <= look.known_at and now() - look.known_at < ANSWERED


def _is_known(
    house: House, member: Member, look: Look, link: Link, linked: Mapping[Ref, Link]
) -> bool:
    """Whether a write of ours has come back and tells nothing new: then nobody need read it.

    While one is on its way, what was seen last is what it replaces: that may be news again.
    """
    if not look.ours or look.gone or look.snapshot is not None:
        return False
    if link.state != "live" or link.writing:
        return False
    context = house.context(link.entity, member.name)
    ends = {ref: one.record_id for ref, one in linked.items()}
    return is_echo(member.mappings[link.entity], link.base, look.claims, context, ends)


def _only_left(look: Look) -> bool:
    """Whether a record that nobody met was deleted last of all; else it may have been restored."""
    if not look.gone or look.gone_at is None:
        return look.gone
    return look.alive_at is None or look.alive_at < look.gone_at


def _agrees(look: Look, link: Link | None) -> bool:
    """Whether an event is the second source that proves a delete: one that is not older than
    what was seen of the record since.
    """
    seen_at = link.seen_at if link is not None else None
    return look.gone and (look.gone_at is None or seen_at is None or look.gone_at >= seen_at)


def _timed(observation: Observation, look: Look) -> Observation:
    """With what the events said of each field, and when."""
    told = still_timed(look.times, look.claims, observation.raw)
    times = {**observation.field_times, **told}
    return replace(observation, field_times=times, claims=tuple(look.claims))


async def _read(
    member: Member, refs: Sequence[Ref]
) -> tuple[list[Observation], dict[Ref, Exception]]:
    """Read in the vendor's batches; a batch with a bad ref is read one by one."""
    answers: list[Observation] = []
    problems: dict[Ref, Exception] = {}
    size = max(1, member.connector.manifest.read_batch)
    step = size if size > 1 else 50
    for start in range(0, len(refs), step):
        batch = refs[start : start + step]
        try:
            answers += await member.connector.read(batch)
        except (RateLimitedError, AccountError, TransientError):
            raise
        except SyncError as error:
            if len(batch) == 1:
                problems[batch[0]] = error
                continue
            for ref in batch:
                try:
                    answers += await member.connector.read([ref])
                except (RateLimitedError, AccountError, TransientError):
                    raise
                except SyncError as single:
                    problems[ref] = single
    return answers, problems


async def _relatives(house: House, looks: dict[Ref, Look], observed: Sequence[Seen]) -> list[Ref]:
    """Refs that the observed records name and that we have never met."""
    named: dict[Ref, set[int]] = {}
    deliveries: dict[Ref, int | None] = {}
    for seen in observed:
        observation = seen.observation
        if observation.raw is None:
            continue
        look = looks[observation.asked or observation.ref]
        related = [ref for refs in observation.relations.values() for ref in refs]
        for ref in (*related, *observation.mentions):
            entity = house.members[ref.account].entity_of(ref.type)
            if ref not in looks and entity and house.sync_of(entity, ref.account):
                named.setdefault(ref, set()).update(look.events)
                deliveries[ref] = look.delivery
    met, _ = await known(house, list(named))
    unmet = [ref for ref in named if ref not in met]
    moment = now()
    for ref in unmet:
        looks[ref] = Look(set(named[ref]), moment, trusted=False)
        looks[ref].delivery = deliveries[ref]
    return unmet


async def _settle(house: House, lane: Lane, waiting: Sequence[Pending], fates: _Fates) -> None:
    """Finish, put off or bury each event by what became of it."""
    moment = now()
    async with house.database.transaction() as db:
        if not await lanes.holds(db, lane):
            return
        await inbox.finish(db, fates.done)
        for item in waiting:
            if item.id in fates.deferred and item.id not in fates.failed:
                wait = min(max(SOON, (moment - item.received_at) / 2), LATER)
                await inbox.postpone(db, [item.id], until=moment + wait)
        for item in waiting:
            if (error := fates.failed.get(item.id)) is None:
                continue
            found = judge(error, item.attempts, moment)
            shown = describe(error, record=f"event:{item.id} {item.type}")
            if found.action is Action.DEAD:
                await inbox.bury(db, [item.id], shown)
                log.error(
                    "event.buried",
                    account=lane.account,
                    id=item.id,
                    cause=shown["cause"],
                    reason=logs.words(error),
                )
            else:
                await inbox.postpone(db, [item.id], until=found.at or moment, error=shown)
        if await learn_pepper(db, house):
            await purges.scrub(db, {item.delivery_id for item in waiting})
