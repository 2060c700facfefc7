"""An option that no value map names is told to a person, kept, and read once it is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.db import listings, words
from app.db.engine import Database
from app.domain.values import Ref
from app.sync.resync import resync
from app.sync.standing import About, standings
from tests.connectors.conftest import Control, control, sandbox
from tests.sync.town import Town, founded

__all__ = ["control", "sandbox"]

ROW = "title: {path: hs_lead_status, values: {Chief: OPEN, Clerk: NEW%s}%s}"


def mapped(more: str = "", policy: str = "") -> str:
    """HubSpot's settings with these words for a title."""
    off = "lead_status: {path: hs_lead_status, direction: off}"
    return f"mapping: {{person: {{{ROW % (more, policy)}, {off}}}}}"


HOLD, DEFAULT = "", ", unmapped: default, default: IN_PROGRESS"
BOTH = pytest.mark.parametrize("policy", [HOLD, DEFAULT], ids=["hold", "default"])


@pytest.fixture
def policy() -> str:
    """What becomes of a title that has no word there."""
    return HOLD


@pytest.fixture
async def town(database: Database, control: Control, policy: str) -> AsyncIterator[Town]:
    async with founded(database, control, hubspot=mapped(policy=policy)) as found:
        yield found


async def says(town: Town, there: Ref, word: str) -> None:
    """Somebody chooses an option in HubSpot."""
    path = f"/crm/v3/objects/contacts/{there.id}"
    await town.hubspot("PATCH", path, properties={"hs_lead_status": word})
    await town.hear_hubspot("contact.propertyChange", there.id, propertyName="hs_lead_status")


async def entitled(town: Town, contact: Ref, title: str) -> None:
    """Somebody gives her a title in Close."""
    await town.close("PUT", f"/contact/{contact.id}/", title=title)
    await town.hear_close("contact", "updated", contact.id)
    await town.work()


async def shown(town: Town, there: Ref) -> Any:
    path = f"/crm/v3/objects/contacts/{there.id}?properties=hs_lead_status"
    return (await town.hubspot("GET", path))["properties"]["hs_lead_status"]


async def cards(town: Town, state: str = "open") -> list[Any]:
    async with town.db.transaction() as db:
        return list((await listings.list_conflicts(db, state=state, kind="word")).items)


@BOTH
async def test_an_option_that_nothing_names_is_told_and_not_written_over(town: Town):
    contact, there = await town.ada()
    await entitled(town, contact, "Chief")
    assert await shown(town, there) == "OPEN"
    await says(town, there, "UNQUALIFIED")
    await says(town, there, "UNQUALIFIED")

    (card,) = await cards(town)
    record = await town.record_of(contact)
    assert (card["record_id"], card["ref_id"], card["field"]) == (record.id, there.id, "title")
    assert (card["ours"], card["theirs"]) == ({"value": "Chief"}, {"value": "UNQUALIFIED"})
    assert card["detail"]["key"] == "accounts.hubspot.mapping.person.title.values"
    assert card["detail"]["line"] == 'OURS: "UNQUALIFIED"'

    await entitled(town, contact, "Clerk")
    assert await shown(town, there) == "UNQUALIFIED"
    assert await town.marks() == {}
    async with town.db.transaction() as db:
        row = await listings.record(db, record.id)
    assert row is not None
    told = standings(town.house, About(row, {}, ()), "title")
    (sentence,) = (one.sentence for one in told if one.account == "hubspot")
    assert '"UNQUALIFIED"' in sentence
    assert 'add `OURS: "UNQUALIFIED"` to accounts.hubspot.mapping.person.title.values' in sentence


async def test_many_records_with_one_option_are_one_card(
    town: Town, database: Database, control: Control, policy: str
):
    _, there = await town.ada()
    people = [there]
    for name in ("Grace", "Mary"):
        made = await town.hubspot("POST", "/crm/v3/objects/contacts", properties={"lastname": name})
        people.append(Ref("hubspot", "contacts", made["id"]))
    for one in people:
        await says(town, one, "UNQUALIFIED")
    await says(town, people[2], "BAD_TIMING")

    unqualified, _ = sorted(await cards(town), key=lambda card: card["id"])
    assert unqualified["theirs"] == {"value": "UNQUALIFIED"}
    async with town.db.transaction() as db:
        told = await words.concerned(db, [unqualified])
        own = (await listings.list_conflicts(db, record_id=unqualified["record_id"])).items
    samples = told[unqualified["id"]]["samples"]
    assert told[unqualified["id"]]["count"] == 2
    assert [one["remote_id"] for one in samples] == [one.id for one in people[:2]]
    assert [card["id"] for card in own] == [unqualified["id"]]

    wiser = mapped(", Retired: UNQUALIFIED", policy)
    async with founded(database, control, hubspot=wiser) as later:
        await later.wait()
        await later._turn("hubspot", "scan", resync)
        (left,) = await cards(later)
        assert left["theirs"] == {"value": "BAD_TIMING"}
        assert await cards(later, "settled")
        assert (await later.record_of(people[1])).fields["title"] == "Retired"


async def test_once_it_is_named_it_is_read_and_the_card_settles_by_itself(
    town: Town, database: Database, control: Control, policy: str
):
    contact, there = await town.ada()
    await entitled(town, contact, "Chief")
    await says(town, there, "UNQUALIFIED")
    assert (await town.record_of(contact)).fields["title"] == "Chief"

    wiser = mapped(", Retired: UNQUALIFIED", policy)
    async with founded(database, control, hubspot=wiser) as later:
        await later.wait()  # whoever works for HubSpot first finds that the words are others
        await later._turn("hubspot", "scan", resync)
        assert await cards(later) == []
        (card,) = await cards(later, "settled")
        assert card["settled"] == {"by": "reading"}
        assert (await later.record_of(contact)).fields["title"] == "Retired"
        await later.work()
        assert (await later.close("GET", f"/contact/{contact.id}/"))["title"] == "Retired"
        assert await shown(later, there) == "UNQUALIFIED"


async def test_an_option_that_is_named_takes_its_place_and_ours_goes_where_it_waited(town: Town):
    contact, there = await town.ada()
    await entitled(town, contact, "Chief")
    await says(town, there, "UNQUALIFIED")
    await entitled(town, contact, "Clerk")
    await says(town, there, "OPEN")  # as it was: no edit of theirs, so that ours is told
    assert await cards(town) == []
    await town.work()
    assert await shown(town, there) == "NEW"


@BOTH
async def test_what_stands_for_all_other_words_is_none_that_nobody_reads(town: Town, policy: str):
    contact, there = await town.ada()
    await entitled(town, contact, "Pilot")
    await town.hear_hubspot("contact.propertyChange", there.id, propertyName="hs_lead_status")
    assert await cards(town) == []
    assert await shown(town, there) == ("IN_PROGRESS" if policy else None)
