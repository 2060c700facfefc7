"""Values that are easily lost: false, words that the other side does not have, stand-ins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
import yaml

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World

FIELDS: dict[str, Json] = {
    "Vip": {"type": "choices", "choices": ["Yes", "No"]},
    "Tier": {"type": "text"},
    "Kind": {"type": "text"},
    "Nick": {"type": "text"},
}
PROPERTIES: list[Json] = [
    {"name": "vip", "type": "bool", "fieldType": "booleancheckbox"},
    {"name": "tier", "type": "enumeration", "fieldType": "select"},
    {"name": "kind", "type": "string", "fieldType": "text"},
    {"name": "nick", "type": "string", "fieldType": "text"},
]
TIERS = [{"label": word, "value": word, "displayOrder": n} for n, word in enumerate("AB")]
ROWS = {
    "custom.vip": {"path": "vip", "as": "boolean"},
    "custom.tier": {
        "path": "tier",
        "values": {"Gold": "A", "Silver": "B"},
        "unmapped": "default",
        "default": "B",
    },
    "custom.kind": {"path": "kind", "values": {"Chief": "C"}, "unmapped": "pass"},
    "custom.nick": "nick",
}


@pytest_asyncio.fixture(scope="module")
async def mapped(
    tmp_path_factory: Any, databases: Databases
) -> AsyncIterator[tuple[World, dict[str, str]]]:
    """A service with rows for fields that were made before it began to work, and where they are."""
    folder = tmp_path_factory.mktemp("values")
    async with databases() as own, harness.world(folder, own, workers=0) as world:
        at: dict[str, str] = {}
        for name, kind in FIELDS.items():
            made = await world.close._call("POST", "/custom_field/contact/", {"name": name, **kind})
            at[name.lower()] = f"custom.{made['id']}"
        for row in PROPERTIES:
            body = {**row, "label": row["name"], "groupName": "contactinformation"}
            body |= {"options": TIERS} if row["name"] == "tier" else {}
            await world.hubspot.call("POST", "/crm/v3/properties/contacts", body)
        own_words = {"true": "Yes", "false": "No"}
        here = {
            "custom.vip": {"path": at["vip"], "as": "boolean", "values": own_words},
            "custom.tier": at["tier"],
            "custom.kind": at["kind"],
            "custom.nick": {"path": at["nick"], "only_if_blank": True, "direction": "from"},
        }
        file = folder / "syncline.yaml"
        content = yaml.safe_load(file.read_text())
        content["accounts"]["close"]["mapping"] = {"person": here}
        content["accounts"]["hubspot"]["mapping"] = {"person": ROWS}
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        await world.syncline.add_workers(1)
        await world.syncline.works()
        yield world, at


@pytest_asyncio.fixture
async def ada(mapped: tuple[World, dict[str, str]]) -> AsyncIterator[Ada]:
    world, at = mapped
    company = Company.new("Values")
    lead = await world.close.create(
        "lead", name=company.name, contacts=[company.contact("Ada Lovelace")]
    )
    contact = lead["contacts"][0]["id"]
    await world.quiet()
    there = await world.syncline.counterpart("close", contact, "person", "hubspot")
    yield Ada(world, at, contact, there)


class Ada:
    """One contact on both sides, and what each shows of it."""

    def __init__(self, world: World, at: dict[str, str], here: str, there: str) -> None:
        self.world, self.at, self.here, self.there = world, at, here, there

    async def in_close(self, **values: Any) -> None:
        edit = {self.at.get(name, name): value for name, value in values.items()}
        await self.world.close.edit("contact", self.here, **edit)
        await self.world.quiet()

    async def in_hubspot(self, **values: str) -> None:
        await self.world.hubspot.edit("contacts", self.there, **values)
        await self.world.quiet()

    async def both(self, name: str) -> tuple[Any, Any]:
        here = (await self.world.close.read("contact", self.here)).get(self.at[name])
        path = f"/crm/v3/objects/contacts/{self.there}?properties={name}"
        return here, (await self.world.hubspot.call("GET", path))["properties"][name]


async def test_false_from_hubspot_is_neither_nothing_nor_absent(ada: Ada) -> None:
    updated = {("close", "contact", "updated"): 1}
    async with ada.world.counting() as writes:
        await ada.in_hubspot(vip="false")
    assert (await ada.both("vip"), dict(writes)) == (("No", "false"), updated)
    async with ada.world.counting() as writes:
        await ada.in_hubspot(jobtitle="Countess")  # of which nothing says vip
    assert (await ada.both("vip"), dict(writes)) == (("No", "false"), updated)
    async with ada.world.counting() as writes:
        await ada.in_hubspot(vip="")
    here, there = await ada.both("vip")
    assert (here, there or None, dict(writes)) == (None, None, updated)
    await ada.world.steady()


async def test_false_from_close_is_neither_nothing_nor_absent(ada: Ada) -> None:
    updated = {("hubspot", "contact", "updated"): 1}
    async with ada.world.counting() as writes:
        await ada.in_close(vip="No")
    assert (await ada.both("vip"), dict(writes)) == (("No", "false"), updated)
    record = await ada.world.syncline.record("close", ada.here, "person")
    assert record["fields"]["custom.vip"] is False
    async with ada.world.counting() as writes:
        await ada.in_close(title="Countess")
    assert (await ada.both("vip"), dict(writes)) == (("No", "false"), updated)
    async with ada.world.counting() as writes:
        await ada.in_close(vip=None)
    here, there = await ada.both("vip")
    assert (here, there or None, dict(writes)) == (None, None, updated)
    await ada.world.steady()


async def test_a_word_that_is_not_mapped_becomes_the_default_or_passes_and_comes_back_as_no_edit(
    ada: Ada,
) -> None:
    await ada.in_close(tier="Gold", kind="Chief")
    assert (await ada.both("tier"), await ada.both("kind")) == (("Gold", "A"), ("Chief", "C"))
    async with ada.world.counting() as writes:
        await ada.in_close(tier="Bronze", kind="Clerk")
    assert dict(writes) == {("hubspot", "contact", "updated"): 1}
    assert (await ada.both("tier"), await ada.both("kind")) == (("Bronze", "B"), ("Clerk", "Clerk"))
    await ada.in_hubspot(tier="A", kind="C")
    assert (await ada.both("tier"), await ada.both("kind")) == (("Gold", "A"), ("Chief", "C"))
    assert await ada.world.syncline.dead_letters() == []
    await ada.world.steady()


async def test_a_stand_in_is_read_only_while_there_is_no_value(ada: Ada) -> None:
    await ada.in_close(nick="Ada")
    assert (await ada.both("nick"))[1] == "Ada"
    await ada.in_hubspot(nick="Augusta")
    await ada.in_close(nick="Addy")
    assert await ada.both("nick") == ("Addy", "Augusta")
    await ada.in_hubspot(nick="")
    await ada.in_close(nick="A.")
    assert await ada.both("nick") == ("A.", "A.")
    await ada.world.steady()


async def test_an_amount_in_a_currency_that_close_does_not_keep_is_told_and_not_written(
    ada: Ada,
) -> None:
    """5,000 yen are neither 5,000 nor 50 dollars; everything else of the deal travels."""
    world = ada.world
    company = Company.new("Yen")
    there = await world.hubspot.create("companies", name=company.name, domain=company.domain)
    deal = await world.hubspot.create(
        "deals",
        company=there,
        dealname="Looms",
        dealstage="qualifiedtobuy",
        pipeline="default",
        amount="5000",
        deal_currency_code="JPY",
        description="Twelve of them.",
    )
    await world.quiet()
    here = await world.syncline.counterpart("hubspot", deal, "deal", "close")
    seen = await world.close.read("opportunity", here)
    assert (seen["value"], seen["note"]) == (None, "Twelve of them.")
    (letter,) = await world.syncline.dead_letters()
    assert letter["reason"] == "the amount is in JPY, and all amounts there are in USD"
    shown = await world.hubspot.read("deals", deal)
    assert (shown["amount"], shown["deal_currency_code"]) == ("5000", "JPY")

    # In the currency of Close it goes by itself.
    async with world.counting() as writes:
        await world.hubspot.edit("deals", deal, amount="40", deal_currency_code="USD")
    assert writes == {("close", "opportunity", "updated"): 1}
    assert (await world.close.read("opportunity", here))["value"] == 4000
    assert await world.syncline.dead_letters() == []
    await world.steady()


async def test_what_cannot_be_mapped_is_refused_before_anybody_edits(ada: Ada) -> None:
    """At the start with a value that would not come back; when the account is tested, what the
    CRM does not have, or nobody may write.
    """
    syncline = ada.world.syncline
    file = syncline.folder / "syncline.yaml"
    fine = file.read_text()
    content = yaml.safe_load(fine)
    rows = content["accounts"]["hubspot"]["mapping"]["person"]
    rows["custom.kind"] = {"path": "kind", "as": "boolean", "values": {"true": "Y", "false": "Y"}}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    try:
        code, out, err = await syncline.command("config", "check")
        assert code == 2
        assert "custom.kind" in err
        home = {"SYNCLINE_HOME": str(syncline.folder / "elsewhere")}
        serve = ("serve", "--port", str(harness.free_port()))
        code, out, err = await syncline.command(*serve, environment=home)
        said = " ".join((out + err).split())
        assert code == 2, said
        assert "`custom.kind`: False is written as" in said
        rows["custom.kind"] = {"path": "kinds"}
        rows["custom.made"] = {"path": "createdate", "as": "datetime"}
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        port = harness.free_port()
        again = harness.Program(
            "again",
            ["-m", "app.cli", "serve", "--port", str(port), "--no-worker"],
            syncline.folder,
            syncline.environment | {"SYNCLINE_HOME": str(syncline.folder / "elsewhere")},
        )
        await again.start()
        try:
            await again.listens(port)
            service = {"SYNCLINE_URL": f"http://127.0.0.1:{port}"}
            code, out, _ = await syncline.command(
                "accounts", "test", "hubspot", "--json", environment=service
            )
            assert code == 1
            assert "no field 'kinds'" in out
            assert "'createdate' is read-only" in out
        finally:
            await again.stop()
    finally:
        file.write_text(fine)
