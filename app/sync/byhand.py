"""Who is who, by a person's word: link, unlink, split and merge, each in one transaction.

A rehearsal (``dry_run``) is the same transaction, rolled back: what it tells is what would happen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
import structlog
import uuid_utils.compat as uuid
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now
from app.db import conflicts, journal, keyed, lanes, links, outbox, records, resyncs
from app.db.journal import Cause, Entry
from app.db.links import Link
from app.db.records import KeyTaken
from app.domain import identity
from app.domain.codecs import ABSENT
from app.domain.entities import is_blank, is_set
from app.domain.merge import Take
from app.domain.state import Plan, RecordState
from app.domain.values import Key, Observation, Ref, Value
from app.errors import RejectedError
from app.sync.house import House
from app.sync.reconcile import Deferred, is_collision, known, within
from app.sync.relink import unite
from app.sync.times import UntimedError, ask
from app.sync.world import Seen

log = structlog.get_logger()

PERSON = "person"
CAUSE = Cause(PERSON)

#: What an operation touched: the records, of which the last may be new.
Operation = Callable[[AsyncConnection], Awaitable[Sequence[UUID]]]


@dataclass(frozen=True, slots=True)
class Changed:
    """What an operation did to one record; values and states as (before, after)."""

    record: RecordState
    merged_into: UUID | None
    fields: Mapping[str, tuple[Value, Value]]
    links: Mapping[Ref, tuple[str | None, str | None]]
    keys_gained: tuple[Key, ...]
    keys_lost: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a person's word changed, or would change.

    ``behind`` are the writes that follow: (account, record, whether it is created there).
    """

    changed: tuple[Changed, ...]
    behind: tuple[tuple[str, UUID, bool], ...]


#: How often an operation is done anew because a worker was faster.
_TRIES = 3


class _Rehearsed(Exception):
    """Everything was tried; nothing is kept."""


async def run(
    house: House, touched: Collection[UUID], operation: Operation, *, dry_run: bool = False
) -> Report:
    """Carry an operation out, or rehearse it, and tell what it changes.

    ``touched`` are the records it begins with. Raises RejectedError for what cannot be done.
    """
    report = Report((), ())
    for tries_left in reversed(range(_TRIES)):
        try:
            async with house.database.transaction() as db:
                before = await _Picture.of(db, touched)
                ids = {*touched, *await operation(db)}
                report = _compare(before, await _Picture.of(db, ids))
                if dry_run:
                    raise _Rehearsed
        except _Rehearsed:
            pass
        except (DBAPIError, KeyTaken, links.LinkTaken) as error:
            if tries_left and (not isinstance(error, DBAPIError) or is_collision(error)):
                continue  # a worker was faster: what it did is there now
            raise
        return report
    return report


async def expected(db: AsyncConnection, record_id: UUID, version: int | None = None) -> RecordState:
    """The record, locked. Raises RejectedError if there is none or it has moved on."""
    found = (await records.get(db, [record_id], lock=True)).get(record_id)
    if found is None:
        raise RejectedError(f"there is no record {record_id}")
    if version is not None and found.version != version:
        raise RejectedError(
            f"the record is at version {found.version}, not {version}: look at it again"
        )
    return found


# --- the operations -----------------------------------------------------------------------------


async def look(house: House, ref: Ref) -> Seen:
    """The present state of a remote record, for a person's word about it.

    Raises RejectedError where it is not shown, and whatever the CRM's trouble is.
    """
    await house.learn(ref.account)
    _, read_at = await known(house, [ref])
    (found,) = await house.members[ref.account].connector.read([ref])
    if found.raw is None:
        raise RejectedError(f"{ref.account} does not show {ref.type} {ref.id}")
    return Seen(found, CAUSE, read_at, read_at)


