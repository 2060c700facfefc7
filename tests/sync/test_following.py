"""A merge that we carry over, while people go on working in the record that goes."""

from __future__ import annotations

from typing import Any

import pytest

from app.db.engine import Database
from app.domain.values import Ref
from tests.connectors.conftest import Control, control, sandbox
from tests.sync.town import founded

__all__ = ["control", "sandbox"]


async def test_what_is_typed_between_our_look_and_our_merge_is_kept(
    database: Database, control: Control, monkeypatch: pytest.MonkeyPatch
):
    async with founded(database, control, deletes="unlink, follow_merges: merge") as town:
        leads = [
            await town.close("POST", "/lead/", name=f"Acme {n}", url=f"https://{n}.example")
            for n in ("one", "two")
        ]
        for lead in leads:
            await town.hear_close("lead", "created", lead["id"])
        await town.work()
        query = "/crm/v3/objects/companies?properties=domain"
        listed = (await town.hubspot("GET", query))["results"]
        ids = {row["properties"]["domain"]: int(row["id"]) for row in listed}
        kept, lost = ids["one.example"], ids["two.example"]
        body = {"primaryObjectId": str(kept), "objectIdToMerge": str(lost)}
        await town.hubspot("POST", "/crm/v3/objects/companies/merge", **body)
        told = {"primaryObjectId": kept, "mergedObjectIds": [lost], "newObjectId": kept}
        connector = town.house.members["close"].connector
        merge = connector.merge

        async def merge_late(survivor: Ref, loser: Ref) -> Any:
            await town.close("PUT", f"/lead/{loser.id}/", name="Typed in that instant")
            return await merge(survivor, loser)

        monkeypatch.setattr(connector, "merge", merge_late)
        await town.hear_hubspot("company.merge", kept, numberOfPropertiesMoved=0, **told)
        await town.work()
        record = await town.record_of(Ref("close", "lead", leads[0]["id"]))
        assert (await town.record_of(Ref("close", "lead", leads[1]["id"]))).id == record.id
        assert record.fields["name"] == "Acme one"
        values = "select lost #>> '{}' from journal where record_id = :r and lost is not null"
        async with town.db.transaction() as db:
            rows = await db.exec_driver_sql(values.replace(":r", f"'{record.id}'"))
            assert "Typed in that instant" in [row[0] for row in rows]
