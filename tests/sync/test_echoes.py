"""What bears the mark of our app and is not our write."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.domain.values import Outcome, Write
from tests.connectors.conftest import control, sandbox
from tests.sync.town import Town, town

__all__ = ["control", "sandbox", "town"]

OURS = {"appId": 4711, "changeSource": "INTEGRATION", "sourceId": "4711"}


async def test_what_is_set_back_before_our_write_is_answered_is_no_echo(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    """An automation that our write started bears our mark, and says what we saw last."""
    ada, hers = await town.ada()
    for title in ("Countess", "Queen"):
        await town.close("PUT", f"/contact/{ada.id}/", title=title)
        await town.hear_close("contact", "updated", ada.id)
        if title == "Countess":
            await town.work("hubspot")
    connector = town.house.members["hubspot"].connector
    write = connector.write

    async def set_back(batch: Sequence[Write]) -> list[Outcome]:
        outcomes: list[Outcome] = await write(batch)
        back = {"propertyName": "jobtitle", "propertyValue": "Countess"}
        path = f"/crm/v3/objects/contacts/{hers.id}"
        await town.hubspot("PATCH", path, properties={"jobtitle": "Countess"})
        await town.hear_hubspot("contact.propertyChange", hers.id, **back, **OURS)
        return outcomes

    with monkeypatch.context() as patch:
        patch.setattr(connector, "write", set_back)
        await town.work("hubspot")
    await town.go_on()
    assert (await town.close("GET", f"/contact/{ada.id}/"))["title"] == "Countess"
