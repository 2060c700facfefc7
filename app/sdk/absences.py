"""Calls that an address does not have, though their documentation says so."""

from __future__ import annotations

from datetime import datetime, timedelta

from app import clock

#: How an address says that it has no such call: by path, by method, or in so many words.
NO_SUCH_CALL = (404, 405, 501)
#: After this it is asked again: an address may learn.
AGE = timedelta(minutes=10)


class Absences:
    """What was found missing lately, so that it is not asked for each time."""

    def __init__(self) -> None:
        self._since: dict[str, datetime] = {}

    def __contains__(self, call: str) -> bool:
        since = self._since.get(call)
        return since is not None and clock.now() - since < AGE

    def add(self, call: str) -> None:
        self._since[call] = clock.now()
