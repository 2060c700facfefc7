"""decide(state, observation) -> Plan: the heart, and pure.

Whatever asks (webhook, resync, dry run, undo), this is the only place that says what an
observation means for our record and for every other account.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from app.config import PROPAGATE
from app.domain import fights, identity, policy, ties
from app.domain.bylines import told_by
from app.domain.codecs import ABSENT
from app.domain.entities import alike, equal, is_blank, is_set, relations_of
from app.domain.mapping import EntityMapping, edited, says_the_same, tailored, to_canonical
from app.domain.merge import Clash, Merged, Take, Winner, behind, merge
from app.domain.overwritten import contest, overwritten
from app.domain.stages import todays
from app.domain.state import OURS, PURGED, LinkState, Plan, RecordState, Result, Stamps, State
from app.domain.unread import understood, unread
from app.domain.values import NOTHING, Fields, Key, Observation, Raw, Value


def fingerprint(fields: Fields) -> str:
    """The SHA-256 of the canonical fields, independent of their order."""
    return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()


def reading(state: State, observation: Observation) -> dict[str, Value]:
    """The canonical fields an observation shows, relations as record ids."""
    assert observation.raw is not None
    context = state.context
    if state.mapping.remembers:
        known = (state.link and state.link.base, state.record and state.record.fields)
        context = replace(context, hints=tuple(fields for fields in known if fields))
    fields = to_canonical(state.mapping, _shown(state, observation), context)
    for name in relations_of(state.entity):
        refs = observation.relations.get(name)
        if refs is None:
            continue
        found = [str(state.parents[ref]) for ref in refs if ref in state.parents]
        if is_set(name):
            fields[name] = sorted(found)
        elif found or not refs:
            fields[name] = found[0] if found else None
    if observation.labels is not None:
        fields[ties.LABELS] = sorted(
            ties.said(relation, state.parents[ref], word)
            for relation in relations_of(state.entity)
            if is_set(relation)
            for ref in observation.relations.get(relation, ())
            if ref in state.parents
            for word in observation.labels.get(ref, ())
        )
    return fields


def _shown(state: State, observation: Observation) -> Raw:
    """What it shows. What an event says was changed and a whole record does not have was cleared:
    an account may leave out what is empty, as Close may its custom fields.
    """
    raw = observation.raw or {}
    if not observation.claims or observation.partial:
        return raw
    told = {name for claim in observation.claims for name in claim.fields} - raw.keys()
    return {**raw, **dict.fromkeys(told.intersection(state.mapping.paths))} if told else raw


def decide(state: State, observation: Observation, *, new_id: UUID, now: datetime) -> Plan:
    """The plan for one observation; ``new_id`` is used if it turns out to be a new record."""
    ref, link, record = observation.ref, state.link, state.record
    if observation.raw is None:
        if not observation.gone:
            return Plan(Result.MISSING, ref, reason="the account does not show this record")
        return _gone(state, observation)
    if link is not None and link.state == "unlinked":
        return Plan(Result.UNCHANGED, ref, reason="a person unlinked it")
    if link is not None and link.state in ("parked", "merging"):
        return Plan(Result.UNCHANGED, ref, reason="parked until its merge is decided")
    if record is not None and record.state == "purged":
        return Plan(Result.UNCHANGED, ref, reason="it was purged, and nothing of it is kept")
    theirs = reading(state, observation)
    if link is None:
        match = _match(state, theirs)
        if match.unsure:
            unsure = match.unsure
            return Plan(Result.HELD, ref, base=theirs, candidates=unsure, reason=match.reason)
        if match.is_new and state.purged:
            return Plan(Result.HELD, ref, reason=PURGED)
        if match.is_new and not state.sync.introduces(ref.account):
            return Plan(Result.UNCHANGED, ref, reason="this account only receives such records")
        if match.is_new:
            plan = _introduce(state, observation, theirs, new_id, now)
            return _with_words(state, observation, theirs, plan)
    assert record is not None, "a link or a match always comes with its record"
    state = in_todays_words(state)
    record = state.record or record
    plan = _update(state, observation, theirs, record, now)
    return _with_words(state, observation, {**record.fields, **theirs}, plan)


def _with_words(state: State, observation: Observation, fields: Fields, plan: Plan) -> Plan:
    """The plan with the words there that we cannot read: a person is told, and they stay."""
    mapping, raw = state.mapping, observation.raw or {}
    known = state.link.words if state.link else NOTHING
    if not known and not mapping.has_words:
        return plan
    may_read, account = state.sync.may_read, observation.ref.account
    found = {n: one for n, one in unread(mapping, raw, fields).items() if may_read(account, n)}
    if not found and not known:
        return plan
    return replace(
        plan,
        unread=tuple(one for name, one in found.items() if known.get(name) != one.word),
        understood=understood(mapping, raw, known.keys() - found.keys()),
    )


def in_todays_words(state: State) -> State:
    """A stage that was mapped since we saw it is called anew, so that this is no edit."""
    words, own = state.context.words, state.context.own_words
    if not words and not own:
        return state
    link, record = state.link, state.record
    if link is not None:
        link = replace(link, base=todays(link.base, own), sent=todays(link.sent, words))
    if record is not None:
        record = replace(record, fields=todays(record.fields, words))
    return replace(state, link=link, record=record)


def keys_of(state: State, fields: Fields, record_id: UUID | str | None = None) -> tuple[Key, ...]:
    """The identity keys of these fields by the entity's rules."""
    ours = None if record_id is None else str(record_id)
    return identity.keys(state.entity, fields, state.sync.keys, external_id=ours)


