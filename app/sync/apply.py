"""Carry plans out: one statement per table for a whole batch, in one order of locks."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import conflicts, journal, keyed, lanes, links, outbox, records, resyncs
from app.db.journal import Cause, Entry
from app.db.links import Link
from app.domain.merge import Take, Winner
from app.domain.state import Plan, RecordState, Result, State
from app.domain.values import Key, Ref
from app.sync.deletes import doom, said, unseen_because
from app.sync.house import House
from app.sync.parting import join, part
from app.sync.relink import promote

log = structlog.get_logger()


@dataclass(slots=True)
class Changes:
    """What a batch of plans adds up to."""

    added: list[RecordState] = field(default_factory=list)
    changed: dict[UUID, RecordState] = field(default_factory=dict)
    claims: dict[UUID, tuple[RecordState, Ref, tuple[Key, ...]]] = field(default_factory=dict)
    linked: list[Link] = field(default_factory=list)
    agreed: list[links.Agreement] = field(default_factory=list)
    revived: list[Ref] = field(default_factory=list)
    gone: list[tuple[Plan, Link]] = field(default_factory=list)
    cards: list[tuple[State, Plan]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    marks: dict[tuple[str, UUID], RecordState] = field(default_factory=dict)
    traces: dict[UUID, str | None] = field(default_factory=dict)
    #: The records of which the account has told something.
    shown: set[UUID] = field(default_factory=set)
    #: (entity, policy) of every conflict, for the metrics.
    clashed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, state: State, plan: Plan, cause: Cause, link: Link | None) -> Link | None:
        """Take in one plan; the link as it will be afterwards."""
        ref, record = plan.ref, plan.record
        if plan.result is Result.MISSING or (plan.result is Result.HELD and plan.candidates):
            self.cards += [(state, plan)] if plan.candidates else []
            return link
        if plan.result is Result.GONE:
            assert link is not None
            self.gone.append((plan, link))
            if state.record is not None:
                take = Take("link", str(ref), None, said(plan.deletes, plan.unseen))
                self.entries.append(
                    Entry(link.record_id, state.record.version, ref.account, cause, [take])
                )
            return link.now(state="gone")
        owner = record or state.record
        if owner is None:
            return link  # an account that only receives showed something that we do not keep
        if plan.result is Result.CREATED:
            self.added.append(owner)
        elif record is not None:
            self.changed[record.id] = record
        if plan.keys or plan.result is Result.CREATED:
            self.claims[owner.id] = (owner, ref, plan.keys)
        link = self._relate(state, plan, owner, link)
        self.clashed += [(state.entity, state.sync.policy(c.field)) for c in plan.clashes]
        if plan.takes or plan.clashes:
            self.entries.append(
                Entry(owner.id, owner.version, ref.account, cause, plan.takes, plan.clashes)
            )
        if (
            plan.settled
            or plan.kept
            or plan.waiting
            or plan.unread
            or plan.understood
            or any(clash.winner is Winner.NOBODY for clash in plan.clashes)
        ):
            self.cards.append((state, plan))
        for account in plan.marks:
            self.marks[account, owner.id] = owner
            self.traces[owner.id] = cause.trace
        return link

    def _relate(self, state: State, plan: Plan, owner: RecordState, link: Link | None) -> Link:
        if link is None:
            assert plan.base is not None
            link = Link.new(
                owner.id, state.entity, plan.ref, plan.base, plan.sent or {}, plan.seen_at
            )
            self.linked.append(link)
            return link
        # What tells nothing new, not even a later moment, is written down nowhere.
        news = (plan.base, plan.written) != (None, None)
        if news or plan.seen_at not in (None, link.seen_at):
            seen_at, written = plan.seen_at, plan.written
            self.agreed.append(links.Agreement(plan.ref, plan.base, plan.sent, seen_at, written))
            self.shown.add(owner.id)
        if plan.back:
            self.revived.append(plan.ref)
        return link.now(
            state="live" if plan.back else link.state,
            base=plan.base if plan.base is not None else link.base,
            sent=plan.sent if plan.sent is not None else link.sent,
            seen_at=plan.seen_at or link.seen_at,
            written=plan.written if plan.written is not None else link.written,
        )

    async def flush(self, db: AsyncConnection, house: House, account: str, *, scan: bool) -> None:
        """Write everything. Raises KeyTaken if another worker claimed a new record's key."""
        fresh = {record.id for record in self.added}
        await records.add(db, self.added, source=account)
        await records.change(db, list(self.changed.values()), source=account)
        await self._claim(db, fresh)
        await links.add(db, self.linked)
        met = [link.record_id for link in self.linked if link.record_id not in fresh]
        await join(db, account, met)
        await links.agree(db, self.agreed)
        await outbox.wake_unseen(db, account, self.shown)
        await self._revive(db)
        await self._bury(db, house)
        await self._open_cards(db)
        await journal.write(db, self.entries)
        await outbox.mark(db, self.marks, scan=scan, traces=self.traces)
        for behind in sorted({account for account, _ in self.marks}):
            await lanes.wake(db, behind, "out")

    async def _claim(self, db: AsyncConnection, fresh: set[UUID]) -> None:
        """Hold the keys; one that belongs to another record already is a card for a person."""
        for entity in sorted({record.entity for record, _, _ in self.claims.values()}):
            mine = {i: c for i, c in self.claims.items() if c[0].entity == entity}
            asked = {key for i, (_, _, keys) in mine.items() if i not in fresh for key in keys}
            owners = await records.owners_of(db, entity, asked)
            wanted: dict[UUID, tuple[Key, ...]] = {}
            apart = await keyed.separated(db, mine) if set(owners.values()) - fresh else {}
            for record_id, (_, ref, keys) in mine.items():
                foreign = {
                    key: owner
                    for key in keys
                    if record_id not in fresh and (owner := owners.get(key, record_id)) != record_id
                }
                wanted[record_id] = tuple(key for key in keys if key not in foreign)
                strangers = {
                    owner for owner in foreign.values() if owner not in apart.get(record_id, ())
                }
                if strangers:
                    named = ", ".join(f"{key.kind} {key.value}" for key in foreign)
                    reason = f"{named} belongs to another record too"
                    await conflicts.unsure(
                        db, entity, ref, tuple(sorted(strangers)), reason, {}, record_id=record_id
                    )
            await records.claim(db, entity, wanted)

    async def _revive(self, db: AsyncConnection) -> None:
        """Remote records that came back; beside another one that stands there, they are parked."""
        found = await links.by_ref(db, self.revived)
        for ref, link in found.items():
            own = await links.by_record(db, [link.record_id], account=ref.account)
            rival = next((other for other in own if other.state == "live"), None)
            await links.set_state(db, [ref], "parked" if rival else "live")
            if rival is not None:
                await conflicts.parked(db, link.entity, link.record_id, ref, rival.ref)
            else:
                await join(db, ref.account, [link.record_id])
            log.info("record.restored", ref=str(ref), record=str(link.record_id))

    async def _bury(self, db: AsyncConnection, house: House) -> None:
        """Remote records that were deleted: keep a tombstone, and do as the policy says."""
        for plan, link in self.gone:
            ref, record_id = plan.ref, link.record_id
            await links.end(db, [ref], "deleted")
            await conflicts.settle_refs(db, [ref], how={"by": "deleted there"})
            await outbox.forget_dead(db, ref.account, record_id)
            if asked := await conflicts.asked_for(db, ref.account, record_id):
                # Who is entered anew was told first: now there is nobody whom it might double.
                await resyncs.begin(db, ref.account, link.entity, asked)
                await lanes.wake(db, ref.account, "scan")
            promoted = await promote(db, record_id, ref.account)
            if not promoted:
                await part(db, ref.account, [record_id])
            own = await links.by_record(db, [record_id])
            left = [other for other in own if other.state not in ("gone", "unlinked")]
            spread = False
            # A copy of it may be there already: who comes with its keys is no stranger.
            begun = await outbox.begun(db, record_id)
            if plan.deletes and not promoted and (left or begun):
                spread = await doom(db, house, record_id, ref, begun)
            elif not left and not begun:
                await records.bury(db, [record_id])
            elif plan.unseen and not promoted:
                reason, about = unseen_because(ref), left[0].ref if left else ref
                await conflicts.kept(db, link.entity, record_id, about, reason, plan.unseen)
            log.info(
                "record.unlinked",
                ref=str(ref),
                record=str(record_id),
                left=len(left),
                propagate=spread,
            )

    async def _open_cards(self, db: AsyncConnection) -> None:
        await conflicts.settle_identities(db, [link.ref for link in self.linked])
        for state, plan in self.cards:
            if plan.candidates:
                shown = {"fields": dict(plan.base or {})}
                await conflicts.unsure(
                    db, state.entity, plan.ref, plan.candidates, plan.reason, shown
                )
                continue
            owner = plan.record or state.record
            assert owner is not None
            if plan.kept:
                reason = f"it was to be deleted, and was edited in {plan.ref.account} since"
                edited = [take.field for take in plan.takes]
                await conflicts.kept(db, state.entity, owner.id, plan.ref, reason, edited)
            for clash in (*plan.clashes, *plan.waiting):
                if clash.winner is Winner.NOBODY:
                    await conflicts.hold_field(db, owner.id, state.entity, plan.ref, clash)
            for one in plan.unread:
                await conflicts.cannot_read(db, owner, plan.ref, one)
            if plan.understood:
                how = {"by": "reading"}
                await conflicts.settle(db, plan.ref, fields=plan.understood, how=how, kind="word")
            if plan.settled:
                how = {"by": "agreement"}
                await conflicts.settle(db, plan.ref, fields=plan.settled, how=how)
