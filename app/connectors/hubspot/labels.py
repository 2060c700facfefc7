"""What a portal's people call the links between its records.

A label has a number of its own in every portal: its word is what two portals have in common.
https://developers.hubspot.com/docs/api-reference/legacy/crm/associations/associate-records/guide
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TypeAlias

from app.connectors.hubspot.shapes import LINKS, Type
from app.sdk import NO_SUCH_CALL, Client, RejectedError, StaleError

#: The types of the labels of one pair of objects, by their words.
Words: TypeAlias = Mapping[str, Type]


class Labels:
    """The labels that links of this portal can carry, as far as they were asked for."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._known: dict[tuple[str, str], Words] = {}

    async def of(self, type: str, to: str, *, fresh: bool = False) -> Words:
        """The labels from one object type to another; none where that is not told."""
        if fresh or (type, to) not in self._known:
            own = {(link.category, link.type_id) for link in LINKS[type] if link.to == to}
            path = f"/crm/v4/associations/{type}/{to}/labels"
            answer = await self.client.call("GET", path, accept=(403, *NO_SUCH_CALL))
            rows = answer.data.get("results") or () if answer.status == 200 else ()
            found = {row["label"]: (row["category"], row["typeId"]) for row in rows}
            self._known[type, to] = {
                word: kind for word, kind in found.items() if word and kind not in own
            }
        return self._known[type, to]

    async def find(self, type: str, to: str, word: str) -> Type:
        """The type of this label. Raises RejectedError where the portal has none."""
        for fresh in (False, True):
            if (found := (await self.of(type, to, fresh=fresh)).get(word)) is not None:
                return found
        raise RejectedError(f"there is no label {word!r} from {type} to {to}", value=word)

    async def create(self, type: str, to: str, word: str) -> None:
        """Add a label that reads the same from both ends; fine if somebody else just has.

        Its inner name must begin with a letter and be unique. Raises RejectedError where it cannot
        be added.
        """
        slug = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
        name = f"label_{slug[:40]}_{hashlib.sha256(word.encode()).hexdigest()[:8]}"
        path, refusal = f"/crm/v4/associations/{type}/{to}/labels", "its scopes do not allow it"
        try:
            body = {"label": word, "name": name}
            answer = await self.client.call("POST", path, json=body, accept=(403,))
            if answer.status != 403:
                await self.of(type, to, fresh=True)
                return
        except (RejectedError, StaleError) as error:
            refusal = error.reason
        if word not in await self.of(type, to, fresh=True):
            raise RejectedError(refusal, value=word)
