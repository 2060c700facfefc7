"""The calls that take several records; one by one at an address that has no such call.

https://developers.hubspot.com/docs/api-reference/legacy/crm/using-object-apis
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from app.connectors.hubspot.shapes import REFUSED, stamp
from app.sdk import (
    NO_SUCH_CALL,
    Absences,
    Client,
    NotFoundError,
    Raw,
    RejectedError,
    SyncError,
    each,
)

#: How many pages of a list are looked through where there is no search.
PAGES = 10
#: Says of an answer that who is not in it tells nothing of its links.
SILENT = "silent"

_One = Callable[[Raw], Awaitable[Raw | None]]


class Calls:
    """HubSpot's objects and associations, several at a time."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._absent = Absences()

    # -------------------------------------------------------------------------- objects

    async def read(
        self,
        type: str,
        ids: Sequence[str],
        properties: Sequence[str],
        *,
        by: str | None = None,
        histories: Collection[str] = (),
    ) -> Raw:
        """The records of these ids, or values of a unique property, that are shown."""
        body: dict[str, Any] = {"properties": list(properties), "inputs": [{"id": i} for i in ids]}
        if by:
            body["idProperty"] = by
        if histories:
            body["propertiesWithHistory"] = sorted(histories)
        path = f"/crm/v3/objects/{type}/batch/read"
        if (data := await self._several(type, path, body, reads=True)) is not None:
            return data
        if by:
            rows = await self.search(type, in_values(by, ids, properties))
            return {"results": rows}
        params = {
            "properties": ",".join(properties),
            "propertiesWithHistory": ",".join(sorted(histories)) or None,
        }

        async def one(given: Raw) -> Raw | None:
            answer = await self.client.call(
                "GET",
                f"/crm/v3/objects/{type}/{{id}}",
                at={"id": str(given["id"])},
                params=params,
                accept=(404,),
            )
            # An id that was merged away answers with the survivor: that is asked by itself.
            alike = answer.status == 200 and str(answer.data["id"]) == str(given["id"])
            return dict(answer.data) if alike else None

        return _results(await each(body["inputs"], one))

    async def create(self, type: str, inputs: Sequence[Raw]) -> Raw:
        async def one(given: Raw) -> Raw | None:
            body = {name: v for name, v in given.items() if name in ("properties", "associations")}
            answer = await self.client.call(
                "POST", f"/crm/v3/objects/{type}", json=body, creates=True
            )
            return dict(answer.data)

        return await self._write(type, "create", inputs, one, creates=True)

    async def update(self, type: str, inputs: Sequence[Raw]) -> Raw:
        async def one(given: Raw) -> Raw | None:
            answer = await self.client.call(
                "PATCH",
                f"/crm/v3/objects/{type}/{{id}}",
                at={"id": str(given["id"])},
                json={"properties": given["properties"]},
            )
            return dict(answer.data)

        return await self._write(type, "update", inputs, one)

    async def archive(self, type: str, ids: Sequence[str]) -> None:
        async def one(given: Raw) -> Raw | None:
            path, at = f"/crm/v3/objects/{type}/{{id}}", {"id": str(given["id"])}
            await self.client.call("DELETE", path, at=at, accept=(404,))
            return None

        inputs = [{"id": id} for id in ids]
        path = f"/crm/v3/objects/{type}/batch/archive"
        if await self._several(type, path, {"inputs": inputs}) is None:
            await each(inputs, one)

    async def _write(
        self, type: str, verb: str, inputs: Sequence[Raw], one: _One, *, creates: bool = False
    ) -> Raw:
        path = f"/crm/v3/objects/{type}/batch/{verb}"
        data = await self._several(type, path, {"inputs": list(inputs)}, creates=creates)
        if data is not None:
            return data

        async def row(given: Raw) -> Raw:
            trace = {"objectWriteTraceId": given.get("objectWriteTraceId")}
            try:
                return {**(await one(given) or {}), **trace}
            except SyncError as error:  # what the others were answered still counts
                return {REFUSED: error, **trace}

        return {"results": await each(inputs, row)}

    # --------------------------------------------------------------------- associations

    async def linked(self, type: str, to: str, inputs: Sequence[Raw]) -> Raw:
        """The links of these; of one that tells none in any way there is no row."""
        path = f"/crm/v4/associations/{type}/{to}/batch/read"
        data = await self._several(type, path, {"inputs": list(inputs)}, reads=True)
        if data is not None:
            return data

        async def one(given: Raw) -> Raw | None:
            id, params = str(given["id"]), {"after": given.get("after")}
            answer = await self.client.call(
                "GET",
                f"/crm/v4/objects/{type}/{{id}}/associations/{to}",
                at={"id": id},
                params=params,
                accept=NO_SUCH_CALL,
            )
            if answer.status == 200:
                row = {"from": {"id": id}, "to": answer.data.get("results") or ()}
                return {**row, "paging": answer.data.get("paging")}
            shown = await self.client.call(
                "GET",
                f"/crm/v3/objects/{type}/{{id}}",
                at={"id": id},
                params={"associations": to},
                accept=(404,),
            )
            ends = (shown.data.get("associations") or {}).get(to) if shown.status == 200 else None
            if not isinstance(ends, Mapping):
                return None
            links = [{"toObjectId": end["id"]} for end in ends.get("results") or ()]
            return {"from": {"id": id}, "to": links}

        return {**_results(await each(inputs, one)), SILENT: True}

    async def link(self, type: str, to: str, verb: str, inputs: Sequence[Raw]) -> Raw:
        """Make (`create`), break (`archive`) or demote (`labels/archive`) links."""
        path = f"/crm/v4/associations/{type}/{to}/batch/{verb}"
        data = await self._several(type, path, {"inputs": list(inputs)})
        if data is not None:
            return data

        async def one(given: Raw) -> Raw | None:
            ends = given["to"] if isinstance(given["to"], list) else [given["to"]]
            for end in ends:
                at = {"id": str(given["from"]["id"]), "end": str(end["id"])}
                path = f"/crm/v4/objects/{type}/{{id}}/associations/{to}/{{end}}"
                if verb == "archive":
                    await self.client.call("DELETE", path, at=at, accept=(404,))
                elif verb == "create":
                    await self.client.call("PUT", path, at=at, json=given["types"])
            return None

        return _results(await each(inputs, one))

    # --------------------------------------------------------------------------- search

    async def search_page(self, type: str, body: Raw) -> Raw | None:
        """One page of a search; None at an address that has none."""
        path = f"/crm/v3/objects/{type}/search"
        return await self._several(type, path, body, reads=True, group="search")

    async def search(self, type: str, body: Raw) -> list[Raw]:
        """Everything that a search finds; where there is none, what a list shows that fits."""
        rows: list[Raw] = []
        after: str | None = None
        while True:
            page = await self.search_page(type, {**body, **({"after": after} if after else {})})
            if page is None:
                return await self._listed(type, body)
            rows += page["results"]
            after = following(page)
            if not after:
                return rows

    async def _listed(self, type: str, body: Raw) -> list[Raw]:
        names = [f["propertyName"] for g in body["filterGroups"] for f in g["filters"]]
        asked = ",".join(dict.fromkeys([*body.get("properties", ()), *names]))
        rows: list[Raw] = []
        after: str | None = None
        for _ in range(PAGES):
            params = {"limit": 100, "after": after, "properties": asked, "archived": "false"}
            answer = await self.client.call("GET", f"/crm/v3/objects/{type}", params=params)
            rows += [row for row in answer.data["results"] if fits(row, body)]
            after = following(answer.data)
            if not after:
                return rows
        raise RejectedError(f"there is no search of {type} here, and there are too many to list")

    # ---------------------------------------------------------------------------- absence

    async def _several(
        self,
        type: str,
        path: str,
        body: Raw,
        *,
        reads: bool | None = None,
        creates: bool = False,
        group: str = "default",
    ) -> Raw | None:
        """The answer; None where such records are shown and there is no such call."""
        if path in self._absent:
            return None
        answer = await self.client.call(
            "POST", path, json=body, group=group, reads=reads, creates=creates, accept=NO_SUCH_CALL
        )
        if answer.status not in NO_SUCH_CALL:
            return dict(answer.data or {})
        # Where nothing at all is shown, it is our sight that was lost.
        shown = await self.client.call(
            "GET", f"/crm/v3/objects/{type}", params={"limit": 1}, accept=NO_SUCH_CALL
        )
        if shown.status in NO_SUCH_CALL:
            raise NotFoundError(f"POST {path} answered {answer.status}, and no {type} are shown")
        self._absent.add(path)
        return None


def _results(rows: Sequence[Raw | None]) -> Raw:
    return {"results": [row for row in rows if row is not None]}


def following(page: Raw) -> str | None:
    after = ((page.get("paging") or {}).get("next") or {}).get("after")
    return None if after is None else str(after)


def in_values(name: str, values: Sequence[str], properties: Sequence[str]) -> Raw:
    asked = {"propertyName": name, "operator": "IN", "values": [v.lower() for v in values]}
    return {
        "filterGroups": [{"filters": [asked]}],
        "properties": list(dict.fromkeys([name, *properties])),
        "limit": 100,
    }


def fits(row: Raw, body: Raw) -> bool:
    """Whether a row is what a search would find; what it does not show is no reason against it."""
    return any(all(_fits(row, one) for one in group["filters"]) for group in body["filterGroups"])


def _fits(row: Raw, one: Raw) -> bool:
    have = (row.get("properties") or {}).get(one["propertyName"])
    match one["operator"]:
        case "IN":
            return str(have or "").lower() in one["values"]
        case "EQ":
            return str(have or "").lower() == str(one["value"]).lower()
        case _:
            return have is None or stamp(have) >= int(one["value"])
