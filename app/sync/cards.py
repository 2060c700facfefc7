"""Cards that ask who is who: a person's word about each kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import conflicts, keyed, lanes, links, outbox, records, resyncs
from app.db.links import Link
from app.domain.values import Ref
from app.errors import RejectedError
from app.sync import byhand
from app.sync.byhand import PERSON, Report, expected
from app.sync.house import House
from app.sync.world import Seen


@dataclass(frozen=True, slots=True)
class Word:
    """What a person says to a card: one of these.

    ``link``: it is this record of ours. ``new``: it is none of them. ``keep``: the remote id of
    the counterpart that counts. ``merge``: make them one in that CRM too. ``unlink``: leave it
    there, apart.
    """

    link: UUID | None = None
    new: bool = False
    keep: str | None = None
    merge: bool = False
    unlink: bool = False

    def __str__(self) -> str:
        return next(n for n in ("link", "new", "keep", "merge", "unlink") if getattr(self, n))


async def settle(house: House, card: Any, word: Word, *, dry_run: bool = False) -> Report:
    """Carry a person's word about a card out, or rehearse it.

    Raises RejectedError where the card is settled or the word does not fit it.
    """
    if card["state"] != "open":
        raise RejectedError("this card is settled already")
    if card["account"] not in house.members:
        raise RejectedError(f"the account {card['account']} is not configured any more")
    if card["kind"] not in ("identity", "merge", "suspect"):
        raise RejectedError(f"a {card['kind']} card asks for another word")
    if card["kind"] != "identity":
        work, touched = _surplus(house, card, word), [card["record_id"]]
    elif card["record_id"] is None:
        return await _stranger(house, card, word, dry_run=dry_run)
    elif found := card["detail"].get("found"):
        return await _met(house, card, word, found, dry_run=dry_run)
    else:
        work, touched = _two_of_ours(house, card, word)
    return await byhand.run(house, touched, _closing(card, word, work), dry_run=dry_run)


# --- a remote record that could be one of ours ----------------------------------------------------


async def _stranger(house: House, card: Any, word: Word, *, dry_run: bool) -> Report:
    ref = _ref(card)
    if word.merge:
        owner = _only_candidate(card)
        work = _closing(card, word, lambda db: _merge_stranger(db, house, card, owner))
        return await byhand.run(house, [owner], work, dry_run=dry_run)
    if word.link is None and not word.new:
        raise _unfit(card, word, "link, new or merge")
    touched = [word.link] if word.link else []

    async def work_on(seen: Seen) -> Report:
        async def work(db: AsyncConnection) -> Sequence[UUID]:
            if word.link is None:
                return await byhand.introduce(db, house, seen)
            record = await expected(db, word.link)
            if record.entity != card["entity"]:
                raise RejectedError(f"the record is a {record.entity}, not a {card['entity']}")
            return await byhand.link(db, house, record, seen)

        return await byhand.run(house, touched, _closing(card, word, work), dry_run=dry_run)

    return await byhand.timed(house, await byhand.look(house, ref), work_on)


def _only_candidate(card: Any) -> UUID:
    candidates: list[str] = card["detail"].get("candidates") or []
    if len(candidates) != 1:
        raise RejectedError("it could be several records: link it, or merge those first")
    return UUID(candidates[0])


async def _merge_stranger(
    db: AsyncConnection, house: House, card: Any, owner: UUID
) -> Sequence[UUID]:
    """It is a double of the counterpart that our record has there."""
    ref = _ref(card)
    if ref in await links.by_ref(db, [ref], lock=True):
        raise RejectedError(f"{ref} has found its record meanwhile")
    await expected(db, owner)
    double = Link.new(owner, card["entity"], ref, {}, {}, None).now(state="parked")
    await links.add(db, [double])
    await begin_merge(db, house, owner, ref)
    return [owner]


# --- a create of ours that met what is there ------------------------------------------------------


async def _met(house: House, card: Any, word: Word, found: Any, *, dry_run: bool) -> Report:
    record_id, account = card["record_id"], card["account"]
    departed = card["detail"].get("departed", False)
    if word.keep is not None:
        if word.keep not in found:
            raise RejectedError(f"{word.keep} is none of {', '.join(sorted(found))}")
        if departed:
            ref = replace(_ref(card), id=word.keep)
            bury = _closing(card, word, lambda db: byhand.bury(db, house, record_id, ref))
            return await byhand.run(house, [record_id], bury, dry_run=dry_run)

        async def work_on(seen: Seen) -> Report:
            async def work(db: AsyncConnection) -> Sequence[UUID]:
                return await byhand.link(db, house, await expected(db, record_id), seen)

            run = _closing(card, word, work)
            return await byhand.run(house, [record_id], run, dry_run=dry_run)

        seen = await byhand.look(house, replace(_ref(card), id=word.keep))
        return await byhand.timed(house, seen, work_on)
    if not word.new:
        raise _unfit(card, word, "keep or new")

    async def create(db: AsyncConnection) -> Sequence[UUID]:
        refs = [replace(_ref(card), id=remote) for remote in found]
        met = await links.by_ref(db, refs)
        if len(met) < len(refs) and not departed:
            raise RejectedError("nobody knows whose they are: keep one, or resync the account")
        await keyed.separate(db, [(record_id, one.record_id) for one in met.values()])
        await expected(db, record_id)
        await outbox.end_doubt(db, account, record_id)
        await records.bump(db, record_id)
        await _mark(db, account, record_id)
        return [record_id]

    return await byhand.run(house, [record_id], _closing(card, word, create), dry_run=dry_run)


# --- two records of ours --------------------------------------------------------------------------


def _two_of_ours(house: House, card: Any, word: Word) -> tuple[byhand.Operation, list[UUID]]:
    mine = card["record_id"]
    others = [UUID(one) for one in card["detail"].get("candidates") or ()]
    if word.link is not None:
        into = word.link
        if into not in others:
            raise RejectedError(f"{into} is none of {', '.join(map(str, others))}")
        return (lambda db: byhand.merge(db, house, mine, into)), [mine, into]
    if not word.new:
        raise _unfit(card, word, "link or new")

    async def part(db: AsyncConnection) -> Sequence[UUID]:
        await keyed.separate(db, [(mine, other) for other in others])
        return [mine, *others]

    return part, [mine, *others]


# --- a second counterpart -------------------------------------------------------------------------


def _surplus(house: House, card: Any, word: Word) -> byhand.Operation:
    record_id, ref = card["record_id"], _ref(card)

    async def work(db: AsyncConnection) -> Sequence[UUID]:
        await expected(db, record_id)
        own = await links.by_record(db, [record_id], account=ref.account, lock=True)
        living = next((one.ref for one in own if one.state == "live"), None)
        if ref not in {one.ref for one in own if one.state in ("parked", "merging")}:
            raise RejectedError(f"{ref} does not wait for a decision any more")
        if word.merge:
            await begin_merge(db, house, record_id, ref)
        elif word.unlink or (living is not None and word.keep == living.id):
            await byhand.release(db, record_id, ref, how=_how(word))
        elif word.keep == ref.id:
            if living is not None:
                await byhand.release(db, record_id, living, how=_how(word))
            await links.set_state(db, [ref], "live")
            await resyncs.begin(db, ref.account, card["entity"], [ref.id])
            await lanes.wake(db, ref.account, "scan")
            await _mark(db, ref.account, record_id)
        elif word.keep is not None:
            named = f"{ref.id} and {living.id}" if living else ref.id
            raise RejectedError(f"{word.keep} is not one of {named}")
        else:
            raise _unfit(card, word, "merge, unlink or keep")
        return [record_id]

    return work


async def begin_merge(db: AsyncConnection, house: House, record_id: UUID, ref: Ref) -> None:
    """Have a parked counterpart merged into the living one there; the out-lane does it."""
    member = house.members[ref.account]
    entity = member.entity_of(ref.type) or ref.type
    promise = member.connector.manifest.entities.get(entity)
    if promise is None or "merge" not in promise.write:
        raise RejectedError(
            f"{member.connector.manifest.title} cannot merge a {entity} by its API: merge them "
            "there by hand, or unlink this one"
        )
    own = await links.by_record(db, [record_id], account=ref.account)
    if not any(one.state == "live" for one in own):
        raise RejectedError(f"the record has no living counterpart in {ref.account} to merge into")
    await links.set_state(db, [ref], "merging")
    await records.bump(db, record_id)
    await _mark(db, ref.account, record_id)


# --- their parts ----------------------------------------------------------------------------------


def _closing(
    card: Any, word: Word, work: Callable[[AsyncConnection], Awaitable[Sequence[UUID]]]
) -> byhand.Operation:
    """The work with the card settled by it; another person may have been faster."""

    async def both(db: AsyncConnection) -> Sequence[UUID]:
        now = await conflicts.get(db, card["id"])
        if now is None or now.state != "open":
            raise RejectedError("this card is settled already")
        await conflicts.close(db, card["id"], how=_how(word))
        return await work(db)

    return both


def _how(word: Word) -> dict[str, object]:
    name = str(word)
    value = getattr(word, name)
    return {"by": PERSON, name: value if isinstance(value, bool) else str(value)}


async def _mark(db: AsyncConnection, account: str, record_id: UUID) -> None:
    found = await records.get(db, [record_id])
    await outbox.mark(db, {(account, record_id): found[record_id]})
    await lanes.wake(db, account, "out")


def _ref(card: Any) -> Ref:
    return Ref(card["account"], card["ref_type"], card["ref_id"])


def _unfit(card: Any, word: Word, right: str) -> RejectedError:
    return RejectedError(f"a {card['kind']} card like this is settled by {right}, not by {word}")
