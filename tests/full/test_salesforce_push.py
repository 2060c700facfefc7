"""What happens in Salesforce reaches the others by its own event bus, with the real programs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.full import harness
from tests.full.conftest import Databases
from tests.full.harness import Company, Json, World, free_port, until

ACCOUNT = "force"
#: Nothing else tells of what the bus does not: no call-outs, and nobody reads the log.
QUICK = {"callouts": False, "keep_alive": 0.5}


@pytest_asyncio.fixture(scope="module")
async def listening(
    tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> AsyncIterator[World]:
    port = free_port()
    account: Json = {
        "connector": "salesforce",
        "push": "pubsub",
        "pubsub_url": f"http://127.0.0.1:{port}",
        "catch_up": {"every": "off"},
    }
    both = {"accounts": ["hubspot", ACCOUNT]}
    async with (
        databases() as own,
        harness.world(
            tmp_path_factory.mktemp("listening"),
            own,
            accounts={ACCOUNT: account},
            config={"sync": {"company": both, "person": both, "deal": {"accounts": []}}},
            sandbox=("--search-lag", "0.1", "--salesforce-pubsub-port", str(port)),
            workers=1,
        ) as found,
    ):
        await found.crms.control("POST", "options", {"salesforce": QUICK})
        yield found


@pytest_asyncio.fixture
async def world(listening: World) -> AsyncIterator[World]:
    await _heard(listening)
    yield listening
    await listening.crms.fair_weather()


async def _heard(world: World) -> None:
    """Return once a worker listens, and knows from where it would go on."""

    async def somebody() -> bool:
        query = "select owner, position from lanes where direction = 'listen'"
        (lane,) = await world.syncline.sql(query)
        return bool(lane["owner"] and lane["position"])

    await until(somebody, why=world.syncline.explain)


async def _counterpart(world: World, company: Company) -> str:
    """The company in HubSpot that came from Salesforce."""

    async def there() -> str:
        found = await world.hubspot.find("companies", domain=company.domain)
        return found[0]["id"] if found else ""

    return await until(there, why=world.syncline.explain)


async def _shows(world: World, id: str, **fields: str) -> None:
    async def shown() -> bool:
        row = await world.hubspot.read("companies", id)
        return all(row.get(name) == value for name, value in fields.items())

    await until(shown, why=world.syncline.explain)


async def _made(world: World, name: str) -> tuple[str, str, Company]:
    company = Company.new(name)
    id = await world.salesforce.create(
        "Account", Name=company.name, Website=f"https://{company.domain}"
    )
    return id, await _counterpart(world, company), company


async def test_what_a_person_does_is_heard(world: World):
    id, other, company = await _made(world, "Heard")
    await world.salesforce.edit("Account", id, Name=f"{company.name} Ltd", Phone="+14155550100")
    await _shows(world, other, name=f"{company.name} Ltd", phone="+14155550100")
    sources = await world.syncline.sql(
        "select distinct method from deliveries where account = $1", ACCOUNT
    )
    # The log, which is read once at the start, may tell of it as well.
    assert "BUS" in {row["method"] for row in sources}


async def test_what_we_write_comes_back_and_nothing_happens(world: World):
    id, other, _ = await _made(world, "Echo")
    await world.hubspot.edit("companies", other, description="told by HubSpot")

    async def carried() -> bool:
        row = await world.salesforce.read("Account", id)
        return bool(row["Description"] == "told by HubSpot")

    await until(carried, why=world.syncline.explain)

    async def known() -> bool:
        (worker,) = world.syncline.workers
        return '"echo":1' in worker.said(1_000_000).replace(" ", "")

    await until(known, why=world.syncline.explain)
    await world.steady()
    writes = await world.crms.history("salesforce", "Account", id)
    assert harness.flips(writes) == {}


@pytest.mark.heavy
async def test_what_happens_while_nobody_listens_is_heard_afterwards(world: World):
    id, other, company = await _made(world, "Away")
    (worker,) = world.syncline.workers
    await worker.kill()
    world.syncline.workers.clear()
    await world.salesforce.edit("Account", id, Name=f"{company.name} Ltd")
    await world.syncline.add_workers(1)
    await _shows(world, other, name=f"{company.name} Ltd")


async def test_an_outage_of_the_bus_loses_nothing(world: World):
    id, other, company = await _made(world, "Outage")
    await world.crms.fault("salesforce", "outage")
    await world.crms.clear_faults()
    await world.salesforce.edit("Account", id, Name=f"{company.name} Ltd")
    await _shows(world, other, name=f"{company.name} Ltd")
