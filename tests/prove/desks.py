"""A company as people see it in each CRM: made, edited, deleted, restored, merged; and its past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.full.harness import Json, PersonAtHubSpot, PersonAtSalesforce, World

#: What a person sees who looks for something that is not there any more, or was merged meanwhile;
#: or whose own machine is so busy that the API has no patience.
LATE = ("404", "408", "ENTITY_IS_DELETED", "cannot be merged with itself", "Unknown lead")


@dataclass(frozen=True, slots=True)
class Version:
    """A value that a field was given."""

    value: Any
    at: datetime
    source: str

    @property
    def by_person(self) -> bool:
        return self.source == "CRM_UI"


@dataclass(frozen=True, slots=True)
class Past:
    """What a record went through: its fields' values, the oldest first, and when it was gone."""

    domain: str
    fields: Mapping[str, Sequence[Version]]
    gone: datetime | None


@dataclass(frozen=True, slots=True)
class Desk:
    """A CRM's screen. ``names`` are its own names for our fields, ``domain`` its name for that."""

    world: World
    names: Mapping[str, str]
    domain: str
    vendor: str
    type: str
    forgets: bool = False  # it has no recycle bin
    tells: bool = True  # it tells what was there before
    prefix: str = ""

    async def past(self, id: str) -> Past:
        path = f"history/{self.vendor}/{self.type}/{self.prefix}{id}"
        kept = await self.world.crms.control("GET", path)
        fields = {
            path: [
                Version(v["value"] or None, _time(v["at"]), v["source"])
                for v in kept["fields"][name]
            ]
            for path, name in self.names.items()
            if name in kept["fields"]
        }
        # A survivor of a merge remembers the other's domain as well.
        given = next(v for v in kept["fields"][self.domain] if v["at"] == kept["created"])
        gone = _time(kept["gone"]) if kept["gone"] else None
        return Past(_bare(given["value"]), fields, gone)

    def shown(self, row: Json) -> Json:
        """What a row shows, by our names."""
        return {"phone": None, **{path: row.get(name) for path, name in self.names.items()}}

    def domain_of(self, row: Json) -> str:
        return _bare(row[self.domain])

    async def create(self, name: str, domain: str) -> str:
        raise NotImplementedError

    async def edit(self, id: str, path: str, value: str | None) -> None:
        raise NotImplementedError

    async def delete(self, id: str) -> None:
        raise NotImplementedError

    async def restore(self, id: str) -> None:
        raise NotImplementedError

    async def merge(self, kept: str, lost: str) -> None:
        raise NotImplementedError

    async def rows(self) -> dict[str, Json]:
        raise NotImplementedError


class CloseDesk(Desk):
    __slots__ = ()

    async def create(self, name: str, domain: str) -> str:
        made = await self.world.close.create("lead", name=name, url=f"https://{domain}")
        return str(made["id"])

    async def edit(self, id: str, path: str, value: str | None) -> None:
        await self.world.close.edit("lead", id, **{self.names[path]: value})

    async def delete(self, id: str) -> None:
        await self.world.close.delete("lead", id)

    async def merge(self, kept: str, lost: str) -> None:
        await self.world.close.merge(kept, lost)

    async def rows(self) -> dict[str, Json]:
        return {row["id"]: row for row in await self.world.close.all("lead")}


class HubSpotDesk(Desk):
    __slots__ = ()

    @property
    def person(self) -> PersonAtHubSpot:
        return PersonAtHubSpot(self.world.crms.http, int(self.prefix.rstrip(":")))

    async def create(self, name: str, domain: str) -> str:
        return await self.person.create("companies", name=name, domain=domain)

    async def edit(self, id: str, path: str, value: str | None) -> None:
        await self.person.edit("companies", id, **{self.names[path]: value or ""})

    async def delete(self, id: str) -> None:
        """HubSpot says yes to a delete of what is gone: whoever comes too late must notice."""
        await self.person.read("companies", id)
        await self.person.delete("companies", id)

    async def restore(self, id: str) -> None:
        await self.person.call("POST", f"/crm/v3/objects/companies/{id}/restore")

    async def merge(self, kept: str, lost: str) -> None:
        await self.person.merge("companies", kept, lost)

    async def rows(self) -> dict[str, Json]:
        return {row["id"]: row for row in await self.person.all("companies")}


class SalesforceDesk(Desk):
    __slots__ = ()

    @property
    def person(self) -> PersonAtSalesforce:
        return self.world.salesforce

    async def create(self, name: str, domain: str) -> str:
        return await self.person.create("Account", Name=name, Website=f"https://{domain}")

    async def edit(self, id: str, path: str, value: str | None) -> None:
        await self.person.edit("Account", id, **{self.names[path]: value})

    async def delete(self, id: str) -> None:
        await self.person.delete("Account", id)

    async def restore(self, id: str) -> None:
        await self.person.undelete(id)

    async def merge(self, kept: str, lost: str) -> None:
        """The person takes over what the survivor has not; Salesforce itself does not."""
        has, had = [await self.person.read("Account", id) for id in (kept, lost)]
        fill = {n: had[n] for n in self.names.values() if had.get(n) and not has.get(n)}
        await self.person.merge(kept, lost, **fill)

    async def rows(self) -> dict[str, Json]:
        names = ", ".join(("Id", self.domain, *self.names.values()))
        found = await self.person.query(f"SELECT {names} FROM Account")
        return {row["Id"]: row for row in found}


def desk(world: World, account: str, portals: Mapping[str, int]) -> Desk:
    """The screen of an account; ``portals`` are those of HubSpot by account."""
    if account == "close":
        names = {"name": "name", "title": "description"}
        return CloseDesk(world, names, "url", "close", "lead", forgets=True)
    if account == "salesforce":
        names = {"name": "Name", "title": "Description", "phone": "Phone"}
        return SalesforceDesk(world, names, "Website", "salesforce", "Account", tells=False)
    names = {"name": "name", "title": "description", "phone": "phone"}
    prefix = f"{portals[account]}:"
    return HubSpotDesk(world, names, "domain", "hubspot", "company", prefix=prefix)


def _bare(address: str | None) -> str:
    return (address or "").removeprefix("https://")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
