import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.db import migrations
from tests.full import harness
from tests.full.harness import Company, Json, World, until
from tests.postgres import clone, make_template, server


@pytest_asyncio.fixture(scope="module")
async def apart(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    url = server()
    async with (
        clone(url, await make_template(url, migrations.upgraded)) as own,
        harness.world(tmp_path_factory.mktemp("resync"), own) as found,
    ):
        yield found

async def test_x(apart: World):
    import time
    world = apart
    await world.crms.seed(close={"leads":340,"contacts_per_lead":1,"opportunities_per_lead":1}, hubspot={"companies":40,"contacts_per_company":1})
    t=time.time()
    async with world.counting() as w:
        dry = await world.syncline.resync(account="close", dry_run=True)
    print(time.time()-t, dry)
    assert not w
    plan = await world.syncline.rows(f"/api/resyncs/{dry['id']}/plan")
    print(len(plan), Counter((i["op"],i["account"],i["entity"]) for i in plan))
    seen=set()
    for i in plan:
        k=(i["op"],i["account"],i["entity"])
        if k not in seen:
            seen.add(k); print(json.dumps(i,indent=1))
    t=time.time()
    async with world.counting() as w:
        real = await world.syncline.resync(account="close")
        print(time.time()-t, real)
        await world.quiet(within=120)
    print(time.time()-t, w)
    print(await world.syncline.dead_letters())
    t=time.time()
    async with world.counting() as w:
        real = await world.syncline.resync(account="close")
        await world.quiet(within=120)
    print(time.time()-t, real, w)
    async with world.counting() as w:
        dry = await world.syncline.resync(account="close", dry_run=True)
    print(dry, await world.syncline.rows(f"/api/resyncs/{dry['id']}/plan"))
