"""Cases: tickets about an account and one contact, in statuses that the org names.

https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_case.htm
"""

from __future__ import annotations

from app.connectors.salesforce import soql
from app.connectors.salesforce.org import Org
from app.sdk import Stage


async def statuses(org: Org) -> list[Stage]:
    """The statuses of cases in their order.

    https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_casestatus.htm
    """
    fields = ("ApiName", "MasterLabel", "IsClosed", "SortOrder")
    rows = await org.query(soql.select(fields, "CaseStatus", order=("SortOrder",)))
    return [
        Stage(
            str(row.get("ApiName") or row["MasterLabel"]),
            str(row["MasterLabel"]),
            "closed" if row.get("IsClosed") else "open",
        )
        for row in rows
    ]
