"""What changed since, in the order of SystemModstamp: for scans, and for what nobody told.

Asked by SOQL and not by getUpdated, which tells whole minutes and leaves out what was deleted:
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-getupdated.html
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from app.connectors.salesforce import events, soql
from app.connectors.salesforce.kinds import SUBTYPE, SUBTYPES, narrowed, object_of
from app.connectors.salesforce.org import Org
from app.connectors.salesforce.shapes import LEAD, OPPORTUNITY, ROLE, STAMP, time_of
from app.sdk import Raw, RejectedError, Trail

#: A long transaction shows its rows late, with the stamp of its beginning.
OVERLAP = timedelta(minutes=10)
#: Rows of one page of a scan, and of one page of what changed, which are only ids and times.
PAGE, LIST = 500, 2_000
#: What a catch-up goes through, one after the other.
CHANGED, ROLES, LEFT_ROLES, DELETED = "changed", "roles", "left roles", "deleted"
#: … and of people, where leads are some.
LEADS, LEFT_LEADS = "leads", "left leads"
PARTS = (CHANGED, ROLES, LEFT_ROLES, DELETED, LEADS, LEFT_LEADS)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where we stand: after this id among the rows of this moment; None at the beginning."""

    at: datetime | None = None
    id: str = ""
    part: str = CHANGED

    @classmethod
    def read(cls, text: str | None, since: datetime | None) -> Cursor:
        if text is None:
            return cls(since - OVERLAP if since else None)
        try:
            data = orjson.loads(text)
            at, id, part = data["at"], data["id"], data["part"]
            if not (isinstance(id, str) and part in PARTS):
                raise ValueError(id, part)
            return cls(datetime.fromisoformat(at) if at else None, id, part)
        except (ValueError, TypeError, KeyError) as error:
            raise RejectedError("this is not a cursor of a Salesforce scan") from error

    def write(self) -> str:
        at = self.at.isoformat() if self.at else None
        return orjson.dumps({"at": at, "id": self.id, "part": self.part}).decode()

    def condition(self) -> soql.Condition | None:
        if self.at is None:
            return None
        if not self.id:
            return soql.since(STAMP, self.at)
        beside = soql.every(soql.equals(STAMP, self.at), soql.after("Id", self.id))
        return soql.some(soql.after(STAMP, self.at), beside)

    def following(self, rows: list[Raw], *, size: int) -> Cursor | None:
        """Where the next page begins; None after the last."""
        if len(rows) < size:
            return None
        return replace(self, at=time_of(rows[-1][STAMP]), id=str(rows[-1]["Id"]))


async def page(org: Org, type: str, fields: list[str], at: Cursor) -> tuple[list[Raw], str | None]:
    """Rows of an object, oldest change first, and the cursor of the next page."""
    where = narrowed(type, at.condition())
    text = soql.select(fields, object_of(type), where, order=(STAMP, "Id"), limit=PAGE)
    rows = await org.query(text)
    following = at.following(rows, size=PAGE)
    return rows, following.write() if following else None


async def trail(org: Org, type: str, at: Cursor, since: datetime, *, leads: bool = False) -> Trail:
    """A page of what changed since, then of roles that did, then of what was deleted.

    The recycle bin keeps for fifteen days what was deleted, and with it into what it was merged.
    """
    parts = [CHANGED, *((ROLES, LEFT_ROLES) if type == OPPORTUNITY else ()), DELETED]
    parts += (LEADS, LEFT_LEADS) if leads else ()
    type = LEAD if at.part in (LEADS, LEFT_LEADS) else type
    rows = await _rows(org, type, at)
    following = at.following(rows, size=LIST)
    if following is None and at.part != parts[-1]:
        part = parts[parts.index(at.part) + 1]
        following = Cursor(since - OVERLAP, part=part)
    bodies = tuple(body for row in rows if (body := _as_callout(type, at.part, row)))
    return Trail(bodies, following.write() if following else None, states=True)


async def _rows(org: Org, type: str, at: Cursor) -> list[Raw]:
    of_roles, deleted = at.part in (ROLES, LEFT_ROLES), at.part in (LEFT_ROLES, DELETED, LEFT_LEADS)
    fields = ["Id", STAMP]
    if of_roles:
        fields.append("OpportunityId")
    elif deleted and "MasterRecordId" in (await org.describe(type)).fields:
        fields.append("MasterRecordId")
    conditions = [one for one in (at.condition(),) if one is not None]
    if deleted:
        conditions.append(soql.equals("IsDeleted", True))
    where = soql.every(*conditions)
    text = soql.select(
        fields,
        ROLE if of_roles else object_of(type),
        # One that was converted is told of too: it is its contact from now on.
        where if of_roles or type == LEAD else narrowed(type, where),
        order=(STAMP, "Id"),
        limit=LIST,
    )
    return await org.query(text, deleted=deleted)


def _as_callout(type: str, part: str, row: Raw) -> bytes | None:
    """What a call-out would have told of this row."""
    moment = time_of(row.get(STAMP))
    id: Any = row.get("OpportunityId") if part in (ROLES, LEFT_ROLES) else row["Id"]
    if moment is None or not id:
        return None
    master = row.get("MasterRecordId")
    change = "delete" if part in (DELETED, LEFT_LEADS) else "update"
    fields = {"MasterRecordId": master} if master else {}
    if type in SUBTYPES:
        fields[SUBTYPE] = SUBTYPES[type]
    return events.as_callout(object_of(type), str(id), change, moment, fields)
