"""Records that remember: every value a field ever had, when, and who wrote it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from sandbox.wire import Actor, Json, Table


@dataclass(slots=True)
class Version:
    """A value that a field took."""

    value: Any
    at: datetime
    source: str
    source_id: str | None


@dataclass(slots=True)
class Record:
    """A row of a CRM. A field that is absent is unset."""

    id: str
    type: str
    fields: Json
    created: datetime
    updated: datetime
    gone: datetime | None = None
    history: dict[str, list[Version]] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        return self.fields.get(name)

    def as_of(self, at: datetime) -> "Record | None":
        """The record as it stood at a time; None if it was not there."""
        if self.created > at or (self.gone and self.gone <= at):
            return None
        if self.updated <= at:
            return self
        then: Json = {}
        updated = self.created
        for name, versions in self.history.items():
            for version in versions:
                if version.at > at:
                    break
                then[name] = version.value
                updated = max(updated, version.at)
        fields = {name: value for name, value in then.items() if value is not None}
        return Record(self.id, self.type, fields, self.created, updated)


class Store:
    """Tables of records by type and id. Knows what was written since it was last asked."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, Record]] = {}
        self.written: list[tuple[str, str]] = []

    def create(self, type: str, id: str, fields: Json, *, at: datetime, by: Actor) -> Record:
        record = Record(id, type, {}, at, at)
        self._tables.setdefault(type, {})[id] = record
        self._set(record, fields, at, by)
        self.written.append(("created", type))
        return record

    def update(
        self, record: Record, changes: Mapping[str, Any], *, at: datetime, by: Actor
    ) -> Json:
        """Write what differs; return the fields that did, with their former values."""
        news = {name: value for name, value in changes.items() if record.get(name) != value}
        before = {name: record.get(name) for name in news}
        self._set(record, news, at, by)
        if news:
            record.updated = at
        self.written.append(("updated" if news else "unchanged", record.type))
        return before

    def note(self, record: Record, changes: Mapping[str, Any], *, at: datetime, by: Actor) -> None:
        """Write what the CRM itself derives: neither a change nor a write of the caller's."""
        news = {name: value for name, value in changes.items() if record.get(name) != value}
        self._set(record, news, at, by)

    def remove(self, record: Record, *, at: datetime) -> None:
        """Delete or archive: the record stays readable for history and restore."""
        record.gone = at
        self.written.append(("deleted", record.type))

    def restore(self, record: Record) -> None:
        """Take back a deletion."""
        record.gone = None
        self.written.append(("restored", record.type))

    def forget(self, type: str, id: str) -> None:
        """Let a record never have been; or be erased for good."""
        self._tables[type].pop(id, None)

    def get(self, type: str, id: str) -> Record | None:
        """A live record."""
        record = self._tables.get(type, {}).get(id)
        return record if record and not record.gone else None

    def find(self, type: str, id: str) -> Record | None:
        """A record, live or gone."""
        return self._tables.get(type, {}).get(id)

    def live(self, type: str) -> Iterator[Record]:
        return (record for record in self._tables.get(type, {}).values() if not record.gone)

    def newest(self, type: str, most: int | None, show: Callable[[Record], Json]) -> Table:
        """The latest live records of a type as rows, and how many there are."""
        rows = self._tables.get(type, {}).values()
        live = (record for record in reversed(rows) if not record.gone)
        shown = [show(record) for record in islice(live, most)]
        return Table(sum(not record.gone for record in rows), shown)

    def all(self, type: str) -> Iterator[Record]:
        return iter(self._tables.get(type, {}).values())

    def drain(self) -> list[tuple[str, str]]:
        """What was written since the last time: `("created", "lead")` and so on."""
        written, self.written = self.written, []
        return written

    def dump(self) -> Json:
        return {"tables": {t: list(rows.values()) for t, rows in self._tables.items()}}

    def load(self, kept: Json) -> None:
        self._tables = {
            type: {row["id"]: _record(row) for row in rows} for type, rows in kept["tables"].items()
        }

    @staticmethod
    def _set(record: Record, values: Mapping[str, Any], at: datetime, by: Actor) -> None:
        for name, value in values.items():
            if value is None:
                if name not in record.fields:
                    continue
                del record.fields[name]
            else:
                record.fields[name] = value
            version = Version(value, at, by.source, by.source_id)
            record.history.setdefault(name, []).append(version)


def history(record: Record) -> Json:
    """Every value each field of a record ever had, in order."""
    return {
        "id": record.id,
        "type": record.type,
        "created": record.created,
        "updated": record.updated,
        "gone": record.gone,
        "fields": record.history,
    }


def _record(row: Json) -> Record:
    return Record(
        row["id"],
        row["type"],
        row["fields"],
        datetime.fromisoformat(row["created"]),
        datetime.fromisoformat(row["updated"]),
        datetime.fromisoformat(row["gone"]) if row["gone"] else None,
        {
            name: [
                Version(v["value"], datetime.fromisoformat(v["at"]), v["source"], v["source_id"])
                for v in versions
            ]
            for name, versions in row["history"].items()
        },
    )
