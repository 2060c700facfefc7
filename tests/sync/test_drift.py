"""Whether an account shows what we hold: every way to differ has its cause, and is mended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from app.db import drifts
from app.db.engine import Database
from app.db.tables import accounts
from app.domain.drift import EMPTY
from app.domain.values import Ref
from app.sync import drift as verb
from app.sync.drift import drift
from app.sync.trouble import LanePaused
from tests.connectors.conftest import Control, control, sandbox
from tests.sync.town import Town, founded

__all__ = ["control", "sandbox"]


@pytest.fixture
async def town(database: Database, control: Control) -> AsyncIterator[Town]:
    async with founded(database, control) as found:
        # What was edited a moment ago has no webhook yet; here nobody waits for that.
        have_grace(found, 0)
        yield found


def have_grace(town: Town, seconds: int) -> None:
    """How long a webhook may take."""
    for member in town.house.members.values():
        rules = member.config.catch_up.model_copy(update={"grace": seconds})
        config = member.config.model_copy(update={"catch_up": rules})
        object.__setattr__(member, "config", config)


async def ada(town: Town) -> tuple[Ref, Ref]:
    """A contact of Close and her counterpart in HubSpot, which has told of it."""
    contact, there = await town.ada()
    await town.hear_hubspot("contact.creation", there.id)
    return contact, there


async def check(town: Town, account: str, *, repair: bool = False) -> dict[str, Any]:
    """A whole comparison; what it found."""
    async with town.db.transaction() as db:
        entities = town.house.entities_of(account)
        begun = await drifts.begin(db, account, entities, repair=repair)
    return await _finish(town, account, begun["id"])


async def _finish(town: Town, account: str, id: Any) -> dict[str, Any]:
    for _ in range(50):
        await town._turn(account, "scan", drift)
        async with town.db.transaction() as db:
            row = await drifts.show(db, id)
            found = await drifts.found(db, id, limit=500)
        assert row is not None
        if row["state"] not in ("queued", "running"):
            return {**row, "found": list(found.items)}
    raise AssertionError("it does not end")


def causes(found: dict[str, Any]) -> set[tuple[str | None, str]]:
    return {(one["field"], one["cause"]) for one in found["found"]}


async def test_where_nothing_differs_the_digests_are_proof(town):
    await ada(town)
    for account in ("close", "hubspot"):
        found = await check(town, account)
        assert found["state"] == "done"
        assert found["found"] == []
        assert found["counts"]["records"] == found["counts"]["equal"] == found["total"] == 2
        assert found["ours"] == found["theirs"] != EMPTY
        again = await check(town, account)
        assert again["ours"] == found["ours"]


async def test_an_edit_of_which_nobody_told_is_found_and_taken_in_by_a_repair(town):
    contact, there = await ada(town)
    await town.hubspot(
        "PATCH", f"/crm/v3/objects/contacts/{there.id}", properties={"jobtitle": "Countess"}
    )
    found = await check(town, "hubspot")
    (one,) = found["found"]
    assert (one["field"], one["theirs"], one["cause"]) == ("title", "Countess", "missed_webhook")
    assert found["ours"] != found["theirs"]
    assert found["counts"]["differing"] == 1
    # Looking has changed nothing.
    assert (await town.record_of(contact)).fields.get("title") != "Countess"
    assert await town.marks() == {}

    mended = await check(town, "hubspot", repair=True)
    assert mended["counts"]["repaired"] == 1
    assert (await town.record_of(contact)).fields["title"] == "Countess"
    cause = "select distinct cause from journal where field = 'title'"
    assert await town.scalar(cause) == "drift"
    # Whoever is behind is told by the push, as ever.
    assert await town.marks() == {("close", "person"): 1}
    await town.work()
    for account in ("close", "hubspot"):
        assert (await check(town, account))["found"] == []


async def test_what_waits_to_be_written_or_was_refused_is_called_so(town):
    contact, _ = await ada(town)
    await town.close("PUT", f"/contact/{contact.id}/", title="Countess")
    await town.hear_close("contact", "updated", contact.id)
    assert causes(await check(town, "hubspot")) == {("title", "waiting_write")}
    async with town.db.transaction() as db:
        dead = "update outbox set state = 'dead', error = '{\"reason\": \"no titles here\"}'"
        await db.execute(sa.text(dead))
    found = await check(town, "hubspot")
    assert causes(found) == {("title", "refused_write")}
    assert "no titles here" in found["found"][0]["reason"]
    async with town.db.transaction() as db:
        await db.execute(sa.text("update outbox set state = 'held', guard = 'update'"))
    assert causes(await check(town, "hubspot")) == {("title", "held_by_guard")}


async def test_what_nobody_waits_for_is_marked_again_by_a_repair(town):
    contact, there = await ada(town)
    await town.close("PUT", f"/contact/{contact.id}/", title="Countess")
    await town.hear_close("contact", "updated", contact.id)
    await town.clear()
    assert causes(await check(town, "hubspot")) == {("title", "nothing_waits")}
    assert (await check(town, "hubspot", repair=True))["counts"]["repaired"] == 1
    await town.work()
    assert (await check(town, "hubspot"))["found"] == []
    answer = await town.control.http.get(
        f"/_sandbox/as-person/hubspot/crm/v3/objects/contacts/{there.id}?properties=jobtitle"
    )
    assert answer.json()["properties"]["jobtitle"] == "Countess"


async def test_what_was_told_and_not_read_yet_is_no_missed_webhook(town):
    contact, _ = await ada(town)
    town.only_store = True
    await town.close("PUT", f"/contact/{contact.id}/", title="Countess")
    await town.hear_close("contact", "updated", contact.id)
    assert causes(await check(town, "close")) == {("title", "unread_webhook")}


async def test_what_was_edited_a_moment_ago_may_still_be_told(town):
    contact, _ = await ada(town)
    have_grace(town, 3600)
    await town.close("PUT", f"/contact/{contact.id}/", title="Countess")
    assert causes(await check(town, "close")) == {("title", "edited_since")}


async def test_a_field_that_was_not_mapped_when_we_last_looked_is_called_so(town):
    contact, _ = await ada(town)
    await town.close("PUT", f"/contact/{contact.id}/", title="Countess")
    await town.hear_close("contact", "updated", contact.id)
    await town.work()
    async with town.db.transaction() as db:
        await db.execute(
            sa.text("update links set base = base - 'title' where account = 'hubspot'")
        )
        await db.execute(sa.text("update records set fields = fields - 'title'"))
    assert causes(await check(town, "hubspot")) == {("title", "mapping_changed")}


async def test_what_was_deleted_there_and_never_told_is_parted_by_a_repair(town):
    contact, there = await ada(town)
    await town.hubspot("DELETE", f"/crm/v3/objects/contacts/{there.id}")
    found = await check(town, "hubspot")
    assert causes(found) == {(None, "deleted_there")}
    assert found["ours"] != found["theirs"]
    await check(town, "hubspot", repair=True)
    assert (await town.link_of(there)).state == "gone"
    assert (await town.link_of(contact)).state == "live"


async def test_what_the_account_does_not_show_is_called_so_and_left_alone(town):
    _, there = await ada(town)
    await town.hubspot("DELETE", f"/crm/v3/objects/contacts/{there.id}")
    # Not among the archived either.
    match = {"method": "GET", "path": f"/objects/contacts/{there.id}$"}
    await town.control.fault(vendor="hubspot", fault="status", status=404, match=match)
    assert causes(await check(town, "hubspot", repair=True)) == {(None, "not_shown")}
    assert (await town.link_of(there)).state == "live"


async def test_a_comparison_goes_on_where_it_was_and_its_lane_waits_out_trouble(town, monkeypatch):
    monkeypatch.setattr(verb, "PAGE", 1)
    for member in town.house.members.values():
        monkeypatch.setattr(type(member.connector.manifest), "read_batch", 1, raising=False)
    await town.ada()
    async with town.db.transaction() as db:
        begun = await drifts.begin(db, "close", ["company", "person"], repair=False)
    await town._turn("close", "scan", drift)
    async with town.db.transaction() as db:
        halfway = await drifts.show(db, begun["id"])
    assert halfway is not None
    assert (halfway["state"], halfway["counts"]["records"], halfway["total"]) == ("running", 1, 2)
    await town.control.fault(vendor="close", fault="status", status=503)
    with pytest.raises(LanePaused):
        await town._turn("close", "scan", drift)
    await town.control.http.delete("/_sandbox/faults")
    found = await _finish(town, "close", begun["id"])
    assert (found["state"], found["counts"]["records"]) == ("done", 2)


async def test_a_schedule_queues_one_comparison_when_its_time_has_come(town):
    await town.ada()
    entities = town.house.entities_of("close")

    async def turn(every: int | None) -> int:
        async with town.db.transaction() as db:
            await drifts.schedule(db, "close", entities, every=every, repair=True)
        return int(await town.scalar("select count(*) from drifts"))

    async def due() -> Any:
        async with town.db.transaction() as db:
            query = sa.select(accounts.c.drift_due_at).where(accounts.c.name == "close")
            return (await db.execute(query)).scalar_one()

    assert await turn(None) == 0
    assert await due() is None
    assert await turn(3600) == 0
    first = await due()
    assert first is not None
    assert await turn(3600) == 0
    assert await due() == first
    async with town.db.transaction() as db:
        await db.execute(sa.text("update accounts set drift_due_at = now()"))
    assert await turn(3600) == 1
    assert await turn(3600) == 1
    assert await due() > first
    # A shorter pause counts at once; none at all forgets the next one.
    assert await turn(60) == 1
    assert await due() < first
    await turn(None)
    assert await due() is None
    row = await town.scalar("select reason || ' ' || repair from drifts")
    assert row == "schedule true"