async def timed(house: House, seen: Seen, work: Callable[[Seen], Awaitable[Report]]) -> Report:
    """Do something with an observation; the vendors are asked for times where they decide."""
    try:
        return await work(seen)
    except UntimedError as asked:
        (again,) = await ask(house, [seen], asked.found)
        return await work(again)


async def link(db: AsyncConnection, house: House, record: RecordState, seen: Seen) -> list[UUID]:
    """This remote record is the counterpart of ours; their values merge as when two meet."""
    ref = seen.observation.ref
    _alive(record)
    own = await links.by_record(db, [record.id], account=ref.account, lock=True)
    standing = next((one for one in own if one.state == "live"), None)
    if standing is not None:
        said = "this already" if standing.ref == ref else f"{standing.ref} there: unlink that first"
        raise RejectedError(f"the record is linked to {said}")
    await _set_free(db, ref, record.id)
    await _cancel_create(db, ref.account, record)
    await _take_in(db, house, replace(seen, same_as=record.id))
    await conflicts.settle_refs(db, [ref], kinds=_WHO, how={"by": PERSON, "link": str(record.id)})
    await _note(db, record.id, {ref: (None, ref)}, "a person linked it")
    log.info("record.linked", ref=str(ref), record=str(record.id), by=PERSON)
    return [record.id]


async def bury(db: AsyncConnection, house: House, record_id: UUID, ref: Ref) -> list[UUID]:
    """This ref was the counterpart of ours, and it was deleted, or merged into another, before we
    could see it.
    """
    record = await expected(db, record_id)
    met = (await links.by_ref(db, [ref], lock=True)).get(ref)
    if met is not None and met.ended == "merged":
        await _cancel_create(db, ref.account, record)
        return await merge(db, house, record_id, met.record_id)
    await _set_free(db, ref, record_id)
    said = (await outbox.intended(db, ref.account, [record_id])).get(record_id, {})
    await _cancel_create(db, ref.account, record)
    await links.add(db, [Link.new(record_id, record.entity, ref, said, {}, None)])
    await _take_in(db, house, Seen(Observation(ref, None, gone=True), CAUSE, now()))
    return [record_id]


async def introduce(db: AsyncConnection, house: House, seen: Seen) -> list[UUID]:
    """This remote record is none of ours: it becomes a record of its own."""
    ref = seen.observation.ref
    await _set_free(db, ref, None)
    plan, asked = await _take_in(db, house, replace(seen, apart=True))
    assert plan.record is not None, "what is apart is new"
    await keyed.separate(db, [(plan.record.id, owner) for owner in asked])
    await conflicts.settle_refs(db, [ref], kinds=_WHO, how={"by": PERSON, "new": True})
    return [plan.record.id]


async def unlink(db: AsyncConnection, record: RecordState, account: str) -> list[UUID]:
    """Our record and its counterpart there go separate ways; both stay as they are.

    The ref is remembered as belonging to nobody: no event links it again or makes a record of it,
    and ours is not created there anew, until a person says otherwise.
    """
    own = await links.by_record(db, [record.id], account=account, lock=True)
    found = sorted(
        (one for one in own if one.state in ("live", "parked", "merging")),
        key=lambda one: one.state != "live",
    )
    if not found:
        raise RejectedError(f"the record has no counterpart in {account}")
    await release(db, record.id, found[0].ref, how={"by": PERSON, "unlink": True})
    return [record.id]


async def release(
    db: AsyncConnection, record_id: UUID, ref: Ref, *, how: Mapping[str, object]
) -> None:
    """Unlink one ref of a record, and close the cards about it."""
    await links.set_state(db, [ref], "unlinked")
    await conflicts.settle_refs(db, [ref], how=how)
    await _note(db, record_id, {ref: (ref, None)}, "a person unlinked it")
    log.info("record.unlinked", ref=str(ref), record=str(record_id), by=PERSON)


