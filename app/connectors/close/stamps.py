"""The custom field that keeps our id on what we made: Close has no unique keys of its own.

https://developer.close.com/api/resources/custom-fields
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from app.connectors.close.shapes import COMPANY, DEAL, PERSON, time_of
from app.sdk import NO_SUCH_CALL, Client, Finding, Raw, SyncError, Write, now

#: What has such a field; activities that people make have no custom fields.
STAMPED: Final = (COMPANY, PERSON, DEAL)
#: So long a field is believed to be there, or not to be.
AGE: Final = timedelta(minutes=10)
#: Fields of text. A hidden one is shown to programs only.
TYPES: Final = ("hidden", "text")
_REMEDY = "Give the key's user a role that may manage custom fields."


@dataclass(frozen=True, slots=True)
class Stamp:
    """The field of one type; what was made before ``since`` may lack a stamp."""

    id: str
    since: datetime

    @property
    def path(self) -> str:
        return f"custom.{self.id}"


class Stamps:
    """Finds, makes and fills these fields; they go by one name, and have an id for each type."""

    def __init__(self, client: Client, name: str | None) -> None:
        self._client, self._name = client, name
        self._known: dict[str, tuple[Stamp | None, datetime]] = {}

    async def field(self, type: str) -> Stamp | None:
        """The field of a type, if the account names one and it is there."""
        if self._name is None or type not in STAMPED:
            return None
        found, at = self._known.get(type, (None, datetime.min.replace(tzinfo=UTC)))
        if now() - at >= AGE:
            row = await self._row(type, self._name)
            # Whoever looked just before it was made stamps nothing for a while.
            since = (time_of(row.get("date_created")) or now()) + AGE if row else now()
            found = Stamp(row["id"], since) if row and is_fit(row) else None
            self._known[type] = found, now()
        return found

    async def on(self, write: Write) -> dict[str, Any]:
        """What a create says beside its fields."""
        stamp = await self.field(write.type) if write.external_id else None
        return {stamp.path: write.external_id} if stamp else {}

    async def paths(self) -> dict[str, str]:
        """By type."""
        return {type: stamp.path for type in STAMPED if (stamp := await self.field(type))}

    async def check(self) -> list[Finding]:
        return [] if self._name is None else [await self._check(t, self._name) for t in STAMPED]

    async def prepare(self) -> list[Finding]:
        """The fields, made where they are missing."""
        if self._name is None:
            remedy = "Set external_id in the configuration, for example to Syncline id."
            return [Finding("external_id", False, "the account names no custom field", remedy)]
        return [await self._prepare(type, self._name) for type in STAMPED]

    async def _check(self, type: str, name: str) -> Finding:
        try:
            return _judged(type, name, await self._row(type, name))
        except SyncError as error:
            return Finding(f"{type}.{name}", False, error.reason, _REMEDY)

    async def _prepare(self, type: str, name: str) -> Finding:
        body = {
            "name": name,
            "type": TYPES[0],
            "description": "The id of this record in Syncline. Do not change it.",
        }
        try:
            there = await self._row(type, name)
            if there is not None:
                return _judged(type, name, there)
            await self._client.call("POST", f"/custom_field/{type}/", json=body, creates=True)
        except SyncError as error:
            return Finding(f"{type}.{name}", False, error.reason, _REMEDY)
        self._known.pop(type, None)
        return Finding(f"{type}.{name}", True, "created")

    async def _row(self, type: str, name: str) -> Raw | None:
        answer = await self._client.call(
            "GET", f"/custom_field_schema/{type}/", accept=NO_SUCH_CALL
        )
        rows = answer.data["fields"] if answer.status == 200 else ()
        return next((row for row in rows if row.get("name") == name), None)


def is_fit(row: Raw) -> bool:
    return row.get("type") in TYPES and not row.get("accepts_multiple_values")


def _judged(type: str, name: str, row: Raw | None) -> Finding:
    if row is None:
        remedy = "Run `syncline accounts prepare`."
        return Finding(f"{type}.{name}", False, "the custom field does not exist", remedy)
    if not is_fit(row):
        remedy = "Name another custom field: the type of this one cannot be changed."
        return Finding(
            f"{type}.{name}", False, f"the custom field is of type {row['type']}", remedy
        )
    return Finding(f"{type}.{name}", True, "exists")
