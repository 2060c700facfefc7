"""Change Data Capture: the events of the last three days, in the order of their commits.

https://developer.salesforce.com/docs/atlas.en-us.change_data_capture.meta/change_data_capture/cdc_event_fields_header.htm
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sandbox.records import Record
from sandbox.salesforce.derived import value
from sandbox.salesforce.transaction import Change, Transaction
from sandbox.wire import Call, Json, now

if TYPE_CHECKING:
    from sandbox.salesforce.org import Salesforce

KEPT = timedelta(hours=72)
MOST = 50_000
CAPTURED = (
    "Account",
    "Contact",
    "Lead",
    "Opportunity",
    "OpportunityContactRole",
    "Task",
    "Event",
    "Case",
)
ALL = "/data/ChangeEvents"
_UNTOLD = ("Id", "IsDeleted", "SystemModstamp", "MasterRecordId")


@dataclass(frozen=True, slots=True)
class Told:
    """One event: its header without bitmaps, its values, and the names of what changed."""

    number: int
    entity: str
    header: Json
    fields: Json
    changed: list[str]

    @property
    def replay_id(self) -> bytes:
        return replay_id(self.number)


def replay_id(number: int) -> bytes:
    return number.to_bytes(8, "big") + b"\0\0"


def topic(entity: str) -> str:
    """`/data/AccountChangeEvent`, `/data/Thing__ChangeEvent`."""
    name = entity.removesuffix("c") if entity.endswith("__c") else entity
    return f"/data/{name}ChangeEvent"


class Bus:
    """What was told, and who waits for more."""

    def __init__(self) -> None:
        self.events: deque[Told] = deque(maxlen=MOST)
        self.number = 0
        self.waiting: set[asyncio.Event] = set()

    def put(self, entity: str, header: Json, fields: Json, changed: list[str]) -> None:
        self.number += 1
        self.events.append(Told(self.number, entity, header, fields, changed))
        while self.events and self.events[0].header["commitTimestamp"] < _oldest():
            self.events.popleft()
        for each in self.waiting:
            each.set()

    @property
    def first(self) -> int:
        """The oldest number that is kept, or the one to come."""
        return self.events[0].number if self.events else self.number + 1

    def after(self, number: int, wanted: str) -> Iterator[Told]:
        """The events of a topic that came after a position."""
        return (e for e in self.events if e.number > number and wanted in (ALL, topic(e.entity)))

    def forget(self) -> None:
        """As if three days had passed."""
        self.events.clear()

    def dump(self) -> Json:
        return {"number": self.number, "events": [asdict(event) for event in self.events]}

    def load(self, kept: Json) -> None:
        self.number = kept["number"]
        self.events = deque((Told(**row) for row in kept["events"]), maxlen=MOST)


def _oldest() -> float:
    return (now() - KEPT).timestamp() * 1000


def capture(org: "Salesforce", transaction: Transaction) -> None:
    """Put what a transaction changed on the bus; the same change of several records is one."""
    if not org.options.change_events:
        return
    call = transaction.call
    groups: dict[str, tuple[Change, list[str]]] = {}
    for change in transaction.changes.values():
        if not _is_captured(change):
            continue
        same = change.kind == "delete" or (change.kind == "update" and len(change.before) > 0)
        fields = _fields(org, change)
        key = f"{change.record.type} {change.kind} {fields}" if same else change.record.id
        groups.setdefault(key, (change, []))[1].append(change.record.id)
    for sequence, (change, ids) in enumerate(groups.values(), 1):
        kind = change.kind.upper()
        gap = org.options.gap_events > 0
        if gap:
            org.options.gap_events -= 1
            kind = f"GAP_{kind}"
        header = _header(org, call, change.record.type, kind, ids, transaction.key, sequence)
        fields = {} if gap else _fields(org, change)
        changed = [*change.before] if kind == "UPDATE" else []
        org.bus.put(change.record.type, header, fields, _listed(changed, fields))


def _is_captured(change: Change) -> bool:
    type = change.record.type
    if change.kind == "update" and not change.before:
        return False
    return type in CAPTURED or type.endswith("__c")


def _listed(changed: list[str], fields: Json) -> list[str]:
    also = ("LastModifiedDate", "LastModifiedById")
    return [*changed, *(name for name in also if changed and name in fields)]


def _fields(org: "Salesforce", change: Change) -> Json:
    """All that is set of a new record, of a changed one what changed; of a deleted one nothing."""
    record = change.record
    if change.kind == "delete":
        return {}
    if change.kind == "update":
        names = [*change.before, "LastModifiedDate"]
        return {name: value(org, record, name) for name in names}
    known = org.schema.objects[record.type].fields.values()
    names = [field.name for field in known if field.name not in _UNTOLD]
    found = {name: value(org, record, name) for name in names}
    return {name: there for name, there in found.items() if there is not None}


def _header(
    org: "Salesforce",
    call: Call,
    entity: str,
    kind: str,
    ids: list[str],
    key: str,
    sequence: int,
) -> Json:
    return {
        "entityName": entity,
        "recordIds": ids,
        "changeType": kind,
        "changeOrigin": _origin(call),
        "transactionKey": key,
        "sequenceNumber": sequence,
        "commitTimestamp": int(call.at.timestamp() * 1000),
        "commitNumber": org.bus.number + 1_000_000,
        "commitUser": call.actor.user or "",
    }


def _origin(call: Call) -> str:
    """Which API, and the name that the caller gave itself."""
    if call.actor.source != "api":
        return ""
    api = "bulkapi" if call.path.startswith("/jobs/") else "rest"
    given = call.headers.get("sforce-call-options", "")
    client = next((p for part in given.split(",") if (p := part.strip()).startswith("client=")), "")
    version = call.base.rpartition("/v")[2]
    return ";".join(part for part in (f"com/salesforce/api/{api}/{version}", client) if part)


def gap(org: "Salesforce", call: Call, kind: str, records: list[Record]) -> None:
    """Say that something happened to records, but not what."""
    for record in records:
        header = _header(org, call, record.type, f"GAP_{kind}", [record.id], f"gap-{record.id}", 1)
        org.bus.put(record.type, header, {}, [])


def overflow(org: "Salesforce", call: Call, entity: str) -> None:
    """Say that so much happened that nothing is told of it."""
    everything = [f"{org.schema.objects[entity].prefix}*"]
    header = _header(org, call, entity, "GAP_OVERFLOW", everything, "", 1)
    org.bus.put(entity, header, {}, [])
