"""One history through the whole service: a company or two, and what people do to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from tests.full.harness import Json, World
from tests.prove.desks import LATE, Desk

#: Seconds after which two are merged never, if they are not everywhere yet.
WAITS = 20


@dataclass(frozen=True, slots=True)
class Deed:
    """What a person did to a record; ``other`` is who was merged into it."""

    at: datetime
    what: str
    account: str
    id: str
    other: str = ""

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S.%f} {self.what} in {self.account}: {self.id} {self.other}"


@dataclass(slots=True)
class Firm:
    """A company: its number, where it is, and where people have deleted it."""

    thing: int
    domain: str
    ids: dict[str, str] = field(default_factory=dict)
    deleted: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    """A company, in some histories two that people may take for one, and what is done to them."""

    seed: int
    world: World
    desks: Mapping[str, Desk]
    spreads: bool  # deletes are carried over
    random: Random = field(init=False)
    firms: list[Firm] = field(init=False)
    deeds: list[Deed] = field(default_factory=list)
    tokens: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        count = 2 if self.random.random() < 0.2 else 1
        self.firms = [Firm(n, f"d{self.seed}-{n}.example") for n in range(1, count + 1)]

    # --- what people do

    async def live(self, within: float) -> None:
        """1 to 12 deeds of people, now and then with time to breathe between them."""
        await asyncio.sleep(self.random.random() * within)
        for firm in self.firms:
            await self._create(firm, self.random.choice(list(self.desks)))
        if len(self.firms) > 1:
            await self._everywhere()
        for _ in range(min(11, int(self.random.expovariate(0.35)))):
            await asyncio.sleep(self.random.choice((0, 0, 0.01, 0.1, 0.5, 2)))
            with self.in_time():
                await self._deed()

    @contextlib.contextmanager
    def in_time(self) -> Iterator[None]:
        """Who comes too late finds it gone, and does nothing."""
        try:
            yield
        except AssertionError as error:
            if not any(word in str(error) for word in LATE):
                raise

    async def _create(self, firm: Firm, account: str) -> None:
        firm.ids[account] = await self.desks[account].create(self.token("v"), firm.domain)
        self._note("create", account, firm.ids[account])

    async def _everywhere(self) -> None:
        """Until the service has made them in all accounts, or takes too long for that."""
        for _ in range(WAITS):
            await self._look_around()
            if all(firm.ids.keys() == self.desks.keys() for firm in self.firms):
                return
            await asyncio.sleep(1)

    async def _deed(self) -> None:
        firm = self.random.choice(self.firms)
        await self._look_around()
        bins = [account for account in firm.deleted if not self.desks[account].forgets]
        if bins and self.random.random() < 0.3:
            await self._restore(firm, self.random.choice(bins))
            return
        here = sorted(firm.ids)
        if not here:
            return
        account, chance = self.random.choice(here), self.random.random()
        if chance < 0.2 and len(self.firms) > 1:
            await self._merge(account)
        elif chance < (0.3 if self.spreads else 0.25):
            await self._delete(firm, account)
        else:
            path = self.random.choice(sorted(self.desks[account].names))
            clear = path != "name" and self.random.random() < 0.2
            await self.edit(firm, account, path, clear=clear)

    async def edit(self, firm: Firm, account: str, path: str, *, clear: bool = False) -> None:
        value = None if clear else self.token("+49302000" if path == "phone" else "v")
        await self.desks[account].edit(firm.ids[account], path, value)
        self._note(f"{path} = {value}", account, firm.ids[account])

    async def _delete(self, firm: Firm, account: str) -> None:
        await self.desks[account].delete(firm.ids[account])
        firm.deleted[account] = firm.ids.pop(account)
        self._note("delete", account, firm.deleted[account])

    async def _restore(self, firm: Firm, account: str) -> None:
        id = firm.deleted[account]
        at = datetime.now(UTC)
        await self.desks[account].restore(id)
        firm.ids[account] = firm.deleted.pop(account)
        self._note("restore", account, id, at=at)

    async def _merge(self, account: str) -> None:
        """Two become one; only whom all have met, as nobody could know whom else it means."""
        if any(firm.ids.keys() != self.desks.keys() for firm in self.firms):
            return
        kept, lost = self.random.sample(self.firms, 2)
        await self.merge(account, kept.ids[account], lost.ids.pop(account))

    async def merge(self, account: str, kept: str, lost: str) -> None:
        await self.desks[account].merge(kept, lost)
        self._note("merge", account, kept, lost)

    async def _look_around(self) -> None:
        """Find the counterparts that the service has made meanwhile, or deleted."""
        with self.in_time():
            await self._find()

    async def _find(self) -> None:
        for firm in self.firms:
            others = {ref for one in self.firms if one is not firm for ref in one.ids.items()}
            for link in await self._links(firm):
                ref = link["account"], link["remote_id"]
                if link["state"] == "live" and ref not in others:
                    firm.ids.setdefault(*ref)
                elif link["state"] == "gone" and firm.ids.get(ref[0]) == ref[1]:
                    del firm.ids[ref[0]]

    async def _links(self, firm: Firm) -> list[Json]:
        for account, id in (*firm.ids.items(), *firm.deleted.items()):
            query = {"account": account, "remote_id": id, "entity": "company"}
            for row in await self.world.syncline.rows("/api/records", **query):
                return list(row["links"])
        return []

    def token(self, prefix: str) -> str:
        self.tokens += 1
        return f"{prefix}{self.tokens:05}"

    def _note(
        self, what: str, account: str, id: str, other: str = "", *, at: datetime | None = None
    ) -> None:
        self.deeds.append(Deed(at or datetime.now(UTC), what, account, id, other))
