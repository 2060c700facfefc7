"""What a dry run keeps in memory while it goes through an account that has so many people.

python -m bench.preview --records 100000
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
import tracemalloc
from uuid import UUID

import sqlalchemy as sa
import uuid_utils.compat as uuid
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.clock import now
from app.config import parse
from app.db import foreseen, migrations
from app.db.accounts import Box
from app.db.engine import Database
from app.db.journal import Cause
from app.db.tables import resyncs
from app.domain.values import Observation, Ref
from app.sdk.registry import Registry
from app.sync.house import House, build
from app.sync.preview import Preview
from app.sync.world import Seen
from tests.postgres import clone, make_template, server

CONFIG = """
accounts:
  close: {connector: close, credentials: {api_key: nobody}, base_url: "http://127.0.0.1:9"}
  hubspot: {connector: hubspot, credentials: {access_token: nobody}, base_url: "http://127.0.0.1:9"}
"""
PAGE = 100


def _person(number: int) -> Observation:
    ref = Ref("hubspot", "contacts", str(100_000_000_000 + number))
    raw = {
        "email": f"somebody.with.a.long.name.{number}@company-{number % 5000}.example",
        "firstname": "Somebody",
        "lastname": f"With-a-long-name {number}",
        "hs_object_id": ref.id,
    }
    return Observation(ref, raw)


async def _page(house: House, id: UUID, start: int) -> None:
    """One page of the dry run, kept as a worker keeps it."""
    preview, cause, moment = Preview(id), Cause("resync", str(id)), now()
    page = [_person(start + n) for n in range(PAGE)]
    await preview.see(house, [Seen(one, cause, moment, moment) for one in page])
    async with house.database.transaction() as db:
        await foreseen.keep(db, id, preview.news())


async def measure(records: int) -> None:
    url = server()
    template = await make_template(url, migrations.upgraded)
    async with clone(url, template) as own:
        database, registry = Database(own), Registry.load()
        config = parse(CONFIG, lambda name: registry.connector(name).manifest.entities)
        box = Box((SecretStr(Fernet.generate_key().decode()),))
        house = build(database, config, registry, box)
        id = uuid.uuid7()
        async with database.transaction() as db:
            await db.execute(
                sa.insert(resyncs).values(
                    id=id, account="hubspot", entities=["person"], dry_run=True
                )
            )
        await _page(house, id, 0)  # what is loaded once is not counted
        tracemalloc.start()
        began = time.perf_counter()
        for start in range(PAGE, records + PAGE, PAGE):
            await _page(house, id, start)
        kept, peak = tracemalloc.get_traced_memory()
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{records} people: {kept / 2**20:.1f} MiB kept ({kept / records:.0f} bytes each), "
            f"{peak / 2**20:.1f} MiB at most, {rss:.0f} MiB of the process, "
            f"{time.perf_counter() - began:.0f} s"
        )
        await database.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--records", type=int, default=100_000)
    asyncio.run(measure(arguments.parse_args().records))


if __name__ == "__main__":
    main()
