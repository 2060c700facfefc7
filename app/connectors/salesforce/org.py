"""The calls to one org: queries, descriptions, collections of records.

https://developer.salesforce.com/docs/platform/api-rest/guide/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.connectors.salesforce import soql
from app.connectors.salesforce.dialect import row_error
from app.connectors.salesforce.kinds import object_of
from app.connectors.salesforce.shapes import FEATURES
from app.sdk import (
    NO_SUCH_CALL,
    Absences,
    Client,
    Raw,
    RemoteField,
    SyncError,
    TransientError,
    each,
)

VERSION = "62.0"
NOT_EVERYWHERE = FEATURES | {"MasterRecordId"}
_UNTOLD = "describe"
USERINFO = "/services/oauth2/userinfo"
#: Records in one collection: https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-sobjects-collections-create.html
BATCH = 200
#: Whose work it is, as Change Data Capture tells it, and rules that are none of ours.
#: https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers.htm
CALLER: Mapping[str, str] = {"sforce-call-options": "client=syncline"}
WRITING: Mapping[str, str] = {
    **CALLER,
    "sforce-auto-assign": "FALSE",
    "sforce-duplicate-rule-header": (
        "allowSave=false; includeRecordDetails=true; runAsCurrentUser=true"
    ),
}
_LOCATOR = re.compile(r"/query(?:All)?/([\w-]+)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Described:
    """What an object is to our user: the fields that it may see, and what it may do.

    Where the address has no descriptions, all is taken to be there but what not every org has.
    """

    fields: Mapping[str, Raw]
    raw: Raw
    told: bool = True

    @property
    def texts(self) -> frozenset[str]:
        """The fields by whose text a record can be looked for."""
        found = ("string", "email", "phone", "url", "picklist", "combobox")
        return frozenset(n for n, f in self.fields.items() if f.get("type") in found)

    def sees(self, names: Iterable[str]) -> list[str]:
        known = dict.fromkeys(names)
        if not self.told:
            return [name for name in known if name not in NOT_EVERYWHERE]
        return [name for name in known if name in self.fields]

    def writes(self, name: str, *, creating: bool) -> bool:
        if not self.told:
            return name not in NOT_EVERYWHERE
        field = self.fields.get(name) or {}
        return bool(field.get("createable" if creating else "updateable"))

    def is_external_id(self, name: str) -> bool:
        field = self.fields.get(name) or {}
        return bool(field.get("externalId") and field.get("unique"))


@dataclass(frozen=True, slots=True)
class Part:
    """One request of several in a call: what it makes is ``@{name.id}`` in those after it."""

    name: str
    path: str
    body: Raw | None = None


class Org:
    """What every verb needs of the API of one org."""

    def __init__(self, client: Client, version: str) -> None:
        self.client, self.root = client, f"/services/data/v{version}"
        self._described: dict[str, Described] = {}
        self._user: str | None = None
        #: Calls that this address does not have, such as that of a proxy.
        self._lacks = Absences()

    async def describe(self, type: str, *, anew: bool = False) -> Described:
        """The object as it is for our user; asked once unless ``anew``."""
        type = object_of(type)
        if _UNTOLD in self._lacks:
            return Described({}, {}, told=False)
        if anew or type not in self._described:
            answer = await self.client.call(
                "GET", f"{self.root}/sobjects/{type}/describe", accept=NO_SUCH_CALL
            )
            if answer.status in NO_SUCH_CALL:
                self._lacks.add(_UNTOLD)
                return Described({}, {}, told=False)
            fields = {str(row["name"]): row for row in answer.data["fields"]}
            self._described[type] = Described(fields, answer.data)
        return self._described[type]

    async def user(self) -> str | None:
        """Who we are there, asked once; None where the address does not tell.

        https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_using_userinfo_endpoint.htm
        """
        if self._user is None and USERINFO not in self._lacks:
            try:
                told = (await self.client.call("GET", USERINFO)).data
            except TransientError:
                return None
            except SyncError:
                told = None
            self._user = told.get("user_id") if isinstance(told, dict) else None
            if self._user is None:
                self._lacks.add(USERINFO)
        return self._user

    async def query(self, text: str, *, deleted: bool = False) -> list[Raw]:
        """Every row; those of the recycle bin among them if ``deleted``."""
        verb = "queryAll" if deleted else "query"
        answer = await self.client.call(
            "GET", f"{self.root}/{verb}", params={"q": text}, headers=CALLER
        )
        rows = list(answer.data["records"])
        while not answer.data.get("done", True):
            following = _LOCATOR.search(str(answer.data.get("nextRecordsUrl") or ""))
            if following is None:
                raise TransientError("Salesforce says that there is more, and not where")
            answer = await self.client.call(
                "GET",
                f"{self.root}/{verb}/{{locator}}",
                at={"locator": following[1]},
                headers=CALLER,
            )
            rows += answer.data["records"]
        return rows

    async def _collection(self, method: str, path: str, **more: Any) -> list[Any] | None:
        """What a call for many records answers; None where the address has no such call."""
        call = f"{method} {path.partition('/')[0]}"
        if call in self._lacks:
            return None
        answer = await self.client.call(
            method, f"{self.root}/composite/sobjects{path}", accept=NO_SUCH_CALL, **more
        )
        if answer.status in NO_SUCH_CALL:
            self._lacks.add(call)
            return None
        return list(answer.data or ())

    async def retrieve(self, type: str, ids: Sequence[str], fields: Sequence[str]) -> list[Raw]:
        """The records of these ids that are shown."""
        found: list[Raw] = []
        for start in range(0, len(ids), BATCH):
            some = list(ids[start : start + BATCH])
            body = {"ids": some, "fields": list(fields)}
            rows = await self._collection("POST", f"/{object_of(type)}", json=body, reads=True)
            if rows is None:
                rows = []
                for part in soql.chunks(some):
                    text = soql.select(fields, object_of(type), soql.within("Id", part))
                    rows += await self.query(text)
            found += [row for row in rows if row]
        return found

    async def send(
        self, method: str, path: str, records: Sequence[Raw], *, creates: bool = False
    ) -> list[Raw]:
        """The fate of each record of a collection, in its order: a bad one fails alone."""
        body = {"allOrNone": False, "records": list(records)}
        fates = await self._collection(method, path, json=body, creates=creates, headers=WRITING)
        if fates is not None:
            return fates
        return await each(records, lambda record: self._send_alone(record, path, creates=creates))

    async def _send_alone(self, record: Raw, path: str, *, creates: bool) -> Raw:
        """The fate of a record that is sent by itself, in the shape of a collection's."""
        type, _, external = path.strip("/").partition("/")
        type = type or str(record["attributes"]["type"])
        body = {n: v for n, v in record.items() if n not in ("attributes", "id", external)}
        at, method = f"{self.root}/sobjects/{type}/", "POST"
        if external:
            method, at = "PATCH", f"{at}{external}/{{key}}"
        elif "id" in record:
            method, at = "PATCH", f"{at}{{key}}"
        key = str(record.get(external) if external else record.get("id"))
        try:
            answer = await self.client.call(
                method, at, at={"key": key}, json=body, creates=creates, headers=WRITING
            )
        except SyncError as error:
            return {"success": False, "error": error}
        told = answer.data if isinstance(answer.data, dict) else {}
        return {"success": True, "id": record.get("id"), **told}

    async def together(self, parts: Sequence[Part]) -> list[Any] | None:
        """What each part of one call answered; None where any was refused, and nothing is done.

        https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_composite_composite.htm
        """
        if "composite" in self._lacks:
            return None
        body = {
            "allOrNone": True,
            "compositeRequest": [
                {
                    "referenceId": part.name,
                    "method": "GET" if part.body is None else "POST",
                    "url": f"{self.root}{part.path}",
                    **({} if part.body is None else {"body": part.body, "httpHeaders": WRITING}),
                }
                for part in parts
            ],
        }
        answer = await self.client.call(
            "POST",
            f"{self.root}/composite",
            json=body,
            creates=True,
            accept=NO_SUCH_CALL,
            headers=WRITING,
        )
        if answer.status in NO_SUCH_CALL:
            self._lacks.add("composite")
            return None
        told = answer.data["compositeResponse"]
        return (
            None
            if any(one["httpStatusCode"] >= 300 for one in told)
            else [one["body"] for one in told]
        )

    async def delete(self, type: str, ids: Sequence[str]) -> list[Raw]:
        params = {"ids": ",".join(ids), "allOrNone": "false"}
        fates = await self._collection("DELETE", "", params=params, headers=WRITING)
        return await each(ids, lambda id: self._delete_alone(type, id)) if fates is None else fates

    async def _delete_alone(self, type: str, id: str) -> Raw:
        path = f"{self.root}/sobjects/{object_of(type)}/{{id}}"
        try:
            await self.client.call("DELETE", path, at={"id": id}, headers=WRITING)
        except SyncError as error:
            return {"success": False, "error": error}
        return {"success": True, "id": id}

    async def by_ids(
        self, fields: Sequence[str], type: str, ids: Sequence[str], *, by: str = "Id"
    ) -> list[Raw]:
        """Rows of the recycle bin among them, by their ids or by whom they name."""
        rows: list[Raw] = []
        for some in soql.chunks(ids):
            text = soql.select(fields, object_of(type), soql.within(by, some))
            rows += await self.query(text, deleted=True)
        return rows


