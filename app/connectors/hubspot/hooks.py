"""The webhook subscriptions of an app, which all its portals share: made, looked at and mended.

Legacy public apps alone have calls for them, signed in by the developer's key:
https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from app.connectors.hubspot import activities
from app.connectors.hubspot.events import OBJECTS, TYPE_IDS
from app.sdk import Client, RejectedError, Subscription

#: Nobody can subscribe to these: https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide
UNHEARD = frozenset(
    {
        "hs_lastmodifieddate",
        "lastmodifieddate",
        "num_unique_conversion_events",
        "hs_email_html",
        "hs_email_subject",
    }
)
#: How many calls to us HubSpot may make at once; it takes no fewer than six.
AT_ONCE = 10
#: What one call activates.
BATCH = 100
_IDS = {word: id for id, word in TYPE_IDS.items()}


def wanted(events: Iterable[str], properties: Mapping[str, Sequence[str]]) -> list[str]:
    """What must be subscribed to, as `contact.creation` or `contact.propertyChange:email`.

    ``events`` are those of the manifest, ``properties`` what is mapped, by remote type; of
    activities and tasks there are generic ones only (`object.creation@0-46`).
    """
    found: list[str] = []
    for event in events:
        word, _, kind = event.partition(".")
        generic = word in activities.OBJECTS
        name = f"object.{kind}@{_IDS[word]}" if generic else event
        if kind != "propertyChange":
            found.append(name)
            continue
        heard = sorted({*properties.get(OBJECTS[word], ())} - UNHEARD)
        found += [f"{name}:{path}" for path in heard]
    return found


def _spelled(row: Mapping[str, Any]) -> str:
    """A subscription of theirs, as `wanted` spells it."""
    kind = str(row.get("eventType"))
    type = f"@{row['objectTypeId']}" if kind.startswith("object.") else ""
    name = row.get("propertyName")
    return f"{kind}{type}" + (f":{name}" if name else "")


def _body(spelled: str) -> dict[str, Any]:
    """What makes such a subscription."""
    rest, _, name = spelled.partition(":")
    kind, _, type = rest.partition("@")
    also = {"objectTypeId": type, "propertyName": name}
    return {"eventType": kind, "active": True, **{k: v for k, v in also.items() if v}}


class App:
    """One app and its one target URL. ``key`` is the developer's, not a portal's."""

    def __init__(self, client: Client, id: str, key: SecretStr) -> None:
        self._client, self.id, self._key = client, id, key

    async def shown(self) -> Subscription | None:
        """The app's target with everything that is active; None where there is none."""
        answer = await self._call("GET", "settings", accept=(404,))
        url = answer.data.get("targetUrl") if answer.status == 200 else None
        if not url:
            return None
        active = [_spelled(row) for row in await self._rows() if row.get("active")]
        return Subscription(self.id, url, bool(active), tuple(active), app_signed=True)

    async def mend(self, url: str, names: Sequence[str]) -> Subscription:
        """Have the app call this URL with all of these; nothing that is there is made twice.

        Raises RejectedError where the app calls somebody else: it has one URL.
        """
        before = await self.shown()
        if before is None:
            target = {"targetUrl": url, "throttling": {"maxConcurrentRequests": AT_ONCE}}
            await self._call("PUT", "settings", json=target)
        elif before.url.rstrip("/") != url.rstrip("/"):
            raise RejectedError(
                f"app {self.id} calls {before.url}, and an app has one URL. If that is of no more "
                f"use, `syncline webhooks remove ACCOUNT {self.id}` clears it."
            )
        there = {_spelled(row): row for row in await self._rows()}
        for name in names:
            if name not in there:
                # 409: somebody was faster.
                await self._call("POST", "subscriptions", json=_body(name), accept=(409,))
        asleep = [there[name] for name in names if name in there and not there[name].get("active")]
        for start in range(0, len(asleep), BATCH):
            rows = [{"id": int(row["id"]), "active": True} for row in asleep[start : start + BATCH]]
            await self._call("POST", "subscriptions/batch/update", json={"inputs": rows})
        found = await self.shown()
        assert found is not None, "it has just been set"
        return found

    async def remove(self, names: Sequence[str]) -> None:
        """Take away what we have subscribed to, and the target."""
        for row in await self._rows():
            if _spelled(row) in names:
                await self._call("DELETE", f"subscriptions/{row['id']}", accept=(404,))
        await self._call("DELETE", "settings", accept=(404,))

    async def _rows(self) -> list[Mapping[str, Any]]:
        answer = await self._call("GET", "subscriptions")
        return list(answer.data["results"])

    async def _call(self, method: str, path: str, **more: Any) -> Any:
        return await self._client.call(
            method,
            f"/webhooks/v3/{{app}}/{path}",
            at={"app": self.id},
            params={"hapikey": self._key.get_secret_value()},
            signs_in=False,
            **more,
        )