async def merge(db: AsyncConnection, house: House, lost_id: UUID, into_id: UUID) -> list[UUID]:
    """Two of our records are one: whatever the first has belongs to the second."""
    found = await records.get(db, [lost_id, into_id], lock=True)
    lost, into = found.get(lost_id), found.get(into_id)
    if lost is None or into is None:
        raise RejectedError(f"there is no record {into_id if lost else lost_id}")
    _alive(lost)
    _alive(into)
    if lost.id == into.id:
        raise RejectedError("a record cannot be merged into itself")
    if lost.entity != into.entity:
        raise RejectedError(f"a {lost.entity} cannot be merged into a {into.entity}")
    await keyed.reunite(db, lost.id, into.id)
    await unite(db, lost.id, into.id, into=None, source=PERSON, cause=Cause(PERSON, str(lost.id)))
    united = (await records.get(db, [into.id]))[into.id]
    await _claim(db, house, united)
    await conflicts.settle_between(db, lost.id, into.id, how={"by": PERSON, "merge": str(into.id)})
    log.info("record.united", lost=str(lost.id), record=str(into.id), by=PERSON)
    return [lost.id, into.id]


async def split(
    db: AsyncConnection, house: House, record: RecordState, refs: Collection[tuple[str, str]]
) -> list[UUID]:
    """A record that was two: the named counterparts, (account, remote id), get one of their own.

    It has what their accounts last showed. Ours loses the addresses and numbers that only they
    show; a key that both claim stays with ours.
    """
    _alive(record)
    own = await links.by_record(db, [record.id], lock=True)
    leaving = [one for one in own if (one.ref.account, one.ref.id) in refs]
    staying = [one for one in own if one not in leaving and one.state == "live"]
    _check_split(leaving, staying, refs)
    new = _of_its_own(house, record, leaving, await _now(db))
    rest = _without(record, new, staying)
    await records.add(db, [new], source=PERSON)
    await records.change(db, [rest], source=PERSON)
    for one in leaving:
        await links.move(db, one.ref, new.id, state="live")
        how = {"by": PERSON, "split": str(new.id)}
        await conflicts.settle_refs(db, [one.ref], how=how)
    await _claim(db, house, rest)
    await _claim(db, house, new)
    await keyed.separate(db, [(record.id, new.id)])
    await _tell_split(db, record, rest, new, [one.ref for one in leaving])
    await _mark(db, house, [rest, new])
    await _look_at_children(db, record.id, {one.ref.account for one in leaving})
    log.info("record.split", record=str(record.id), new=str(new.id), by=PERSON)
    return [record.id, new.id]


# --- their parts ----------------------------------------------------------------------------------

#: The cards that ask who a ref is.
_WHO = ("identity", "merge", "suspect")


def _alive(record: RecordState) -> None:
    if record.state != "live":
        raise RejectedError(f"the record {record.id} is {record.state}")


async def _set_free(db: AsyncConnection, ref: Ref, wanted_by: UUID | None) -> None:
    """A ref that belongs to nobody can be given; whoever has it must let go first."""
    met = (await links.by_ref(db, [ref], lock=True)).get(ref)
    if met is None:
        return
    if met.ended == "purged":
        raise RejectedError(f"{ref} was purged on request: it must not return")
    if met.state in ("live", "parked", "merging") and met.record_id != wanted_by:
        raise RejectedError(
            f"{ref} belongs to the record {met.record_id}: unlink it there, or merge the records"
        )
    await links.remove(db, ref)


async def _cancel_create(db: AsyncConnection, account: str, record: RecordState) -> None:
    """Nothing is created any more where a counterpart was found."""
    if not await outbox.cancel(db, account, record.id):
        raise RejectedError(f"it is being created in {account} at this moment: look again")