def fate_error(fate: Raw, made: str | None = None) -> SyncError:
    """Why a record of a collection, or one sent by itself, was refused."""
    error = fate.get("error")
    return error if isinstance(error, SyncError) else row_error(fate.get("errors") or (), made)


def as_fields(described: Described) -> dict[str, RemoteField]:
    """Fields by name; options only where a picklist takes no others.

    What comes with a feature of the org is not missed where that is off: nothing is written to it.
    """
    shown = {name: _field(name, row) for name, row in described.fields.items()}
    return {**{name: RemoteField(name) for name in sorted(FEATURES)}, **shown}


def _field(name: str, row: Raw) -> RemoteField:
    closed = row.get("restrictedPicklist") and row.get("type") in ("picklist", "multipicklist")
    values = row.get("picklistValues") or ()
    return RemoteField(
        name,
        str(row.get("type") or "string"),
        writable=bool(row.get("createable") or row.get("updateable")),
        options=tuple(str(v["value"]) for v in values if v.get("active")) if closed else (),
    )


def withheld(described: Described, body: dict[str, Any], *, creating: bool) -> dict[str, str]:
    """Take out of a body what our user may not write; each with the reason.

    One field without permission would else sink every write of the object.
    """
    held: dict[str, str] = {}
    for name in list(body):
        if described.writes(name, creating=creating):
            continue
        del body[name]
        if name in FEATURES:
            continue
        held[name] = (
            "our user may not edit this field in Salesforce: give its permission set edit access "
            "to it, or turn the row off (direction: from)"
            if name in described.fields
            else "Salesforce does not show this field: it is not there, or our user's permission "
            "set gives no access to it"
        )
    return held