def _match(state: State, theirs: Fields) -> identity.Verdict:
    """Which of our records this is, if any."""
    if state.apart:
        return identity.Verdict()
    found = identity.verdict(state.candidates, taken=state.taken)
    if found.same is None or state.record is None or OURS in {k.kind for k in state.candidates}:
        return found
    mine = keys_of(state, state.record.fields)
    rule = identity.contradiction(state.sync.keys or (), keys_of(state, theirs), mine)
    if not rule:
        return found
    shared = ", ".join(f"{key.kind} {key.value}" for key in state.candidates)
    return identity.Verdict(
        unsure=(found.same,), reason=f"it has the same {shared}, but another {rule}"
    )


def _gone(state: State, observation: Observation) -> Plan:
    """It was deleted there: the others keep theirs, or lose them as well if so configured.

    What was edited elsewhere and not told there yet the deleter cannot have seen, nor what is told
    there never and was edited after the delete: that is kept.
    """
    ref, link, record = observation.ref, state.link, state.record
    if link is None or link.state in ("gone", "unlinked"):
        return Plan(Result.UNCHANGED, ref)
    spreads = link.state == "live" and record is not None and record.state == "live"
    if record is None or not spreads or state.sync.on_delete(ref.account) != PROPAGATE:
        return Plan(Result.GONE, ref)
    names = writable(state, ref.account, link.base) - link.held
    unseen = behind(link.base, link.sent, record.fields, names)
    if (at := observation.version) is not None:
        untold = record.stamps.keys() - names
        unseen |= {n for n in untold if _is_edited_since(record.stamps, n, ref.account, at)}
    return Plan(Result.GONE, ref, deletes=not unseen, unseen=tuple(sorted(unseen)))


def _is_edited_since(stamps: Stamps, name: str, account: str, at: datetime) -> bool:
    """Whether somebody has edited this field after that moment, and not in this account."""
    stamp = policy.stamp_of(stamps, name)
    return stamp.account != account and stamp.at is not None and stamp.at > at


def newest(snapshot: Observation, other: Observation | None) -> Observation:
    """The one to use of two snapshots of a record."""
    if other is None or other.version is None:
        return snapshot
    newer = snapshot.version is not None and snapshot.version > other.version
    return snapshot if newer else other