async def _take_in(db: AsyncConnection, house: House, seen: Seen) -> tuple[Plan, set[UUID]]:
    """Reconcile what was read, by the ordinary way; the records that claim its keys as well."""
    (answer,), changes, world = await within(db, house, [seen])
    if isinstance(answer, Deferred):
        raise RejectedError(f"it cannot be told now: {answer.reason}; try again")
    await changes.flush(db, house, world.account, scan=False)
    own = None if answer.record is None else answer.record.id
    return answer, {*world.keys.values()} - {own}


def _check_split(
    leaving: Sequence[Link], staying: Sequence[Link], refs: Collection[tuple[str, str]]
) -> None:
    missing = set(refs) - {(one.ref.account, one.ref.id) for one in leaving}
    if missing:
        named = ", ".join(f"{account}/{id}" for account, id in sorted(missing))
        raise RejectedError(f"the record is not linked to {named}")
    if any(one.state not in ("live", "parked") for one in leaving):
        raise RejectedError("only a living counterpart can leave")
    if len({one.ref.account for one in leaving}) < len(leaving):
        raise RejectedError("a record has one counterpart in each account")
    if not staying:
        raise RejectedError("one counterpart at least must stay")


def _of_its_own(
    house: House, record: RecordState, leaving: Sequence[Link], at: datetime
) -> RecordState:
    """The record that the leaving counterparts make."""
    order = list(house.config.accounts)
    fields: dict[str, Value] = {}
    stamps: dict[str, dict[str, str]] = {}
    for one in sorted(leaving, key=lambda one: order.index(one.ref.account)):
        sync = house.sync_of(record.entity, one.ref.account)
        for name, value in one.base.items():
            if sync and sync.may_read(one.ref.account, name) and is_blank(fields.get(name)):
                fields[name] = value
                stamps[name] = {"at": at.isoformat(), "account": one.ref.account}
    return RecordState(uuid.uuid7(), record.entity, fields, stamps, version=1)


def _without(record: RecordState, new: RecordState, staying: Sequence[Link]) -> RecordState:
    """Ours without the elements of sets that only the leaving counterparts show."""
    fields = dict(record.fields)
    for name, value in record.fields.items():
        theirs = new.fields.get(name)
        if is_set(name) and isinstance(value, list) and isinstance(theirs, list):
            shown = {item for one in staying for item in _listed(one.base.get(name))}
            fields[name] = [item for item in value if item in shown or item not in theirs]
    return replace(record, fields=fields, version=record.version + 1)


def _listed(value: Value) -> list[str]:
    return value if isinstance(value, list) else []


async def _claim(db: AsyncConnection, house: House, record: RecordState) -> None:
    """The keys of a record that nobody else has."""
    rules = house.key_rules(record.entity)
    wanted = identity.keys(record.entity, record.fields, rules, external_id=str(record.id))
    owners = await records.owners_of(db, record.entity, wanted)
    free = [key for key in wanted if owners.get(key, record.id) == record.id]
    await records.claim(db, record.entity, {record.id: free})


async def _tell_split(
    db: AsyncConnection,
    record: RecordState,
    rest: RecordState,
    new: RecordState,
    refs: Sequence[Ref],
) -> None:
    lost = [
        Take(name, record.fields[name], value, "a person split it")
        for name, value in rest.fields.items()
        if value != record.fields[name]
    ]
    born = [
        Take(name, ABSENT, value, f"split from {record.id}")
        for name, value in new.fields.items()
        if not is_blank(value)
    ]
    gone = [Take(f"links.{r.account}", _named(r), None, f"split into {new.id}") for r in refs]
    got = [Take(f"links.{r.account}", ABSENT, _named(r), f"split from {record.id}") for r in refs]
    await journal.write(
        db,
        [
            Entry(record.id, rest.version, PERSON, CAUSE, [*lost, *gone]),
            Entry(new.id, new.version, PERSON, CAUSE, [*born, *got]),
        ],
    )


