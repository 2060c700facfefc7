"""A rolling upgrade: an older program goes on beside a newer one that has expanded the schema."""

import asyncio
import shutil
from pathlib import Path

from app.db import migrations
from tests.chaos.ground import Ground, ground, kept_running
from tests.chaos.kills import EVENTFUL, Firms, judge_inbox
from tests.chaos.posts import Senders
from tests.chaos.result import Result
from tests.full.harness import ROOT, Program, free_port

CONNECTIONS = 6
NEWER = "0999"
#: What a newer release adds: columns that may be empty, and a table of its own.
MIGRATION = '''
"""Flavours."""

import sqlalchemy as sa

from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    for table in ("accounts", "records", "links", "deliveries", "events", "outbox", "journal"):
        op.add_column(table, sa.Column("flavour", sa.Text))
    op.create_table("flavours", sa.Column("name", sa.Text, primary_key=True))
'''


async def versions(folder: Path, *, posts: int, firms: int, seed: int) -> Result:
    """Webhooks reach both versions while one replaces the other, worker by worker, API by API."""
    result = Result("a rolling upgrade")
    async with ground(folder, workers=1, sandbox=EVENTFUL) as place:
        await place.world.crms.weather(lose=True)
        made = await Firms.founded(place, firms)
        storm = made.storm(posts, seed)
        old = place.world.syncline
        before, after = storm[: len(storm) // 2], storm[len(storm) // 2 :]
        port = free_port()
        at_old, at_new = Senders(old.port, before), Senders(port, after)
        at_old.release(len(before) // 4)
        place.say(f"{len(storm):,} posts to both versions")
        newer = _newer(place, folder / "newer", port)
        sending = asyncio.gather(at_old.run(CONNECTIONS), at_new.run(CONNECTIONS))
        try:
            api, worker = newer
            at_new.release(len(after) // 3)
            result.restarts["newer"] += await kept_running(
                api, lambda: _is_ready(place, port, "ok"), within=120
            )
            await worker.start()
            result.demand(
                await _is_ready(place, old.port, "newer"), "the older API does not say so"
            )
            at_old.release(len(before) // 2)
            # An older program may die at any time, and starts again beside the newer one.
            await old.api.kill()
            await old.workers[0].kill()
            result.kills["older"] += 2
            await old.workers[0].start()
            result.restarts["older"] += 1 + await kept_running(
                old.api, lambda: _is_ready(place, old.port, "newer"), within=120
            )
            at_old.release(len(before))
            at_new.release(len(after))
            await sending
            await place.settled()
            await old.workers[0].stop()
            result.recovered = await place.idle()
            result.accepted = at_old.taken + at_new.taken
            await judge_inbox(place, {*at_old.accepted, *at_new.accepted}, result)
            await made.judge(place, result)
        finally:
            sending.cancel()
            for program in newer:
                if program.process is not None and program.process.returncode is None:
                    await program.stop()
    result.judge()
    return result


def _newer(place: Ground, folder: Path, port: int) -> tuple[Program, Program]:
    """API and worker of a release with one more migration; on a home of their own."""
    for name in ("app", "alembic"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", folder)
    text = MIGRATION.format(revision=NEWER, before=migrations.head())
    (folder / "alembic" / "versions" / f"{NEWER}_flavours.py").write_text(text.lstrip())
    service = place.world.syncline
    environment = {
        **service.environment,
        "PYTHONPATH": str(folder),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "SYNCLINE_HOME": str(folder / "home"),
        "SYNCLINE_CONFIG": str(service.folder / "syncline.yaml"),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    serve = ["-m", "app.cli", "serve", "--port", str(port), "--no-worker"]
    return (
        Program("newer-api", serve, folder, environment),
        Program("newer-worker", ["-m", "app.cli", "worker"], folder, environment),
    )


async def _is_ready(place: Ground, port: int, schema: str) -> bool:
    answer = await place.world.syncline.http.get(f"http://127.0.0.1:{port}/health/ready")
    return answer.is_success and answer.json()["checks"]["schema"] == schema
