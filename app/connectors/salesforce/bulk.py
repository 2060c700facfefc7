"""Bulk API 2.0: many creates as one file of CSV, which the org works through in its own time.

https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/bulk_api_2_0.htm
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.connectors.salesforce.dialect import row_error
from app.connectors.salesforce.org import CALLER, Org
from app.sdk import (
    NO_SUCH_CALL,
    Raw,
    RejectedError,
    StaleError,
    SyncError,
    TransientError,
)

#: Bytes of a file. Salesforce takes 100 MB; the results quote all of it, and are read whole.
LARGEST = 20_000_000
#: What stands in a cell for a field that is cleared.
CLEARED = "#N/A"
#: Parents whose children are locked together, so they are sent together.
PARENTS = ("AccountId", "ContactId")
#: `REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --`
_ERROR = re.compile(r"([A-Z][A-Z_0-9]+):(.*):([^:]*?)\s*(?:--)?\s*\Z", re.DOTALL)
_INGEST = "/jobs/ingest"


def is_plain(row: Raw) -> bool:
    """Whether no text of this row means something else in a cell."""
    return CLEARED not in row.values()


def fitting(rows: Sequence[Raw]) -> int:
    """How many of these rows, from the first, one file takes."""
    size = 0
    for number, row in enumerate(rows):
        size += sum(len(str(value).encode()) + 3 for value in row.values())
        if size > LARGEST:
            return number
    return len(rows)


def written(rows: Sequence[Raw]) -> bytes:
    """The file: children of one parent stand together, for the org works on many rows at once."""
    names = sorted({name for row in rows for name in row})
    out = io.StringIO()
    sheet = csv.writer(out, lineterminator="\n")
    sheet.writerow(names)
    for row in sorted(rows, key=lambda row: [str(row.get(name) or "") for name in PARENTS]):
        sheet.writerow([_cell(row.get(name)) for name in names])
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


async def announced(org: Org, type: str, external: str) -> str | None:
    """The id of a new job that upserts by our ids; None where there is no room for one, or no
    such call.

    https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_limits.htm
    """
    told = await org.client.call("GET", f"{org.root}/limits", accept=(403, *NO_SUCH_CALL))
    left = (told.data or {}).get("DailyBulkApiBatches") if told.status == 200 else None
    if left and int(left["Remaining"]) < 1:
        return None
    body = {
        "object": type,
        "operation": "upsert",
        "externalIdFieldName": external,
        "contentType": "CSV",
        "lineEnding": "LF",
    }
    answer = await org.client.call(
        "POST", f"{org.root}{_INGEST}", json=body, accept=NO_SUCH_CALL, headers=CALLER
    )
    return None if answer.status in NO_SUCH_CALL else str(answer.data["id"])


async def sent(org: Org, job: str, content: bytes) -> None:
    """Upload the file, once, and have it worked through."""
    await org.client.call(
        "PUT",
        f"{org.root}{_INGEST}/{{job}}/batches",
        at={"job": job},
        content=content,
        headers={"content-type": "text/csv; charset=UTF-8"},
    )
    await _become(org, job, "UploadComplete")


async def _become(org: Org, job: str, state: str) -> None:
    await org.client.call(
        "PATCH", f"{org.root}{_INGEST}/{{job}}", at={"job": job}, json={"state": state}
    )


async def shown(org: Org, job: str) -> Raw:
    """The job as it stands. Raises NotFoundError for one that the org has forgotten, which it does
    after seven days.
    """
    told = await org.client.call("GET", f"{org.root}{_INGEST}/{{job}}", at={"job": job})
    return dict(told.data)


async def called_off(org: Org, job: str) -> bool:
    """Abort a job whose file was never sent: whoever would still send it is refused. False if it
    was sent in this very moment.
    """
    try:
        await _become(org, job, "Aborted")
    except RejectedError:
        return False
    return True


async def fates(org: Org, job: str, external: str, *, why: str) -> dict[str, str | SyncError]:
    """What became of the rows of a job that has ended, by our ids: the id of what was made, or the
    reason why it was not. ``why`` is what the job says of those that it did not come to.
    """
    found: dict[str, str | SyncError] = {}
    for row in await _results(org, job, "unprocessedrecords"):
        found[row[external]] = StaleError(f"Salesforce did not come to it: {why}"[:500])
    for row in await _results(org, job, "failedResults"):
        found[row[external]] = refusal(row["sf__Error"])
    for row in await _results(org, job, "successfulResults"):
        found[row[external]] = row["sf__Id"]
    return found


async def _results(org: Org, job: str, which: str) -> list[Mapping[str, str]]:
    answer = await org.client.call(
        "GET",
        f"{org.root}{_INGEST}/{{job}}/{which}",
        at={"job": job},
        headers={"accept": "text/csv"},
        text=True,
    )
    return list(csv.DictReader(io.StringIO(answer.data or "", newline="")))


def refusal(text: str) -> SyncError:
    """The refusal of one row.

    What another transaction held, and what a duplicate rule stopped, is sent again by itself: then
    the rule names the records that are there.
    """
    match = _ERROR.match(text)
    code, message, names = match.groups() if match else ("", text, "")
    problem = {"statusCode": code, "message": message, "fields": names.split(",") if names else ()}
    error = row_error([problem])
    if code in ("DUPLICATES_DETECTED", "DUPLICATE_VALUE") or isinstance(error, TransientError):
        return StaleError(error.reason)
    return error
