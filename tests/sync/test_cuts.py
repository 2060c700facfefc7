"""Whoever dies between any two durable steps is replaced, and all ends the same.

`CUTS=all` dies after every single one; else a part of them is tried.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from app.db import migrations
from tests.connectors.conftest import Control, control, sandbox
from tests.postgres import clone, make_template, server
from tests.sync.cuts import Life, end, lived, process, wrote
from tests.sync.town import Town

__all__ = ["control", "sandbox"]

ALL = os.environ.get("CUTS") == "all"
#: Somebody dies every so many steps, …
STRIDE = 1 if ALL else 23
#: … first after this one.
FIRST = 1 if ALL else 8

Story = Callable[[Town], Awaitable[None]]


async def _make(town: Town) -> tuple[str, str]:
    """A lead with a contact and a deal; the ids of these."""
    ada = {"name": "Ada King", "emails": [{"email": "ada@acme.example", "type": "office"}]}
    url = "https://acme.example"
    lead = await town.close("POST", "/lead/", name="Acme", url=url, contacts=[ada])
    deal = await town.close("POST", "/opportunity/", lead_id=lead["id"], value=120000, note="Big")
    return lead["contacts"][0]["id"], deal["id"]


async def _in_step(town: Town) -> dict[str, str]:
    """The same in both CRMs; the ids of the contact there."""
    contact, _ = await _make(town)
    await town.hear_close("contact", "created", contact)
    await town.go_on()
    async with town.db.transaction() as db:
        query = sa.text("select account, remote_id from links where entity = 'person'")
        return {row.account: row.remote_id for row in await db.execute(query)}


async def a_family_is_made_in_close(town: Town) -> None:
    contact, deal = await _make(town)
    town.only_store = True
    await town.hear_close("opportunity", "created", deal)
    await town.hear_close("contact", "created", contact)


async def a_person_is_made_in_hubspot(town: Town) -> None:
    firm = await town.hubspot(
        "POST", "/crm/v3/objects/companies", properties={"name": "Acme", "domain": "acme.example"}
    )
    named = {"firstname": "Grace", "lastname": "Hopper", "email": "grace@acme.example"}
    made = await town.hubspot("POST", "/crm/v3/objects/contacts", properties=named)
    between = f"/crm/v4/objects/contacts/{made['id']}/associations/default/companies/{firm['id']}"
    await town.hubspot("PUT", between)
    town.only_store = True
    await town.hear_hubspot("contact.creation", made["id"])


async def both_edit_one_person(town: Town) -> None:
    ada = await _in_step(town)
    town.only_store = True
    there = f"/crm/v3/objects/contacts/{ada['hubspot']}"
    await town.hubspot("PATCH", there, properties={"jobtitle": "CTO", "lastname": "Lovelace"})
    await town.close("PUT", f"/contact/{ada['close']}/", name="Ada Byron")
    changed = {"propertyName": "jobtitle", "propertyValue": "CTO"}
    await town.hear_hubspot("contact.propertyChange", ada["hubspot"], **changed)
    await town.hear_close("contact", "updated", ada["close"])


async def a_person_is_deleted_in_hubspot(town: Town) -> None:
    ada = await _in_step(town)
    town.only_store = True
    await town.hubspot("DELETE", f"/crm/v3/objects/contacts/{ada['hubspot']}")
    await town.hear_hubspot("contact.deletion", ada["hubspot"])


async def _run(control: Control, story: Story, last: int | None) -> tuple[Any, Any, bool]:
    """How it ended when the first to work on it died after this step; what was written; whether
    he outlived it.
    """
    await control.call("POST", "/_sandbox/reset")
    url = server()
    async with clone(url, await make_template(url, migrations.upgraded)) as own:
        async with process(own, control, Life()) as town:
            await story(town)
        before = await wrote(control)
        outlived = await lived(own, control, Life(last))
        async with process(own, control, Life()) as town:
            await town.go_on()
            found = await end(town)
        after = await wrote(control)
    return found, {name: n - before.get(name, 0) for name, n in after.items()}, outlived


@pytest.mark.heavy
@pytest.mark.timeout(0 if ALL else 180)
@pytest.mark.parametrize(
    "story",
    [
        a_family_is_made_in_close,
        a_person_is_made_in_hubspot,
        both_edit_one_person,
        a_person_is_deleted_in_hubspot,
    ],
    ids=lambda story: story.__name__,
)
async def test_wherever_a_process_dies_the_next_ends_the_same_and_nothing_is_doubled(
    control: Control, story: Story
) -> None:
    right, needed, outlived = await _run(control, story, None)
    assert outlived
    assert not any(right[name] for name in ("outbox", "unfinished", "unread", "cards"))
    last, outlived = FIRST, False
    while not outlived:
        found, written, outlived = await _run(control, story, last)
        assert found == right, f"died after step {last}"
        for name, count in written.items():
            # An update may be sent again, as it changes nothing then; nothing else may.
            most = needed.get(name, 0) * (2 if name.endswith("updated") else 1)
            assert count <= most, f"died after step {last}: {written}"
        last += STRIDE
    assert last > FIRST + STRIDE, "there was too little to die in"
