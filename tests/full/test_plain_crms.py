"""What a CRM does not offer does not stop what it does: its records travel all the same."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.full.conftest import Databases
from tests.full.harness import Json, Syncline, account_settings, free_port, syncline, until
from tests.full.plain import PlainClose, PlainHubSpot, sketched


@dataclass
class Plain:
    close: PlainClose
    hubspot: PlainHubSpot
    syncline: Syncline

    async def quiet(self) -> None:
        async def still() -> bool:
            told = self.close.told.qsize() + self.hubspot.told.qsize()
            return not told and not await self.syncline.pending()

        for _ in range(3):
            await until(still, why=self.why)

    async def why(self) -> str:
        return f"{self.close.rows}\n{self.hubspot.rows}\n{await self.syncline.explain()}"

    async def one(self, crm: PlainClose | PlainHubSpot, kind: str) -> Json:
        """The only record of a kind, once there is one and all is quiet."""

        async def there() -> bool:
            return bool(crm.rows[kind])

        await until(there, why=self.why)
        await self.quiet()
        (row,) = crm.rows[kind].values()
        return row


@pytest_asyncio.fixture(params=[False, True], ids=["singly", "batches"])
async def plain(
    request: pytest.FixtureRequest, tmp_path: Path, databases: Databases
) -> AsyncIterator[Plain]:
    crm_port, port = free_port(), free_port()
    close, hubspot = PlainClose(), PlainHubSpot(batches=request.param)
    address = f"http://127.0.0.1:{crm_port}"
    config = {
        "accounts": account_settings(address, hubspot={"portal_id": None}),
        "sync": {
            "deal": {
                "stages": {
                    "New": {"close": "stat_new", "hubspot": "appointmentscheduled"},
                    "Won": {"close": "stat_won", "hubspot": "closedwon"},
                }
            }
        },
    }
    async with (
        databases() as own,
        sketched(crm_port, f"http://127.0.0.1:{port}/webhooks", close, hubspot),
        syncline(tmp_path, port, own, config) as service,
    ):
        yield Plain(close, hubspot, service)


async def test_what_is_made_and_edited_in_close_stands_in_hubspot(plain: Plain) -> None:
    contact = {
        "name": "Ada Lovelace",
        "emails": [{"email": "ada@engines.example", "type": "office"}],
    }
    lead = plain.close.create(
        "lead", {"name": "Engines", "url": "https://engines.example", "contacts": [contact]}
    )
    person = await plain.one(plain.hubspot, "contacts")
    company = await plain.one(plain.hubspot, "companies")
    assert person["properties"]["email"] == "ada@engines.example"
    assert person["properties"]["lastname"] == "Lovelace"
    assert company["properties"]["name"] == "Engines"
    writes = len(plain.hubspot.writes)
    plain.close.change("lead", lead["id"], {"name": "Analytical Engines"})
    await until(lambda: _is(company, "name", "Analytical Engines"), why=plain.why)
    await plain.quiet()
    assert plain.hubspot.writes[writes:] == ["update companies"]
    assert not await plain.syncline.dead_letters()


async def _is(row: Json, name: str, value: str) -> bool:
    return bool(row["properties"].get(name) == value)


async def test_what_is_made_edited_cleared_and_deleted_in_hubspot_stands_in_close(
    plain: Plain,
) -> None:
    made = plain.hubspot.create(
        "contacts",
        {
            "firstname": "Grace",
            "lastname": "Hopper",
            "email": "grace@x.example",
            "jobtitle": "Adm.",
        },
    )
    contact = await plain.one(plain.close, "contact")
    assert contact["name"] == "Grace Hopper"
    plain.hubspot.change("contacts", str(made["id"]), {"jobtitle": "", "firstname": "G."})

    async def changed() -> bool:
        return bool(contact["name"] == "G. Hopper" and not contact["title"])

    await until(changed, why=plain.why)
    await plain.quiet()
    assert plain.close.writes == ["create lead", "update contact"]
    del plain.hubspot.rows["contacts"][str(made["id"])]
    plain.hubspot.tell("contacts", str(made["id"]), "deletion")
    await plain.quiet()
    assert contact["id"] in plain.close.rows["contact"]
    assert not await plain.syncline.dead_letters()


async def test_who_is_there_already_is_linked_and_not_doubled(plain: Plain) -> None:
    plain.hubspot.create("contacts", {"lastname": "Hopper", "email": "grace@x.example"})
    plain.hubspot.create("companies", {"name": "X", "domain": "x.example"})
    while not plain.hubspot.told.empty():  # nobody told of them
        plain.hubspot.told.get_nowait()
    contact = {"name": "Hopper", "emails": [{"email": "grace@x.example", "type": "office"}]}
    plain.close.create("lead", {"name": "X", "url": "http://x.example", "contacts": [contact]})

    async def linked() -> bool:
        rows = await plain.syncline.sql("select hubspot_id from crm_sync_records")
        return len(rows) == 2 and all(row["hubspot_id"] for row in rows)

    await until(linked, why=plain.why)
    await plain.quiet()
    assert {kind: len(rows) for kind, rows in plain.hubspot.rows.items()} == {
        "companies": 1,
        "contacts": 1,
        "deals": 0,
    }


async def test_a_deal_goes_to_the_stage_that_the_configuration_names(plain: Plain) -> None:
    lead = plain.close.create("lead", {"name": "Engines", "url": "https://engines.example"})
    deal = plain.close.create(
        "opportunity",
        {
            "lead_id": lead["id"],
            "lead_name": "Engines",
            "status_id": "stat_new",
            "value": 120000,
            "value_currency": "USD",
            "note": "First",
        },
    )
    there = (await plain.one(plain.hubspot, "deals"))["properties"]
    assert (there["dealstage"], there["amount"]) == ("appointmentscheduled", "1200")
    plain.close.change("opportunity", deal["id"], {"status_id": "stat_won", "value": 0})

    async def won() -> bool:
        return bool(there["dealstage"] == "closedwon" and there["amount"] == "0")

    await until(won, why=plain.why)
    await plain.quiet()
    assert not await plain.syncline.dead_letters()


async def test_a_resync_links_what_both_have(plain: Plain) -> None:
    plain.hubspot.create("contacts", {"lastname": "Hopper", "email": "grace@x.example"})
    for crm in (plain.close, plain.hubspot):
        while not crm.told.empty():
            crm.told.get_nowait()
    done = await plain.syncline.resync(account="hubspot")
    assert done["state"] == "done", done
    assert (await plain.one(plain.close, "contact"))["name"] == "Hopper"
    since = await plain.syncline.resync(account="close", since="2020-01-01T00:00:00Z")
    assert since["state"] == "done", since
    again = await plain.syncline.resync(account="hubspot", since="2020-01-01T00:00:00Z")
    assert again["state"] == "done", again
