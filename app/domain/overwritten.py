"""Edits that a write of ours replaced before anybody could show them to us.

Between our last look at a record and our write to it lie some milliseconds. What was edited
then is gone from the record, but not from what the vendor tells of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from app.config import LATEST, REVIEW
from app.domain import fights, policy
from app.domain.codecs import ABSENT
from app.domain.entities import equal
from app.domain.mapping import edited, to_canonical
from app.domain.merge import Clash, Merged, Policy, Winner, merge
from app.domain.state import LinkState, RecordState, State
from app.domain.values import Fields, Observation, Raw, Value


@dataclass(frozen=True, slots=True)
class Lost:
    """An edit that a write of ours replaced before we could see it."""

    field: str
    value: Value
    at: datetime
    #: Somebody who saw what we wrote has edited it since: this one has lost for good.
    beaten: bool = False


def overwritten(
    state: State, observation: Observation, theirs: Fields, link: LinkState
) -> tuple[list[Lost], list[str]]:
    """The edits that our writes replaced unseen, and the fields of which only a history can tell.

    Between our last look at a record and our write to it lie some milliseconds. What was
    edited then is gone from the record, but not from what the vendor tells of it.
    """
    assert observation.raw is not None
    if not observation.claims or not link.written:
        return [], []
    lost: dict[str, Lost] = {}
    unsure: list[str] = []

    def read(name: str, raw: Raw) -> Value:
        return to_canonical(state.mapping, raw, state.context).get(name, ABSENT)

    for claim in observation.claims:
        for name, written in link.written.items():
            paths = [p for p in edited(state.mapping, name) if p in claim.fields]
            if not paths or name in link.held:
                continue
            now = theirs.get(name, ABSENT)
            beaten = not equal(now, written["now"])
            if claim.before and claim.raw is not None:
                value = read(name, {**claim.raw, **claim.before})
                # A person may come back to our value too: only a program writes over unseen.
                ours = claim.by_program and fights.is_ours(written, read(name, claim.raw))
                if ours and fights.overwrote(written, value, claim.at):
                    lost[name] = Lost(name, value, claim.at, beaten)
                continue
            if claim.raw is not None:
                continue
            (path, *_) = paths
            value = read(name, {**observation.raw, path: claim.fields[path]})
            if equal(value, now) or not fights.overwrote(written, value, claim.at):
                continue
            if observation.histories is None:
                unsure.append(name)
                continue
            edits = observation.histories.get(path, ())
            values = [read(name, {**observation.raw, path: edit.value}) for edit in edits]
            for edit, then, over, after in zip(edits[1:], values[1:], edits, values, strict=False):
                ours = over.by_program and fights.is_ours(written, after)
                if ours and equal(then, value):
                    lost[name] = Lost(name, value, edit.at, beaten)
    return list(lost.values()), unsure


def contest(
    state: State,
    observation: Observation,
    record: RecordState,
    link: LinkState,
    merged: Merged,
    lost: Sequence[Lost],
) -> Merged:
    """The merge as it had been, had we seen these edits before we wrote over them."""
    account = observation.ref.account
    for edit in lost:
        if edit.beaten:
            ours = link.written[edit.field]["now"]
            clash = Clash(edit.field, ours, edit.value, Winner.OURS, "it was edited anew since")
            merged = replace(merged, clashes=(*merged.clashes, clash))
            continue
        stamp = policy.stamp_of(record.stamps, edit.field)
        rule = state.sync.policy(edit.field)
        winner, why = policy.settle(
            # One of the two is gone from the CRM already: there is nothing left to hold.
            LATEST if rule == REVIEW else rule,
            account=account,
            theirs_at=edit.at,
            ours_by=stamp.account,
            ours_at=stamp.at,
        )
        again = merge(
            {edit.field: link.written[edit.field]["was"]},
            {},
            merged.onto(record.fields),
            {edit.field: edit.value},
            policy=_settled(winner, why),
            readable=lambda name: state.sync.may_read(account, name),
        )
        merged = replace(
            merged, takes=(*merged.takes, *again.takes), clashes=(*merged.clashes, *again.clashes)
        )
    return merged


def _settled(winner: Winner, why: str) -> Policy:
    return lambda _name, _ours, _theirs: (winner, why)