def contradicts(snapshot: Observation, other: Observation | None) -> bool:
    """Whether two snapshots of a record differ and nothing says which is the newer one."""
    if other is None or snapshot.raw == other.raw:
        return False
    return None in (snapshot.version, other.version) or snapshot.version == other.version


def is_outlived(state: State, snapshot: Observation) -> bool:
    """Whether what we have seen of a record is later than a snapshot, which then tells nothing.

    Not so where it shows what we never saw of it, or tells of an edit that a write of ours may
    have replaced.
    """
    link, version = state.link, snapshot.version
    if link is None or link.state != "live" or link.seen_at is None or snapshot.raw is None:
        return False
    if version is None or version >= link.seen_at or snapshot.partial:
        return False
    theirs, related = reading(state, snapshot), relations_of(state.entity)
    known = all(n in link.base and (n not in related or link.base[n] == theirs[n]) for n in theirs)
    told = {path for claim in snapshot.claims for path in claim.fields}
    return known and not any(told.intersection(edited(state.mapping, n)) for n in link.written)


def needs_reading(state: State, snapshot: Observation, plan: Plan) -> bool:
    """Whether a snapshot proves too little, so that the record must be read.

    It is used if it is newer than all we have seen and written, or if it tells nothing new. A
    person is asked who is who only about what is still there.
    """
    link = state.link
    if snapshot.raw is None:
        return False
    if link is None:
        return bool(plan.candidates)
    if link.state == "gone":
        return True  # only a reading can prove that it came back
    version = snapshot.version
    newer = (
        version is not None
        and (link.seen_at is None or version > link.seen_at)
        # An edit after we looked and before we wrote shows what our write has replaced.
        and fights.is_over(link.written, version)
    )
    tells = plan.result is not Result.UNCHANGED or plan.base is not None
    # What a card shows must be what a person would find there now.
    words = plan.unread or plan.understood
    return not newer and bool(tells or plan.waiting or plan.settled or words)


def _introduce(
    state: State, observation: Observation, theirs: dict[str, Value], new_id: UUID, now: datetime
) -> Plan:
    """A record nobody knew: its fields are what this account may tell us."""
    account = observation.ref.account
    fields = {name: v for name, v in theirs.items() if state.sync.may_read(account, name)}
    fields |= ties.whole(state.entity, fields)
    takes = tuple(Take(n, ABSENT, v, "first seen") for n, v in fields.items() if not is_blank(v))
    record = RecordState(
        new_id,
        state.entity,
        fields,
        _stamp(state, NOTHING, takes, observation, now),
        version=1,
    )
    # What is made for this account itself, by a template or a constant, it still has to be told.
    due = behind(theirs, {}, tailored(state.mapping, fields), writable(state, account, theirs))
    others = (a for a in state.sync.accounts if a != account and state.sync.receives(a))
    return Plan(
        Result.CREATED,
        observation.ref,
        record=record,
        takes=takes,
        base=theirs,
        sent={},
        marks=(*((account,) if due and state.mapping.special else ()), *others),
        keys=tuple(
            key
            for key in keys_of(state, fields, new_id)
            if not (state.apart and key in state.candidates)
        ),
        seen_at=observation.version,
    )


