"""The engine's loop in memory: lanes, inbox and outbox as app/sync has them, around its pure core.

What decides is the real thing: decide, merge, policy, identity, mapping, draft. Only what
PostgreSQL and the network do elsewhere is done here in dictionaries. Each lane moves in small
steps, so that a history may let anything happen between any two of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from app.config import EntitySync
from app.domain import policy
from app.domain.codecs import ABSENT, Context
from app.domain.decide import (
    contradicts,
    decide,
    is_outlived,
    keys_of,
    needs_reading,
    newest,
    reading,
    writable,
)
from app.domain.departed import is_ours
from app.domain.draft import agreed_after_create, agreed_after_update, outgoing
from app.domain.edits import made_at, still_timed
from app.domain.fights import after_write
from app.domain.mapping import edited
from app.domain.meeting import (
    Step,
    last_words,
    promoted,
    state_after_move,
    state_after_rename,
    step_of,
    united,
    unmade,
)
from app.domain.merge import Clash, Take, Winner, behind
from app.domain.state import OURS, LinkState, Plan, RecordState, Result, State
from app.domain.values import NOTHING, Claim, Edit, Fields, Key, Observation, Ref, Value
from tests.prove.crm import MAPPING, TYPE, Crm, ExistsError, News, moment

ENTITY = "person"
CONTEXT = Context()
LOOKS = 3
#: Ticks until a delete is carried out: what looks like one may prove to be a merge.
DELETE_WAIT = 2
NEWS = 1


@dataclass(slots=True)
class Link:
    """A row of the table links."""

    record_id: UUID
    ref: Ref
    base: Fields
    sent: Fields
    seen_at: Any
    synced_at: int
    state: str = "live"
    writing: bool = False
    written: Mapping[str, Any] = field(default_factory=dict)
    intended: Fields = field(default_factory=dict)
    ended: str | None = None


@dataclass(slots=True)
class Mark:
    """A row of the outbox."""

    wanted: int
    marked_at: int
    due: int
    scan: bool = False
    attempts: int = 0
    intent_at: int | None = None
    intent_tick: int = 0
    intended: Fields = field(default_factory=dict)
    dead: bool = False
    unseen: bool = False  # … as what it is about was not shown
    held: bool = False  # a guard keeps it until a person decides
    guard: str | None = None  # the kind of write that a guard holds, or held and a person approved
    asked: bool = False  # a person must say what became of this create


@dataclass(slots=True)
class Job:
    """A mark that is being carried out."""

    mark: Mark
    wanted: int
    record: RecordState
    link: Link | None
    base: Fields
    sent: Fields
    names: frozenset[str]
    fields: Mapping[str, Any]
    held: set[str] = field(default_factory=set)
    looked: bool = False
    deleting: bool = False
    begun: bool = False  # by somebody who died before he kept the answer
    outcome: Observation | Exception | None = None


@dataclass(slots=True)
class Look:
    """One ref to look at, and the news that asks for it."""

    news: list[News]
    known_at: int
    snapshot: Observation | None = None
    trusted: bool = True
    gone: bool = False
    gone_at: int = -99
    alive_at: int = -99
    times: dict[str, Any] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    seen: Observation | None = None
    read_at: int | None = None
    early: bool = False  # it is gone, and may be what a create of ours makes just now


@dataclass(slots=True)
class Card:
    """A field that waits for a person."""

    ref: Ref
    record_id: UUID
    field: str
    theirs: Value
    ours: Value


@lru_cache
def _number(number: int) -> UUID:
    return UUID(int=number)


def newest_of(edits: Sequence[Edit]) -> datetime:
    return max((edit.at for edit in edits), default=datetime.min.replace(tzinfo=UTC))


@dataclass(slots=True)
class Engine:
    sync: EntitySync
    crms: Mapping[str, Crm]
    patience: Mapping[str, int]
    follow: bool = False  # a merge in one CRM is carried to the others
    rash: bool = False  # people may edit between our look at a record and our write to it
    limit: int = (
        0  # so many writes of a kind a guard lets through before it asks; 0: as many as come
    )
    blank: State = field(init=False)  # as if nothing were known
    now: int = 0
    pulse: int = 0
    records: dict[UUID, RecordState] = field(default_factory=dict)
    links: dict[Ref, Link] = field(default_factory=dict)
    by_record: dict[tuple[UUID, str], Link] = field(default_factory=dict)
    keys: dict[Key, UUID] = field(default_factory=dict)
    inbox: dict[str, list[News]] = field(default_factory=dict)
    outbox: dict[tuple[str, UUID], Mark] = field(default_factory=dict)
    looks: dict[str, list[Look]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    departed: dict[str, int] = field(default_factory=dict)  # ids told to be gone, and since when
    cards: dict[tuple[Ref, str], Card] = field(default_factory=dict)
    journal: list[tuple[str, Value]] = field(default_factory=list)
    replaced: list[tuple[str, Value]] = field(default_factory=list)
    #: What was observed last is an old snapshot: a reading would tell.
    stale: bool = False
    unsure: int = 0
    #: Who is who, a person is asked: by remote record, the records of ours that it may be.
    asked: dict[Ref, tuple[UUID, ...]] = field(default_factory=dict)
    #: What a create of ours made beside another counterpart: a person is asked what to do.
    beside: set[Ref] = field(default_factory=set)
    #: Two records with one key: a person is asked whether they are one.
    suspects: list[tuple[UUID, UUID]] = field(default_factory=list)
    #: Creates of which a person must say whether what they made was deleted.
    riddles: dict[tuple[str, UUID], list[Ref]] = field(default_factory=dict)
    things: dict[UUID, int] = field(default_factory=dict)
    merged: dict[UUID, UUID] = field(default_factory=dict)
    #: What was to be deleted and was not, for a person to decide.
    kept: set[UUID] = field(default_factory=set)
    #: Writes by account and kind since a person approved last.
    tallies: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.blank = State(ENTITY, MAPPING, self.sync, CONTEXT)

    def tick(self) -> int:
        """The database's clock: it never stands still."""
        self.pulse += 1
        return self.pulse

    def crash(self) -> None:
        """Whatever was in the memory of the programs is forgotten."""
        self.looks.clear()
        self.jobs.clear()

    def receive(self, account: str, news: News) -> None:
        news = news.again(self.tick())
        self.inbox.setdefault(account, []).append(news)
        if news.change == "gone":
            self.departed.setdefault(news.id, news.received)

    # --- the in-lane

    def step_in(self, account: str) -> bool:
        """Observe, or apply what was observed; False if there is nothing to do."""
        looks = self.looks.pop(account, None)
        if looks is not None:
            self._apply(account, looks)
            return True
        if not self.inbox.get(account):
            return False
        self.looks[account] = self._observe(account)
        return True

    def _observe(self, account: str) -> list[Look]:
        looks: dict[str, Look] = {}
        for news in self.inbox[account]:
            about = news.id
            if news.survivor is not None:
                about = news.survivor
                to = Ref(account, TYPE, about)
                lost = [Ref(account, TYPE, loser) for loser in news.losers]
                followed = [self.relink(ref, to, news.received) for ref in lost]
                if not all(followed):
                    continue
            look = looks.setdefault(about, Look([], news.received))
            look.news.append(news)
            look.known_at = min(look.known_at, news.received)
            if news.change == "gone":
                look.gone, look.gone_at = True, max(news.at, look.gone_at)
            else:
                look.alive_at = max(news.at, look.alive_at)
            look.trusted = look.trusted and news.snapshot is not None
            if news.snapshot is not None:
                look.trusted = look.trusted and not contradicts(news.snapshot, look.snapshot)
                look.snapshot = newest(news.snapshot, look.snapshot)
            at = moment(news.at)
            if news.fields and self.crms[account].quirks.tells:
                raw = news.snapshot.raw if news.snapshot is not None else None
                look.claims.append(Claim(at, news.fields, news.before, raw, news.by_program))
            for path in news.fields if self.crms[account].quirks.times else ():
                look.times[path] = max(at, look.times.get(path, at))
        for id, look in looks.items():
            linked = Ref(account, TYPE, id) in self.links
            if (
                look.snapshot is not None
                and look.trusted
                and not look.gone
                and (linked or id not in self.departed)
            ):
                look.seen = self._timed(look.snapshot, look)
            elif linked or not look.gone or look.alive_at >= look.gone_at:
                self._read(account, id, look)
            elif (begun := self._begun(account)) is not None and begun <= look.known_at:
                look.early = True
        return list(looks.values())

    def _read(self, account: str, id: str, look: Look) -> None:
        look.read_at = self.tick()
        seen = self.crms[account].read(id)
        if seen.raw is None and look.gone:
            seen = replace(seen, gone=True)
        look.seen = self._timed(seen, look)

    def _timed(self, observation: Observation, look: Look) -> Observation:
        if not look.times and not look.claims:
            return observation
        times = still_timed(look.times, look.claims, observation.raw)
        return replace(observation, field_times=times, claims=tuple(look.claims))

    def _apply(self, account: str, looks: Sequence[Look]) -> None:
        done: set[int] = set()
        for look in looks:
            answer: Plan | None = None
            if look.seen is not None:
                answer = self.reconcile(look.seen, look.known_at, look.read_at)
                if answer is None and self.stale:
                    self._read(account, look.seen.ref.id, look)
                    answer = self.reconcile(look.seen, look.known_at, look.read_at)
            if answer is not None or (look.seen is None and not look.early):
                done.update(map(id, look.news))
        self.inbox[account] = [n for n in self.inbox[account] if id(n) not in done]

    # --- observation -> decide -> apply

    def reconcile(
        self,
        observation: Observation,
        known_at: int,
        read_at: int | None,
        *,
        same_as: UUID | None = None,
        scan: bool = False,
    ) -> Plan | None:
        """What was decided and applied; None if it must be looked at again."""
        ref = observation.ref
        self.stale = False
        for former in (*observation.absorbed, observation.asked):
            if former in self.links and former != ref and self.links[former].ended != "merged":
                self.relink(former, ref, known_at)
        link = self.links.get(ref)
        state = self._state(observation, link, same_as and self.merged.get(same_as, same_as))
        if self._distrusts(ref.account, state, link, known_at, read_at):
            return None
        if read_at is None and is_outlived(state, observation):
            return Plan(Result.UNCHANGED, ref)
        new_id = _number(len(self.records) + 1)
        plan = decide(state, observation, new_id=new_id, now=moment(self.now))
        if plan.untimed and state.record is not None:
            state, observation = self._ask(state, observation, plan.untimed)
            plan = decide(state, observation, new_id=new_id, now=moment(self.now))
        if read_at is None and needs_reading(state, observation, plan):
            self.stale = True
            return None
        if plan.candidates and self._have_left(state, ref.account):
            return self.reconcile(observation, known_at, read_at, same_as=same_as, scan=scan)
        self._carry_out(state, plan, link, scan=scan)
        return plan

    def _have_left(self, state: State, account: str) -> bool:
        """Whether some of those with the same keys were deleted there before we heard of it."""
        rivals = [self._standing(owner, account) for owner in state.taken]
        read_at = self.tick()
        found = [
            self.crms[account].read(rival.ref.id, proven=True)
            for rival in rivals
            if rival is not None
        ]
        gone = [self.reconcile(one, read_at, read_at) for one in found if one.gone]
        return any(plan is not None and plan.result is Result.GONE for plan in gone)

    def _ask(
        self, state: State, observation: Observation, names: Sequence[str]
    ) -> tuple[State, Observation]:
        """Let the vendors say when the edits of both sides were made."""
        assert state.record is not None
        crm, ref = self.crms[observation.ref.account], observation.ref
        edits = crm.edits(ref.id)
        times = {
            path: moment(self.now) if edits is None else newest_of(edits.get(path, ()))
            for name in names
            for path in edited(MAPPING, name)
        }
        ours_at = {}
        for name in names:
            stamp = policy.stamp_of(state.record.stamps, name)
            source = self.by_record.get((state.record.id, stamp.account or ""))
            known = source and self.crms[source.ref.account].edits(source.ref.id)
            if stamp.seen and stamp.at and known:
                value = state.record.fields[name]
                ours_at[name] = made_at(
                    MAPPING, name, value, known, seen_at=stamp.at, context=CONTEXT
                )
        observation = replace(
            observation, field_times={**times, **observation.field_times}, histories=edits or {}
        )
        return replace(state, ours_at=ours_at), observation

    def _state(self, observation: Observation, link: Link | None, same_as: UUID | None) -> State:
        ref = observation.ref
        if link is not None:
            held = frozenset(name for at, name in self.cards if at == ref)
            known = LinkState(
                link.record_id,
                link.base,
                link.sent,
                link.state,
                link.seen_at,
                held,
                link.written,
                link.intended,
            )
            record = self.records.get(link.record_id)
            return State(ENTITY, MAPPING, self.sync, CONTEXT, known, record)
        candidates: dict[Key, UUID] = {}
        if same_as is not None:
            candidates = {Key(OURS, str(same_as)): same_as}
        elif observation.raw is not None:
            keys = keys_of(self.blank, reading(self.blank, observation))
            candidates = {key: self.keys[key] for key in keys if key in self.keys}
        found = set(candidates.values())
        return State(
            ENTITY,
            MAPPING,
            self.sync,
            CONTEXT,
            record=self.records.get(next(iter(found))) if len(found) == 1 else None,
            candidates=candidates,
            intended=self._intended(found, ref.account),
            taken=tuple(r for r in found if self._standing(r, ref.account) is not None),
        )

    def _intended(self, found: set[UUID], account: str) -> Fields:
        """What a create of ours says, if this may be what it made."""
        marks = [self.outbox.get((account, record_id)) for record_id in found]
        return marks[0].intended if len(marks) == 1 and marks[0] is not None else {}

    def _standing(self, record_id: UUID, account: str) -> Link | None:
        link = self.by_record.get((record_id, account))
        return link if link is not None and link.state == "live" else None

    def _distrusts(
        self, account: str, state: State, link: Link | None, known_at: int, read_at: int | None
    ) -> bool:
        if link is not None:
            return link.writing or (read_at is not None and link.synced_at >= read_at)
        leaving = {news.id for news in self.inbox.get(account, ()) if news.change == "gone"}
        rivals = [self._standing(owner, account) for owner in state.taken]
        if any(rival is not None and rival.ref.id in leaving for rival in rivals):
            return True
        begun = self._begun(account)
        return not state.recognised and begun is not None and begun <= known_at

    def _begun(self, account: str) -> int | None:
        return min(
            (
                mark.intent_at
                for (there, _), mark in self.outbox.items()
                if there == account and mark.intent_at is not None and not mark.asked
            ),
            default=None,
        )

    def _carry_out(self, state: State, plan: Plan, link: Link | None, *, scan: bool) -> None:
        ref = plan.ref
        if plan.result is Result.MISSING:
            return
        if plan.result is Result.HELD and plan.candidates:
            self.asked[ref] = plan.candidates
            return
        if plan.result is Result.GONE:
            assert link is not None
            link.state, link.ended = "gone", "deleted"
            self._settle_cards(ref)
            mark = self.outbox.get((ref.account, link.record_id))
            if mark is not None and mark.dead and mark.intent_at is None:
                del self.outbox[ref.account, link.record_id]
            promoted = self._promote(link.record_id, ref.account)
            self._after_delete(plan, link.record_id, promoted=promoted)
            for other, candidates in list(self.asked.items()):
                if other.account == ref.account and link.record_id in candidates:
                    read_at = self.tick()
                    self.reconcile(self.crms[ref.account].read(other.id), read_at, read_at)
            return
        owner = plan.record or state.record
        if owner is None:
            return  # a record that this account does not introduce
        self.asked.pop(ref, None)
        if plan.record is not None:
            self.records[owner.id] = plan.record
            self.things.setdefault(owner.id, self.crms[ref.account].thing_of(ref.id))
        self._claim(owner, plan)
        if link is None:
            assert plan.base is not None
            link = Link(owner.id, ref, plan.base, plan.sent or {}, plan.seen_at, self.tick())
            self.links[ref] = self.by_record[owner.id, ref.account] = link
        elif plan.base is not None or plan.seen_at is not None:
            if plan.base is not None:
                link.base, link.intended = plan.base, {}
            link.sent = plan.sent if plan.sent is not None else link.sent
            link.written = plan.written if plan.written is not None else link.written
            if plan.base is not None or plan.seen_at != link.seen_at:
                self._wake_unseen(ref.account, owner.id)
            link.seen_at = max(filter(None, (link.seen_at, plan.seen_at)), default=None)
            link.synced_at = self.tick()
        if plan.back:
            beside = self._standing(owner.id, ref.account) is not None
            link.state, link.ended = "parked" if beside else "live", None
            if not beside:
                self.by_record[owner.id, ref.account] = link
        self._write_down(plan, owner, ref)
        if plan.kept:
            self.kept.add(owner.id)
        for account in plan.marks:
            self.mark(account, owner, scan=scan)

    def _wake_unseen(self, account: str, record_id: UUID) -> None:
        """What was not shown when it was to be written to is shown again."""
        mark = self.outbox.get((account, record_id))
        if mark is not None and mark.dead and mark.unseen:
            mark.dead, mark.attempts, mark.due = False, 0, self.now

    # --- deletes

    def _after_delete(self, plan: Plan, record_id: UUID, *, promoted: bool) -> None:
        """What a delete by somebody means for our record and the other accounts."""
        left = self._left(record_id)
        begun = [m for (_, id), m in self.outbox.items() if id == record_id and m.intent_at]
        if plan.deletes and not promoted and (left or begun):
            self._doom(record_id, begun)
        elif not left and not begun:
            self._lay_to_rest(record_id)
        elif plan.unseen and not promoted:
            self.kept.add(record_id)

    def _settle_cards(self, ref: Ref) -> None:
        self.beside.discard(ref)
        closed = [card for card in self.cards.values() if card.ref == ref]
        self.replaced += [(card.field, card.theirs) for card in closed]
        self.cards = {key: card for key, card in self.cards.items() if key[0] != ref}

    def _left(self, record_id: UUID) -> list[Link]:
        own = (link for link in self.links.values() if link.record_id == record_id)
        return [link for link in own if link.state not in ("gone", "unlinked")]

    def _set_state(self, record_id: UUID, state: str) -> None:
        record = self.records[record_id]
        if record.state != state:
            self.records[record_id] = replace(record, state=state, version=record.version + 1)

    def _raise_version(self, record_id: UUID) -> None:
        record = self.records[record_id]
        self.records[record_id] = replace(record, version=record.version + 1)

    def _lay_to_rest(self, record_id: UUID) -> None:
        """It lives nowhere any more: its keys are free."""
        self._set_state(record_id, "gone")
        self.keys = {key: owner for key, owner in self.keys.items() if owner != record_id}

    def _doom(self, record_id: UUID, begun: Sequence[Mark]) -> None:
        """It is to be deleted wherever it still is, in a while, or comes to be."""
        self._set_state(record_id, "gone")
        self._mark_all(self.records[record_id])
        for mark in begun:
            mark.wanted = self.records[record_id].version
        for (_, id), mark in self.outbox.items():
            if id == record_id and not mark.dead and not mark.held:
                mark.due = max(mark.due, self.now + DELETE_WAIT)

    def decide_delete(self, record_id: UUID, *, delete: bool) -> None:
        """A person's word on what was to be deleted and was not."""
        self.kept.discard(record_id)
        if delete:
            self._set_state(record_id, "gone")
            self._mark_all(self.records[record_id])

    def _delete(self, account: str, job: Job, link: Link) -> None:
        """Look, then delete if it is still as we know it."""
        read_at = self.tick()
        plan = self.reconcile(self.crms[account].read(link.ref.id, proven=True), read_at, read_at)
        result = plan.result if plan is not None else None
        still = self.records[job.record.id].version == job.record.version
        if result is Result.UNCHANGED and still and link.state == "live":
            if self._admit(account, job, "delete"):
                link.writing, link.synced_at = True, self.tick()
                self.crms[account].delete(link.ref.id, self.now, ours=True)
                job.outcome = Observation(link.ref, None, gone=True)
        elif result is Result.GONE and job.begun:
            self._deleted(account, job, link)
            del self.jobs[account]
        else:
            job.mark.due = self.now
            if result is Result.MISSING and link.state == "live":
                self._failed(job, unseen=True)
            del self.jobs[account]

    def _deleted(self, account: str, job: Job, link: Link) -> None:
        link.state, link.ended, link.writing = "gone", "propagated", False
        self._settle_cards(link.ref)
        link.synced_at = self.tick()
        if job.mark.wanted <= job.wanted:
            self.outbox.pop((account, job.record.id), None)  # whose link it is now has its own
        else:
            job.mark.attempts, job.mark.due = 0, self.now
        self._promote(link.record_id, account)
        record = self.records[link.record_id]
        if record.state == "gone" and not self._left(record.id):
            self._lay_to_rest(record.id)

    # --- guards

    def _admit(self, account: str, job: Job, op: str) -> bool:
        """Whether this write may go now; else it is held until a person decides."""
        mark = job.mark
        if not self.limit or mark.guard == op:
            return True
        held = any(
            other.held and other.guard == op
            for (there, _), other in self.outbox.items()
            if there == account
        )
        if not held and self.tallies[account, op] < self.limit:
            self.tallies[account, op] += 1
            return True
        mark.held, mark.guard, mark.intent_at = True, op, None
        del self.jobs[account]
        return False

    def held(self, account: str) -> dict[UUID, Mark]:
        """What the guard of an account holds."""
        found = ((id, mark) for (there, id), mark in self.outbox.items() if there == account)
        return {id: mark for id, mark in found if mark.held}

    def approve(self, account: str) -> bool:
        """A person lets it through, and the counting begins anew."""
        held = self.held(account)
        self.tallies.clear()
        for mark in held.values():
            mark.held, mark.attempts, mark.due = False, 0, self.now
        return bool(held)

    def discard(self, account: str) -> list[UUID]:
        """A person drops it; the records whose writes were dropped."""
        held = self.held(account)
        for record_id, mark in held.items():
            del self.outbox[account, record_id]
            if mark.guard == "delete" and self.records[record_id].state == "gone":
                self._set_state(record_id, "live")
        return list(held)

    def _claim(self, owner: RecordState, plan: Plan) -> None:
        if not plan.keys and plan.result is not Result.CREATED:
            return
        for key in [k for k, holder in self.keys.items() if holder == owner.id]:
            if key not in plan.keys:
                del self.keys[key]
        for key in plan.keys:
            holder = self.keys.setdefault(key, owner.id)
            if holder != owner.id:
                self.suspects.append((owner.id, holder))

    def _write_down(self, plan: Plan, owner: RecordState, ref: Ref) -> None:
        self._note_losers(plan.takes, plan.clashes)
        for clash in plan.clashes:
            if clash.winner is Winner.NOBODY:
                card = Card(ref, owner.id, clash.field, clash.theirs, clash.ours)
                self.cards[ref, clash.field] = card
        for clash in plan.waiting:
            self.cards[ref, clash.field] = Card(
                ref, owner.id, clash.field, clash.theirs, clash.ours
            )
        for name in plan.settled:
            self.cards.pop((ref, name), None)

    def _note_losers(self, takes: Sequence[Take], clashes: Sequence[Clash]) -> None:
        self.journal += [(take.field, take.lost) for take in takes if take.lost is not ABSENT]
        self.journal += [(c.field, c.theirs) for c in clashes if c.winner is Winner.OURS]
        self.replaced += [(take.field, take.old) for take in takes if take.old is not ABSENT]

    # --- merges in the CRMs

    def relink(self, ref: Ref, to: Ref, known_at: int = -1) -> bool:
        """Follow a merge of two remote records, as app/sync/relink.py does; False: not yet."""
        lost, kept = self.links.get(ref), self.links.get(to)
        begun = self._begun(to.account)
        step = step_of(lost, kept, making=begun is not None and begun <= known_at)
        if kept is not None and step is Step.REMEMBER:
            tombstone = Link(kept.record_id, ref, {}, {}, None, self.tick(), "gone")
            tombstone.ended = "merged"
            self.links[ref] = tombstone
        elif lost is not None and step is Step.RENAME:
            self._rename(lost, to)
        elif lost is not None and kept is not None and step is Step.FOLLOW:
            self._bury_merged(lost)
            if lost.record_id != kept.record_id:
                self._unite(lost.record_id, kept.record_id)
            elif unmade([kept]):
                self._raise_version(kept.record_id)
                self.mark(to.account, self.records[kept.record_id])
            self._promote(kept.record_id, to.account)
        if self.follow and to in self.links:
            self.follow_merge(self.links[to].record_id)
        return step is not Step.WAIT

    def _bury_merged(self, lost: Link) -> None:
        if lost.ended != "merged":
            lost.state, lost.ended, lost.writing = "gone", "merged", False
            lost.synced_at = self.tick()
            self._settle_cards(lost.ref)

    def _rename(self, lost: Link, to: Ref) -> None:
        was, cards = lost.state, [c for c in self.cards.values() if c.ref == lost.ref]
        intended = lost.intended if lost.writing else {}
        self._bury_merged(lost)
        beside = self._standing(lost.record_id, to.account) is not None
        new = Link(lost.record_id, to, lost.base, lost.sent, lost.seen_at, self.tick())
        new.state, new.intended = state_after_rename(was, beside=beside), intended
        self.links[to] = new
        if new.state == "live":
            self.by_record[new.record_id, to.account] = new
        for card in cards if not beside else ():
            self.cards[to, card.field] = replace(card, ref=to)
        self._set_state(lost.record_id, "live")  # it was told deleted before it was told merged
        self._mark_all(self.records[lost.record_id])

    def _unite(self, lost_id: UUID, kept_id: UUID) -> None:
        lost, kept = self.records[lost_id], self.records[kept_id]
        for link in [one for one in self.links.values() if one.record_id == lost_id]:
            account = link.ref.account
            beside = self._standing(kept_id, account) is not None
            link.record_id, link.sent = kept_id, {}
            link.state = state_after_move(link.state, beside=beside)
            if link.state != "live":
                link.writing, link.synced_at = False, self.tick()
            known = self.by_record.get((kept_id, account))
            if link.state == "live" or known is None:
                self.by_record[kept_id, account] = link
        record, takes, clashes = united(kept, lost)
        self.records[kept_id] = record
        self.records[lost_id] = replace(lost, state="merged", version=lost.version + 1)
        self.merged |= {id: kept_id for id, to in self.merged.items() if to == lost_id}
        self.merged[lost_id] = kept_id
        self.keys |= {key: kept_id for key, owner in self.keys.items() if owner == lost_id}
        self._note_losers(takes, clashes)
        for card in self.cards.values():
            if card.record_id == lost_id:
                card.record_id = kept_id
        for account in self.crms:
            mark = self.outbox.pop((account, lost_id), None)
            if mark is not None and (account, kept_id) not in self.outbox:
                mark.wanted, mark.dead, mark.due = record.version, False, self.now
                self.outbox[account, kept_id] = mark
        self._mark_all(record)
        for link in unmade([one for one in self.links.values() if one.record_id == kept_id]):
            self.mark(link.ref.account, record)

    def _mark_all(self, record: RecordState) -> None:
        for link in self.links.values():
            if link.record_id == record.id and link.state == "live":
                self.mark(link.ref.account, record)

    def _own(self, record_id: UUID, account: str) -> list[Link]:
        return [
            link
            for link in self.links.values()
            if (link.record_id, link.ref.account) == (record_id, account)
        ]

    def _latest(self, record_id: UUID, account: str) -> Link | None:
        """As app/sync/deletes.py has it: the living, else the last to end of those not merged."""

        def rank(link: Link) -> tuple[bool, bool, bool, int]:
            live, gone = link.state == "live", link.state == "gone"
            return live, not gone, link.ended != "merged", link.synced_at

        return max(self._own(record_id, account), key=rank, default=None)

    def _promote(self, record_id: UUID, account: str) -> bool:
        heir = promoted(self._own(record_id, account))
        if heir is None:
            return False
        heir.state = "live"
        self.beside.discard(heir.ref)
        self.by_record[record_id, account] = heir
        self._mark_all(self.records[record_id])
        return True

    def follow_merge(self, record_id: UUID) -> None:
        """Merge elsewhere too what is one record of ours."""
        for account in self.crms:
            own = self._own(record_id, account)
            parked = [link for link in own if link.state == "parked"]
            if parked and any(link.state == "live" for link in own):
                for link in parked:
                    link.state = "merging"
                self._raise_version(record_id)
                self.mark(account, self.records[record_id])

    def join(self, one: UUID, other: UUID) -> bool:
        """A person says that these two are one; whether they still were two."""
        one, other = (self.merged.get(id, id) for id in (one, other))
        if one == other or "live" not in (self.records[one].state, self.records[other].state):
            return False
        lost, kept = (other, one) if self.records[one].state == "live" else (one, other)
        self._unite(lost, kept)
        return True

    def parked(self) -> list[UUID]:
        """Records of which a person must say whether they shall be merged elsewhere too."""
        return [link.record_id for link in self.links.values() if link.state == "parked"]

    def _merge_there(self, account: str, record_id: UUID) -> bool:
        """Merge what is to be merged there; whether there was anything."""
        own = self._own(record_id, account)
        living = next((link for link in own if link.state == "live"), None)
        loser = next((link for link in own if link.state == "merging"), None)
        if living is None or loser is None:
            return False
        crm = self.crms[account]
        if {living.ref.id, loser.ref.id} <= crm.contacts.keys():
            shown = {
                name: value
                for name, value in reading(self.blank, crm.read(loser.ref.id)).items()
                if self.sync.may_read(account, name)
            }
            record = self.records[record_id]
            after, takes, clashes = last_words(record, loser.base, shown)
            self.records[record_id] = after
            self._note_losers(takes, clashes)
            if after is not record:
                self._mark_all(after)
            if after.state != record.state:
                self.kept.add(record_id)
            crm.merge(living.ref.id, loser.ref.id, self.now, ours=True)
            self.relink(loser.ref, living.ref)
        else:
            loser.state = "parked"  # somebody was faster: there is news of that
        read_at = self.tick()
        self.reconcile(crm.read(living.ref.id), read_at, read_at)
        return True

    def mark(self, account: str, record: RecordState, *, scan: bool = False) -> None:
        known = self.outbox.get((account, record.id))
        if known is None:
            mark = Mark(record.version, self.now, self.now, scan)
            self.outbox[account, record.id] = mark
            return
        if record.version > known.wanted:
            known.wanted, known.attempts, known.dead = record.version, 0, False
        known.scan = known.scan and scan
        known.due = min(known.due, self.now)
        if known.held:
            known.held, known.guard = False, None  # it is weighed anew

    # --- the out-lane

    def step_out(self, account: str) -> bool:
        """Plan, look and write, or settle; False if there is nothing due."""
        job = self.jobs.get(account)
        if job is not None and job.outcome is not None:
            del self.jobs[account]
            if job.deleting:
                assert job.link is not None
                self._deleted(account, job, job.link)
            else:
                self._settle(account, job)
            return True
        if job is not None:
            if job.deleting:
                assert job.link is not None
                self._delete(account, job, job.link)
            elif job.link is None:
                self._create(account, job)
            else:
                self._update(account, job, job.link)
            return True
        due = self.outbox and [
            (mark.due, record_id)
            for (there, record_id), mark in self.outbox.items()
            if there == account and not mark.dead and not mark.held and mark.due <= self.now
        ]
        if not due:
            return False
        _, record_id = min(due)
        self._plan(account, record_id)
        return True

    def _plan(self, account: str, record_id: UUID) -> None:
        mark, record = self.outbox[account, record_id], self.records[record_id]
        if self._merge_there(account, record_id):
            return
        link = self._latest(record_id, account)
        if link is not None and link.state != "live":
            barred = link.ended != "propagated"  # what we deleted there ourselves may be made anew
            link = None
        else:
            barred = False
        begun = link is not None and link.writing
        if link is not None and begun:
            # We hold the lane: whoever began that write is dead.
            link.writing, link.synced_at = False, self.tick()  # what it said may stand or not
        if record.state != "live" and link is not None:
            job = Job(mark, mark.wanted, record, link, link.base, link.sent, frozenset(), {})
            job.deleting, job.begun = True, begun
            self.jobs[account] = job
            return
        died = (
            record.state == "gone" and mark.intent_at and (record_id, account) not in self.by_record
        )
        if (record.state != "live" or barred) and not died:
            del self.outbox[account, record_id]
            return
        if link is None and not self.sync.receives(account):
            del self.outbox[account, record_id]
            return
        if link is None and mark.intent_at is None:
            wait = self.patience[account] - (self.now - mark.marked_at)
            if wait > 0:
                mark.due = self.now + wait
                return
        base = link.base if link else NOTHING
        sent = link.sent if link else NOTHING
        held = self._held(record_id, account)
        open_names = writable(self.blank, account, base if link else None) - held
        names = behind(base, sent, record.fields, open_names)
        fields, _ = outgoing(MAPPING, names, record.fields, base if link else None, CONTEXT)
        if link is not None and not fields:
            if names:
                link.sent = {**sent, **{name: record.fields[name] for name in names}}
                link.synced_at = self.tick()
            del self.outbox[account, record_id]
            return
        self.jobs[account] = Job(mark, mark.wanted, record, link, base, sent, names, fields, held)

    def _held(self, record_id: UUID, account: str) -> set[str]:
        return {
            card.field
            for card in self.cards.values()
            if card.record_id == record_id and card.ref.account == account
        }

    def _update(self, account: str, job: Job, link: Link) -> None:
        """Look, then write if it is still as we know it; where it is rash, in two steps."""
        if job.looked:
            self._write(account, job, link)
            return
        read_at = self.tick()
        crm = self.crms[account]
        plan = self.reconcile(crm.read(link.ref.id), read_at, read_at)
        still = (link.base, link.sent) == (job.base, job.sent)
        still = still and self._held(job.record.id, account) == job.held
        still = still and self.records[job.record.id].version == job.record.version
        still = still and link.state == "live"
        if plan is not None and plan.result is Result.MISSING and link.state == "live":
            self._failed(job, unseen=True)  # what is not shown is not written to
            del self.jobs[account]
            return
        if not still or plan is None or plan.result is not Result.UNCHANGED:
            job.mark.due = self.now
            del self.jobs[account]
            return
        if not self._admit(account, job, "update"):
            return
        link.writing, link.synced_at, job.looked = True, self.tick(), True
        link.intended = {name: job.record.fields[name] for name in job.names}
        crm.witness.looked(account, link.ref.id)
        if not self.rash:
            self._write(account, job, link)

    def _write(self, account: str, job: Job, link: Link) -> None:
        crm = self.crms[account]
        try:
            stored = crm.write(link.ref.id, job.fields, self.now)
            job.outcome = stored or LookupError(link.ref.id)
        except ExistsError as twin:
            job.outcome = twin

    def _create(self, account: str, job: Job) -> None:
        mark, crm, started = job.mark, self.crms[account], self.tick()
        if self.records[job.record.id].version != job.record.version:  # or merged meanwhile
            self._put_off(account, mark, 0)
            return
        begun = mark.scan or mark.intent_at is not None
        oldest = min((n.received for n in self.inbox.get(account, ())), default=None)
        if not begun and oldest is not None:
            self._put_off(account, mark, 1)
            return
        keys = keys_of(self.blank, job.record.fields)
        there = {o.ref: o for key in keys for o in crm.find(key.value, self.now)}
        if not there and mark.intent_at is not None:
            left = crm.probe(self.things[job.record.id], mark.intent_tick, self.now)
            there = {o.ref: o for o in left}
            certain = crm.quirks.unique and bool(keys)
            if not there and not certain and self.now - mark.intent_tick <= crm.quirks.lag:
                self._put_off(account, mark, 1)
                return
        unmet = [o for ref, o in there.items() if ref not in self.links]
        if self._standing(job.record.id, account) is not None:
            self._put_off(account, mark, 0)
        elif there and not unmet:
            # What is there is another record of ours: a person is asked whether they are one.
            self.suspects += [(job.record.id, self.links[ref].record_id) for ref in there]
            mark.dead = True
            del self.jobs[account]
        elif len(unmet) > 1:
            self.unsure += 1
            mark.dead = True
            del self.jobs[account]
        elif unmet:
            del self.jobs[account]
            self._link_to(account, job, unmet[0], started)
        elif mark.intent_at is not None and self._departed(account, job):
            del self.jobs[account]
        elif job.record.state != "live":
            # Its create has made nothing before its worker died: now nobody makes it.
            del self.jobs[account], self.outbox[account, job.record.id]
            if not self._left(job.record.id):
                self._lay_to_rest(job.record.id)
        elif self._admit(account, job, "create"):
            mark.intent_at, mark.intent_tick, mark.asked = self.tick(), self.now, False
            mark.intended = {name: job.record.fields[name] for name in job.names}
            try:
                job.outcome = crm.make(self.things[job.record.id], job.fields, self.now)
            except ExistsError as twin:
                job.outcome = twin

    def _departed(self, account: str, job: Job) -> bool:
        """Whether what this create has made was deleted since, or may have been."""
        crm, record, begun = self.crms[account], job.record, job.mark.intent_at or 0
        told = [
            id
            for id, since in self.departed.items()
            if since >= begun and id in crm.bin and Ref(account, TYPE, id) not in self.links
        ]
        told += [
            ref.id
            for ref, link in self.links.items()
            if ref.account == account and link.ended == "merged"
            if not link.base and link.synced_at >= begun  # it was remembered, and never met
        ]
        unread = [news for news in self.inbox.get(account, ()) if news.received >= begun]
        told += [
            id
            for news in unread
            for id in news.losers
            if id not in told and Ref(account, TYPE, id) not in self.links
        ]
        kept = {one.ref: one for one in crm.recall(job.mark.intent_tick, told)}
        recalled = {r: o for r, o in kept.items() if o.raw is not None and r not in self.links}
        blank, mine = self.blank, []
        for ref, one in recalled.items():
            shown = reading(blank, one)
            keys = keys_of(blank, record.fields), keys_of(blank, shown)
            if is_ours(job.mark.intended, keys[0], shown, keys[1]):
                mine.append(ref)
        unknown = [ref for id in told if (ref := Ref(account, TYPE, id)) not in kept]
        if len(mine) == 1:
            self._bury(job, mine[0])
        elif mine or recalled or unknown:
            self.riddles[account, record.id] = [*recalled, *unknown]
            job.mark.dead = job.mark.asked = True
        return bool(mine or recalled or unknown)

    def _bury(self, job: Job, ref: Ref) -> None:
        """As if our create had been answered, and the record deleted then."""
        job.mark.due, job.mark.intent_at = self.now, None
        link = Link(job.record.id, ref, job.mark.intended, {}, None, self.tick())
        self.links[ref] = self.by_record[job.record.id, ref.account] = link
        self.reconcile(Observation(ref, None, gone=True), self.tick(), None)

    def answer(self, account: str, record_id: UUID, ref: Ref | None) -> None:
        """A person says which of those that were deleted our create had made, if any."""
        del self.riddles[account, record_id]
        mark = self.outbox[account, record_id]
        mark.dead, mark.attempts, mark.due = False, 0, self.now
        mark.intent_at, mark.asked = None, False
        if ref in self.links:
            self._unite(record_id, self.links[ref].record_id)
        elif ref is not None:
            link = Link(record_id, ref, mark.intended, {}, None, self.tick())
            self.links[ref] = self.by_record[record_id, account] = link
            self.reconcile(Observation(ref, None, gone=True), self.tick(), None)

    def _put_off(self, account: str, mark: Mark, wait: int) -> None:
        mark.due = self.now + wait
        del self.jobs[account]

    def _link_to(self, account: str, job: Job, found: Observation, since: int) -> None:
        job.mark.due, job.mark.intent_at = self.now, None
        if self.reconcile(found, since, since, same_as=job.record.id) is None:
            job.mark.due = self.now + 1

    def _settle(self, account: str, job: Job) -> None:
        outcome, link = job.outcome, job.link
        if isinstance(outcome, Observation):
            self._done(account, job, outcome)
        elif isinstance(outcome, ExistsError):
            self._failed(job)
            if link is not None:
                link.writing, link.intended, link.synced_at = False, {}, self.tick()
            read_at = self.tick()
            seen = self.crms[account].read(outcome.id)
            if link is None and seen.ref not in self.links:
                self._link_to(account, job, seen, read_at)
            else:
                self.reconcile(seen, read_at, read_at)
        else:
            assert link is not None
            link.writing, link.intended, link.synced_at = False, {}, self.tick()
            self._failed(job, unseen=True)
            read_at = self.tick()
            self.reconcile(self.crms[account].read(link.ref.id), read_at, read_at)

    def _failed(self, job: Job, *, unseen: bool = False) -> None:
        job.mark.attempts += 1
        job.mark.due, job.mark.intent_at, job.mark.intended = self.now, None, {}
        job.mark.dead, job.mark.unseen = job.mark.attempts >= LOOKS, unseen

    def _done(self, account: str, job: Job, stored: Observation) -> None:
        record, link = job.record, job.link
        shown = reading(self.blank, stored)
        if link is not None:
            base, sent = agreed_after_update(
                job.base, job.sent, record.fields, told=job.names, stored=shown
            )
            at = moment(self.now)
            link.written = after_write(link.written, job.base, base, job.names, at, stored.version)
            link.base, link.sent, link.intended = base, sent, {}
            link.writing, link.synced_at = False, self.tick()
        else:
            base, sent = agreed_after_create(record.fields, told=job.names, stored=shown)
            seen_at = None if stored.partial else stored.version
            owner = self.merged.get(record.id, record.id)
            made = Link(owner, stored.ref, base, sent, seen_at, self.tick())
            rival = self._standing(owner, account)
            if rival is not None and rival.ref == stored.ref:
                # The in-lane has linked it meanwhile, and knows more than our answer.
                job.mark.intent_at, job.mark.due = None, self.now
                return
            tombstone = self.links.get(stored.ref)
            if tombstone is not None and tombstone.ended == "merged":
                # Somebody has merged it into another already.
                if job.mark.wanted <= job.wanted:
                    self.outbox.pop((account, record.id), None)
                if tombstone.record_id != owner:
                    self._unite(owner, tombstone.record_id)
                return
            if rival is not None:
                made.state = "parked"
                if owner not in self.merged.values():
                    self.beside.add(made.ref)
            else:
                self.by_record[owner, account] = made
            self.links[stored.ref] = made
        if job.mark.wanted <= job.wanted:
            self.outbox.pop((account, record.id), None)
        else:
            job.mark.intent_at, job.mark.attempts, job.mark.due = None, 0, self.now
        if link is not None and not stored.partial:
            self.reconcile(stored, self.tick(), None)

    # --- what people ask for

    def resync(self, account: str) -> None:
        """Look at everything the account has."""
        for seen in self.crms[account].scan():
            read_at = self.tick()
            self.reconcile(seen, read_at, read_at, scan=True)

    def resolve(self, card: Card, *, theirs: bool) -> Value:
        """A person decides; the answer is what was chosen."""
        record = self.records[card.record_id]
        ours = record.fields.get(card.field, card.ours)
        chosen = card.theirs if theirs else ours
        link = self.links[card.ref]
        link.base = {**link.base, card.field: card.theirs}
        link.sent = {n: v for n, v in link.sent.items() if n != card.field}
        link.synced_at = self.tick()
        del self.cards[card.ref, card.field]
        self.journal.append((card.field, ours if theirs else card.theirs))
        stamp = {"at": moment(self.now).isoformat(), "account": "person"}
        changed = replace(
            record,
            fields={**record.fields, card.field: chosen},
            stamps={**record.stamps, card.field: stamp},
            version=record.version + 1,
        )
        self.records[record.id] = changed
        for (record_id, account), known in self.by_record.items():
            if record_id == record.id and known.state == "live":
                self.mark(account, changed)
        return chosen
