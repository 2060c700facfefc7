"""Leads: people who are no contacts yet, under the same type of ours and told apart by their ids.

A lead that is converted is its contact from then on, as if the two had been merged.
https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_lead.htm
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from app.connectors.salesforce.shapes import CONTACT, LEAD, is_lead
from app.sdk import Account, Change, Event, Outcome, Raw, Ref, Write


def travel(account: Account) -> bool:
    """Whether leads are people for this account; they are not unless it says so."""
    return account.options.get("leads") is True


def kind_of(ref: Ref) -> str:
    """The object of a ref: that of our type, unless its id is that of a lead."""
    return LEAD if ref.type == CONTACT and is_lead(ref.id) else ref.type


def sorted_out(refs: Sequence[Ref]) -> Iterable[tuple[str, list[str]]]:
    """The ids of each object."""
    for kind, own in groupby(sorted(refs, key=kind_of), key=kind_of):
        yield kind, [ref.id for ref in own]


def told_of(event: Event, *, travel: bool) -> Event:
    """An event of a lead as one of a person; of nobody where leads do not travel."""
    if event.ref is None or event.ref.type != LEAD:
        return event
    if not travel:
        return replace(event, ref=None, survivor=None, change=Change.CHANGED, fields={})
    survivor = event.survivor and replace(event.survivor, type=CONTACT)
    return replace(event, ref=replace(event.ref, type=CONTACT), survivor=survivor)


def converted(rows: Iterable[Raw]) -> dict[str, str]:
    """The contact that each of those leads became."""
    return {
        str(row["Id"]): str(row.get("ConvertedContactId") or "")
        for row in rows
        if row.get("IsConverted")
    }


def as_leads(batch: Sequence[Write]) -> list[list[Write]]:
    """The writes of one object at a time."""
    own = [replace(write, type=LEAD) for write in batch if write.ref and is_lead(write.ref.id)]
    traces = {write.trace for write in own}
    return [some for some in (own, [w for w in batch if w.trace not in traces]) if some]


def in_order(batch: Sequence[Write], outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes in the order of the writes, which were of our own type."""
    by_trace: Mapping[str, Outcome] = {one.write.trace: one for one in outcomes}
    return [replace(by_trace[write.trace], write=write) for write in batch]