def _update(
    state: State,
    observation: Observation,
    theirs: dict[str, Value],
    record: RecordState,
    now: datetime,
) -> Plan:
    account = observation.ref.account
    before = state.link or LinkState(record.id, intended=state.intended)
    link = _as_intended(before, theirs, state.mapping.passing_blank, now, observation.version)
    merged, untimed = _merge(state, observation, theirs, record, link, now)
    lost, unsure = overwritten(state, observation, theirs, link)
    seen_now = len(merged.takes)
    merged = contest(state, observation, record, link, merged, lost)
    # What a write of ours has replaced was edited when its own edit was, whatever came after it.
    times = {
        take.field: edit.at
        for take in merged.takes[seen_now:]
        for edit in lost
        if edit.field == take.field
    }
    # Who knows of one company alone has moved the record from the one it showed before.
    left = link.base.get(ties.COMPANY) if ties.COMPANIES not in theirs else None
    takes = ties.followed(state.entity, record.fields, merged.takes, left=left)
    merged = replace(merged, takes=takes)
    fields = merged.onto(record.fields)
    settled, waiting = _held(link, theirs, fields)
    marks = _marks(state, record, link, merged, account)
    edited_since = merged.takes or merged.clashes
    # What our own create has made is no sign that anybody wants it back.
    ours = bool(state.intended) or OURS in {key.kind for key in state.candidates}
    back = link.state == "gone" or (state.link is None and not ours)
    revived = record.state == "gone" and bool(back or edited_since)
    changed = None
    if merged.takes or revived:
        changed = replace(
            record,
            fields=fields,
            stamps=_stamp(state, record.stamps, merged.takes, observation, now, times),
            version=record.version + 1,
            container=record.container and not link.base,
            state="live",
        )
    moved = merged.base != before.base or merged.sent != before.sent
    held = any(clash.winner is Winner.NOBODY for clash in merged.clashes)
    if state.link is None:
        result = Result.LINKED
    elif merged.takes:
        result = Result.UPDATED
    else:
        result = Result.HELD if held else Result.UNCHANGED
    return Plan(
        result,
        observation.ref,
        record=changed,
        takes=merged.takes,
        clashes=merged.clashes,
        base=merged.base if moved or state.link is None else None,
        sent=merged.sent if moved or state.link is None else None,
        marks=tuple(filter(state.sync.receives, state.sync.accounts)) if revived else marks,
        keys=keys_of(state, fields, record.id) if changed or state.link is None else (),
        seen_at=observation.version,
        settled=settled,
        waiting=waiting,
        untimed=(*untimed, *unsure),
        kept=revived and not back,
        back=link.state == "gone",
        written=link.written if link.written is not before.written else None,
    )


def _as_intended(
    link: LinkState,
    theirs: Fields,
    passing_blank: frozenset[str],
    now: datetime,
    version: datetime | None,
) -> LinkState:
    """What shows the value that a write of ours was to bring has had its answer: it is agreed,
    also in a spelling of the vendor's own, and remembered as written.

    So is a blank that such a write goes through, if it ended there: it still has to set the value.
    Without this our own value would come back as somebody's edit, and could win a conflict.
    """
    said = {name: v for name, v in link.intended.items() if alike(theirs.get(name, ABSENT), v)}
    passing = passing_blank.intersection(link.intended).intersection(theirs) - said.keys()
    shown = {name: theirs[name] for name in said}
    shown |= {name: theirs[name] for name in passing if is_blank(theirs[name])}
    if not shown:
        return link
    sent = {name: value for name, value in link.sent.items() if name not in shown}
    sent |= {name: value for name, value in said.items() if not equal(shown[name], value)}
    written = fights.after_write(link.written, link.base, shown, said, now, version)
    return replace(link, base={**link.base, **shown}, sent=sent, written=written)


def _held(
    link: LinkState, theirs: Fields, fields: Fields
) -> tuple[tuple[str, ...], tuple[Clash, ...]]:
    """The held fields on which both sides agree meanwhile, and how the others stand now."""
    shown = [name for name in sorted(link.held) if name in theirs]
    settled = tuple(name for name in shown if theirs[name] == fields.get(name))
    waiting = tuple(
        Clash(name, fields.get(name), theirs[name], Winner.NOBODY, "still held")
        for name in shown
        if name not in settled
    )
    return settled, waiting


