"""One turn of a scan-lane: what was missed comes before what is only looked at again."""

from __future__ import annotations

from app.db.lanes import Lane
from app.sync.catchup import catch_up
from app.sync.drift import drift
from app.sync.guardian import watch
from app.sync.house import House
from app.sync.resync import resync


async def scan(house: House, lane: Lane) -> None:
    await watch(house, lane)
    if not await catch_up(house, lane) and not await resync(house, lane):
        await drift(house, lane)