async def _mark(db: AsyncConnection, house: House, both: Sequence[RecordState]) -> None:
    """Each is brought to every account that receives such records."""
    sync = house.config.entity(both[0].entity)
    accounts = [a for a in sync.accounts if sync.receives(a)] if sync else []
    await outbox.mark(db, {(account, one.id): one for account in accounts for one in both})
    for account in sorted(accounts):
        await lanes.wake(db, account, "out")


async def _look_at_children(db: AsyncConnection, parent: UUID, accounts: Collection[str]) -> None:
    """Whose child is whose, only the accounts know: their children are read again."""
    children = await records.children(db, [parent])
    asked: dict[tuple[str, str], list[str]] = {}
    for one in await links.by_record(db, children) if children else []:
        if one.ref.account in accounts and one.state == "live":
            asked.setdefault((one.ref.account, one.entity), []).append(one.ref.id)
    for (account, entity), ids in sorted(asked.items()):
        await resyncs.begin(db, account, entity, ids)
        await lanes.wake(db, account, "scan")


async def _note(
    db: AsyncConnection,
    record_id: UUID,
    moved: Mapping[Ref, tuple[Ref | None, Ref | None]],
    rule: str,
) -> None:
    """The journal knows of links by hand as of fields: `links.<account>`."""
    version = await records.bump(db, record_id)
    takes = [
        Take(f"links.{ref.account}", _named(old), _named(new), rule)
        for ref, (old, new) in moved.items()
    ]
    await journal.write(db, [Entry(record_id, version, PERSON, CAUSE, takes)])


def _named(ref: Ref | None) -> str | None:
    return None if ref is None else f"{ref.type}/{ref.id}"


async def _now(db: AsyncConnection) -> datetime:
    at: datetime = (await db.execute(sa.select(sa.func.now()))).scalar_one()
    return at


# --- what it came to ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Picture:
    """Some records with their links, keys and marks, at one moment."""

    records: Mapping[UUID, RecordState]
    into: Mapping[UUID, UUID]
    links: Mapping[UUID, Mapping[Ref, str]]
    keys: Mapping[UUID, frozenset[Key]]
    marks: frozenset[tuple[str, UUID, bool, int]] = field(default_factory=frozenset)

    @classmethod
    async def of(cls, db: AsyncConnection, ids: Collection[UUID]) -> _Picture:
        states: dict[UUID, dict[Ref, str]] = {}
        for one in await links.by_record(db, ids):
            states.setdefault(one.record_id, {})[one.ref] = one.state
        living = {
            (ref.account, record_id)
            for record_id, own in states.items()
            for ref, state in own.items()
            if state == "live"
        }
        marks = await outbox.behind(db, ids)
        return cls(
            await records.get(db, ids),
            await records.survivors(db, ids),
            states,
            await records.keys_of(db, ids),
            frozenset((a, r, (a, r) not in living, wanted) for a, r, wanted in marks),
        )


def _compare(before: _Picture, after: _Picture) -> Report:
    changed = tuple(_difference(record_id, before, after) for record_id in sorted(after.records))
    behind = {
        (account, record_id, new) for account, record_id, new, _ in after.marks - before.marks
    }
    return Report(changed, tuple(sorted(behind)))


def _difference(record_id: UUID, before: _Picture, after: _Picture) -> Changed:
    record, old = after.records[record_id], before.records.get(record_id)
    was = dict(old.fields) if old else {}
    there, here = before.links.get(record_id, {}), after.links.get(record_id, {})
    lost, got = before.keys.get(record_id, frozenset()), after.keys.get(record_id, frozenset())
    return Changed(
        record,
        after.into.get(record_id),
        {
            name: (was.get(name), record.fields.get(name))
            for name in sorted({*was, *record.fields})
            if was.get(name) != record.fields.get(name)
        },
        {
            ref: (there.get(ref), here.get(ref))
            for ref in sorted({*there, *here})
            if there.get(ref) != here.get(ref)
        },
        tuple(sorted(got - lost)),
        tuple(sorted(lost - got)),
    )