def _merge(
    state: State,
    observation: Observation,
    theirs: dict[str, Value],
    record: RecordState,
    link: LinkState,
    now: datetime,
) -> tuple[Merged, tuple[str, ...]]:
    """What comes of it, and the fields whose winner the vendors' own times should decide."""
    account = observation.ref.account
    assert observation.raw is not None
    open_names = {n: v for n, v in theirs.items() if n not in link.held}
    differing = [n for n, v in open_names.items() if n in record.fields and v != record.fields[n]]
    untimed: list[str] = []

    def choose(name: str, _ours: Value, _theirs: Value) -> tuple[Winner, str]:
        stamp, rule = policy.stamp_of(record.stamps, name), state.sync.policy(name)
        theirs_at = changed_at(state.mapping, observation, name)
        ours_at = state.ours_at.get(name)
        unsure = theirs_at is None or (stamp.seen and ours_at is None)
        by_time = policy.by_time(rule, account=account, ours_by=stamp.account)
        if unsure and by_time and edited(state.mapping, name):
            untimed.append(name)
        return policy.settle(
            rule,
            account=account,
            theirs_at=theirs_at or now,
            ours_by=stamp.account,
            ours_at=ours_at or stamp.at,
        )

    def readable(name: str) -> bool:
        blank_only = state.mapping.only_if_blank(name) and not is_blank(record.fields.get(name))
        return state.sync.may_read(account, name) and not blank_only

    same: frozenset[str] = frozenset()
    if differing:
        via = told_by(record.stamps, account)
        context = replace(state.context, current=link.base or None, via=via)
        mapping, raw = state.mapping, observation.raw
        same = says_the_same(mapping, differing, record.fields, raw, context)
    merged = merge(
        link.base,
        link.sent,
        record.fields,
        open_names,
        policy=choose,
        same=same,
        readable=readable,
        fight=lambda name, value: fights.verdict(link.written, name, value, now),
    )
    return merged, tuple(untimed)


def _marks(
    state: State, record: RecordState, link: LinkState, merged: Merged, account: str
) -> tuple[str, ...]:
    """Who is behind now: the others if we changed or they never had it, this account if it lost or
    lacks something.
    """
    fields = merged.onto(record.fields)
    names = writable(state, account, merged.base) - link.held
    this = bool(behind(merged.base, merged.sent, tailored(state.mapping, fields), names))
    travels = not (record.container and not link.base)
    return tuple(
        a
        for a in state.sync.accounts
        if (this if a == account else travels and (bool(merged.takes) or a in state.absent))
    )


def writable(state: State, account: str, base: Fields | None) -> frozenset[str]:
    """The canonical names that may be written to this account, which shows ``base``.

    ``base`` is None where the record is not there yet.
    """
    names = state.mapping.writable(creating=base is None)
    if not state.sync.fields:
        return names if state.sync.receives(account) else frozenset()

    def due(name: str) -> bool:
        match state.sync.write_mode(name):
            case "once":
                return base is None
            case "if_blank":
                return base is None or is_blank(base.get(name))
        return True

    return frozenset(n for n in names if state.sync.may_write(account, n) and due(n))


def changed_at(mapping: EntityMapping, observation: Observation, name: str) -> datetime | None:
    """When this field was edited, by the vendor's own time; None if it is not known."""
    known = [at for p in edited(mapping, name) if (at := observation.field_times.get(p))]
    return max(known, default=None)


def _stamp(
    state: State,
    stamps: Stamps,
    takes: Sequence[Take],
    observation: Observation,
    now: datetime,
    times: Mapping[str, datetime] = NOTHING,
) -> dict[str, Any]:
    """``times`` of edits that are known otherwise."""
    fresh: dict[str, Any] = {}
    for take in takes:
        at = times.get(take.field) or changed_at(state.mapping, observation, take.field)
        stamp = {"at": (at or now).isoformat(), "account": observation.ref.account}
        fresh[take.field] = stamp if at else {**stamp, "seen": True}
    return {**stamps, **fresh}
