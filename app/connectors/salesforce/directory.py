"""Stages, record types and users of an org.

https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_opportunitystage.htm
"""

from __future__ import annotations

from collections.abc import Sequence

from app.connectors.salesforce import cases, soql
from app.connectors.salesforce.org import Org
from app.connectors.salesforce.shapes import CASE, MASTER_TYPE, OPPORTUNITY
from app.sdk import Directory, Pipeline, Raw, RejectedError, Stage

#: What Salesforce adds to the addresses of users in a copy of an org:
#: https://help.salesforce.com/s/articleView?id=platform.data_sandbox_create.htm
COPIED = ".invalid"


async def directory(org: Org) -> Directory:
    users = await _rows(
        org,
        soql.select(
            ("Id", "Email", "Name", "IsActive"),
            "User",
            soql.equals("UserType", "Standard"),
            order=("CreatedDate", "Id"),
        ),
    )
    named = [(u, str(u["Email"]).lower().removesuffix(COPIED)) for u in users if u.get("Email")]
    return Directory(
        pipelines=await pipelines(org),
        owners={str(user["Id"]): mail for user, mail in named},
        names={mail: str(user["Name"]) for user, mail in reversed(named) if user.get("Name")},
        currency=await _currency(org),
        retired=frozenset(str(user["Id"]) for user, _ in named if not user.get("IsActive")),
        zone=await _zone(org),
    )


async def _rows(org: Org, text: str) -> list[Raw]:
    """What a query finds; nothing where we may not ask, or there is nothing to ask."""
    try:
        return await org.query(text)
    except RejectedError:
        return []


async def stages(org: Org) -> list[Stage]:
    """The active stages in their order."""
    rows = await _rows(
        org,
        soql.select(
            ("ApiName", "MasterLabel", "IsClosed", "IsWon", "SortOrder"),
            "OpportunityStage",
            soql.equals("IsActive", True),
            order=("SortOrder",),
        ),
    )
    return [_stage(row) for row in rows]


def _stage(row: Raw) -> Stage:
    closed = "won" if row.get("IsWon") else "lost"
    return Stage(
        str(row.get("ApiName") or row["MasterLabel"]),
        str(row["MasterLabel"]),
        closed if row.get("IsClosed") else "open",  # type: ignore[arg-type]
    )


async def pipelines(org: Org) -> tuple[Pipeline, ...]:
    """Those of opportunities."""
    return await _pipelines(org, OPPORTUNITY, "StageName", await stages(org), "Opportunities")


async def tickets(org: Org) -> tuple[Pipeline, ...]:
    """Those of cases."""
    return await _pipelines(org, CASE, "Status", await cases.statuses(org), "Cases")


async def _pipelines(
    org: Org, type: str, field: str, every: Sequence[Stage], name: str
) -> tuple[Pipeline, ...]:
    """One per record type, those that our user may give first; one of all stages without any."""
    if not every:
        return ()
    infos = (await org.describe(type)).raw.get("recordTypeInfos") or ()
    own = [info for info in infos if not info.get("master") and info.get("active", True)]
    if not own:
        return (Pipeline(MASTER_TYPE, name, tuple(every)),)
    return tuple(
        [
            Pipeline(
                str(info["recordTypeId"]),
                str(info["name"]),
                tuple(await _offered(org, type, field, str(info["recordTypeId"]), every)),
            )
            for info in sorted(own, key=_rank)
        ]
    )


def _rank(info: Raw) -> tuple[bool, bool]:
    return not info.get("available"), not info.get("defaultRecordTypeMapping")


async def _offered(
    org: Org, type: str, field: str, record_type: str, every: Sequence[Stage]
) -> list[Stage]:
    """The stages of the process behind a record type; all where that is not told.

    https://developer.salesforce.com/docs/atlas.en-us.uiapi.meta/uiapi/ui_api_resources_picklist_values.htm
    """
    answer = await org.client.call(
        "GET",
        f"{org.root}/ui-api/object-info/{type}/picklist-values/{{type}}/{field}",
        at={"type": record_type},
        accept=(400, 403, 404),
    )
    if answer.status != 200:
        return list(every)
    offered = {str(row["value"]) for row in answer.data.get("values") or ()}
    return [stage for stage in every if stage.id in offered] or list(every)


async def _currency(org: Org) -> str | None:
    """The corporate currency of an org with several; an org with one does not tell which."""
    if "CurrencyIsoCode" not in (await org.describe(OPPORTUNITY)).fields:
        return None
    where = soql.equals("IsCorporate", True)
    rows = await _rows(org, soql.select(("IsoCode",), "CurrencyType", where))
    return str(rows[0]["IsoCode"]) if rows else None


async def _zone(org: Org) -> str | None:
    rows = await _rows(org, soql.select(("TimeZoneSidKey",), "Organization"))
    return str(rows[0]["TimeZoneSidKey"]) if rows and rows[0].get("TimeZoneSidKey") else None
