"""Companies, contacts, deals and tickets: as HubSpot shows them, and as it takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from app.connectors.hubspot import activities, tickets
from app.connectors.hubspot.dialect import row_error
from app.sdk import (
    Edit,
    Observation,
    Outcome,
    Pipeline,
    Raw,
    Ref,
    RejectedError,
    Stage,
    UnknownOutcomeError,
    Write,
)

COMPANIES, CONTACTS, DEALS = "companies", "contacts", "deals"
TICKETS = tickets.TICKETS


@dataclass(frozen=True, slots=True)
class Link:
    """A relation of ours as HubSpot keeps it; ids are of this direction.

    https://developers.hubspot.com/docs/api-reference/legacy/crm/associations/associate-records/guide
    """

    relation: str
    to: str
    type_id: int  # primary where it is single: that makes the unlabelled link as well
    single: bool = False
    category: str = "HUBSPOT_DEFINED"


#: How the refusal of a single call is told among the results of several.
REFUSED = "refused"


LINKS: Mapping[str, tuple[Link, ...]] = {
    COMPANIES: (),
    CONTACTS: (Link("company", COMPANIES, 1, single=True), Link("companies", COMPANIES, 279)),
    DEALS: (
        Link("company", COMPANIES, 5, single=True),
        Link("companies", COMPANIES, 341),
        Link("people", CONTACTS, 3),
    ),
    TICKETS: (
        Link("company", COMPANIES, tickets.COMPANY, single=True),
        Link("companies", COMPANIES, tickets.COMPANIES),
        Link("people", CONTACTS, tickets.CONTACT),
    ),
    **{
        type: (
            Link("company", COMPANIES, company, single=True),
            Link("people", CONTACTS, person),
            Link("deals", DEALS, deal),
        )
        for type, (company, person, deal) in activities.LINKS.items()
    },
}


def ends_of(type: str) -> dict[str, tuple[Link, ...]]:
    """The relations of an object type, by what they lead to."""
    found: dict[str, tuple[Link, ...]] = {}
    for link in LINKS[type]:
        found[link.to] = (*found.get(link.to, ()), link)
    return found


#: What carries identity or tells of a merge, asked for whatever the mapping reads.
ALWAYS: Mapping[str, tuple[str, ...]] = {
    CONTACTS: ("email", "hs_additional_emails", "lastmodifieddate", "hs_merged_object_ids"),
    COMPANIES: ("domain", "hs_additional_domains", "hs_lastmodifieddate", "hs_merged_object_ids"),
    DEALS: ("dealname", "createdate", "hs_lastmodifieddate", "hs_merged_object_ids"),
    TICKETS: ("subject", "createdate", "hs_lastmodifieddate", "hs_merged_object_ids"),
    **dict.fromkeys(activities.TYPES, (activities.TIME, activities.CREATED, "hs_lastmodifieddate")),
}


#: Properties by which a create whose answer was lost is known again.
NAMES: Mapping[str, tuple[str, ...]] = {
    CONTACTS: ("firstname", "lastname"),
    COMPANIES: ("name",),
    DEALS: ("dealname",),
    TICKETS: ("subject",),
}


#: What a list calls one of each in the names of its links.
NAMES_OF_ONE: Mapping[str, str] = {
    COMPANIES: "company",
    CONTACTS: "contact",
    DEALS: "deal",
    TICKETS: "ticket",
}


MODIFIED: Mapping[str, str] = {CONTACTS: "lastmodifieddate"}


def modified_property(type: str) -> str:
    return MODIFIED.get(type, "hs_lastmodifieddate")


def time_of(text: Any) -> datetime | None:
    if not isinstance(text, str) or not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def millis(at: datetime) -> str:
    return str(int(at.timestamp() * 1000))


def stamp(text: Any) -> int:
    at = time_of(text)
    return int(millis(at)) if at else 0


def several(raw: Raw, *names: str) -> list[str]:
    """The values of single and `;` properties."""
    return [part for name in names for part in str(raw.get(name) or "").split(";") if part.strip()]


def full_name(owner: Raw) -> str:
    return " ".join(str(owner[part]) for part in ("firstName", "lastName") if owner.get(part))


def ordered(rows: Iterable[Raw]) -> list[Raw]:
    return sorted(rows, key=lambda row: row.get("displayOrder") or 0)


def as_pipeline(row: Raw) -> Pipeline:
    stages = (s for s in ordered(row.get("stages") or ()) if not s.get("archived"))
    return Pipeline(row["id"], row["label"], tuple(_stage(stage) for stage in stages))


def _stage(row: Raw) -> Stage:
    meta = row.get("metadata") or {}
    if (state := tickets.kind_of(meta)) is not None:
        return Stage(row["id"], row["label"], state)
    probability = str(meta.get("probability") or "")
    ends = re.fullmatch(r"[01](\.0+)?", probability) is not None
    said = meta.get("isClosed")
    closed = ends if said is None else str(said).lower() == "true"
    won = probability.startswith("1")
    return Stage(row["id"], row["label"], ("won" if won else "lost") if closed else "open")


#: A type of links: (category, type id). Ids of a portal's own labels may equal HubSpot's.
Type: TypeAlias = tuple[str, int]
#: The types of one link, each with its word; there are none where the address does not tell.
Types: TypeAlias = Mapping[Type, str | None]


def type_of(link: Link) -> Type:
    return link.category, link.type_id


def links_listed(
    rows: Sequence[Raw], type: str, to: str, links: Sequence[Link]
) -> dict[str, dict[str, Types]]:
    """The links that a list shows well enough: complete, unlabelled, and with no choice to make.

    A list names the types in a way of its own: the labels and the primary one v4 tells.
    """
    plain = {links[-1].category: links[-1].type_id}
    pair = f"{NAMES_OF_ONE.get(type)}_to_{NAMES_OF_ONE.get(to)}"
    single = any(link.single for link in links)
    known: dict[str, dict[str, Types]] = {}
    for row in rows:
        shown = (row.get("associations") or {}).get(to) or {}
        ends = {str(end["id"]) for end in shown.get("results") or ()}
        names = {end.get("type") for end in shown.get("results") or ()}
        labelled = type in NAMES_OF_ONE and not names <= {pair, f"{pair}_unlabeled"}
        if not shown.get("paging") and not (single and len(ends) > 1) and not labelled:
            known[row["id"]] = {id: dict.fromkeys(plain.items()) for id in ends}
    return known


def words_of(types: Types, links: Sequence[Link]) -> tuple[str, ...]:
    """What a link is called beside what every one of its kind is."""
    own = {type_of(link) for link in links}
    return tuple(sorted(word for kind, word in types.items() if word and kind not in own))


def by_age(id: str) -> tuple[int, str]:
    """Ids are numbers that grow."""
    return len(id), id


def chosen(ends: Mapping[str, Types], link: Link) -> list[str]:
    """The ids of a relation; of several companies the primary, else the oldest."""
    ids = sorted(ends, key=by_age)
    if not link.single:
        return ids
    return ([id for id in ids if type_of(link) in ends[id]] or ids)[:1]


def as_properties(fields: Raw) -> dict[str, str]:
    """Everything is text; an empty one clears."""
    return {name: _text(value) for name, value in fields.items()}


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ";".join(str(item) for item in value)
        case _:
            return str(value)


def named(write: Write) -> Ref:
    if write.ref is None:
        raise RejectedError(f"a {write.op} without the remote record")
    return write.ref


def specs(types: Iterable[Type]) -> list[dict[str, Any]]:
    return [
        {"associationCategory": category, "associationTypeId": id} for category, id in sorted(types)
    ]


def as_associations(write: Write, words: Mapping[tuple[str, str], Type]) -> list[dict[str, Any]]:
    """The links of a new record; ``words`` are the types of labels, by other end and word."""
    found: list[dict[str, Any]] = []
    for to, links in ends_of(write.type).items():
        types: dict[str, set[Type]] = {}
        for link in links:
            edit = write.relations.get(link.relation)
            ends = edit.wanted if edit else ()
            for end in ends[:1] if link.single else ends:
                # The primary link is an unlabelled one as well.
                types.setdefault(end.id, {type_of(link)})
            for end, word in edit.label if edit else ():
                types.setdefault(end.id, {type_of(link)}).add(words[to, word])
        found += [{"to": {"id": id}, "types": specs(own)} for id, own in types.items()]
    return found


def with_relations(outcome: Outcome) -> Outcome:
    """What was stored, with the relations that were made."""
    write = outcome.write
    if outcome.error is not None or write.ref is None:
        return outcome
    single = {link.relation for link in LINKS[write.type] if link.single}
    relations = {
        name: edit.wanted[:1] if name in single else edit.wanted
        for name, edit in write.relations.items()
    }
    stored = outcome.stored or Observation(write.ref, {}, partial=True)
    return replace(outcome, ref=write.ref, stored=replace(stored, relations=relations))


def fates_of(data: Raw, batch: Sequence[Write]) -> dict[str, Mapping[str, Any] | Exception]:
    """The row of each write, by its trace: what was stored, or why not."""
    fates: dict[str, Mapping[str, Any] | Exception] = {}
    by_id = {write.ref.id: write.trace for write in batch if write.ref}
    traces = {write.trace for write in batch}
    for row in data.get("results") or ():
        trace = row.get("objectWriteTraceId") or by_id.get(str(row.get("id")))
        if trace is None and len(batch) == 1:
            trace = batch[0].trace
        if trace in traces:
            fates[trace] = row.get(REFUSED) or row
    general: Exception | None = None
    for error in data.get("errors") or ():
        context = error.get("context") or {}
        named = [t for t in context.get("objectWriteTraceId") or () if t in traces]
        ids = [id for key in ("ids", "id") for id in context.get(key) or ()]
        named += [by_id[str(id)] for id in ids if str(id) in by_id]
        for trace in named:
            fates.setdefault(trace, row_error(error))
        if not named:
            general = row_error(error)
    lost = UnknownOutcomeError("HubSpot's answer does not mention this row")
    for write in batch:
        fates.setdefault(write.trace, general or lost)
    return fates


def edits_of(row: Raw) -> dict[str, tuple[Edit, ...]]:
    """The history of each property that was asked for, newest first."""
    return {
        name: tuple(
            Edit(version.get("value"), at, version.get("sourceType") == "INTEGRATION")
            for version in versions
            if (at := time_of(version.get("timestamp"))) is not None
        )
        for name, versions in (row.get("propertiesWithHistory") or {}).items()
    }
