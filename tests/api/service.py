"""The service under test: its settings, its server, and signed deliveries for it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import uvicorn
from pydantic import SecretStr

from app import config as configuration
from app.api.connections import CarefulProtocol
from app.api.webhooks import WebhookFront
from app.config import Config
from app.db.engine import Database
from app.main import create_app
from app.sdk.registry import Registry
from app.settings import Settings

TOKEN = "a-token-for-the-tests"
KEY = "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"
SIMPLE = "close-simple-secret-123"
FERNET = "zS1Rk6v2RrYgb1kA6dR1x4y6w2tq6C5b0m9Y8vXo3fE="

ACCOUNTS = f"""
accounts:
  close:
    connector: close
    credentials: {{api_key: nobody}}
    webhook_secret: [{KEY}, {SIMPLE}]
    base_url: http://127.0.0.1:9/close
  hubspot:
    connector: hubspot
    portal_id: 62515
    credentials: {{access_token: nobody}}
    webhook_secret: hs-test-client-secret-0001
    base_url: http://127.0.0.1:9/hubspot
  second:
    connector: close
    credentials: {{api_key: nobody}}
    base_url: http://127.0.0.1:9/second
"""


def config(text: str = ACCOUNTS, **more: Any) -> Config:
    registry = Registry.load()
    found = configuration.parse(text, lambda name: registry.connector(name).manifest.entities)
    return found.model_copy(update=more)


def settings(database_url: str | None, home: Path, **more: Any) -> Settings:
    return Settings(
        database_url=database_url,
        home=home,
        api_token=SecretStr(TOKEN),
        secret_keys=(SecretStr(FERNET),),
        public_url="https://hooks.example.com",
        log_level="ERROR",
        **more,
    )


@dataclass
class Service:
    """A running service in this process, on a port of its own."""

    front: WebhookFront
    server: uvicorn.Server
    url: str

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, settings: Settings, config: Config, database: Database | None = None
    ) -> AsyncIterator[Self]:
        front = create_app(settings, config, database)
        server = uvicorn.Server(
            uvicorn.Config(
                front,
                port=0,
                http=CarefulProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
        )
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
        task = asyncio.create_task(server.serve())
        try:
            while not server.started:
                if task.done():
                    task.result()
                    raise RuntimeError("the server did not start")
                await asyncio.sleep(0.01)
            (listener,) = server.servers[0].sockets
            yield cls(front, server, f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            await task


def event(number: int, **more: Any) -> bytes:
    """A Close delivery; each number is another event."""
    content: dict[str, Any] = {
        "id": f"ev_{number}",
        "date_created": "2026-11-22T03:07:12.345000",
        "date_updated": "2026-11-22T03:07:12.345000",
        "object_type": "lead",
        "object_id": f"lead_{number}",
        "lead_id": f"lead_{number}",
        "action": "updated",
        "changed_fields": ["name"],
        "data": {"id": f"lead_{number}", "name": f"Lead {number}"},
        "previous_data": {"name": "Before"},
        **more,
    }
    return json.dumps({"subscription_id": "whsub_1", "event": content}).encode()


def signed(body: bytes, *, key: str = KEY, at: int | None = None) -> Mapping[str, str]:
    """Headers with Close's genuine signature."""
    stamp = str(int(time.time()) if at is None else at)
    digest = hmac.new(bytes.fromhex(key), stamp.encode() + body, hashlib.sha256).hexdigest()
    return {
        "content-type": "application/json",
        "close-sig-timestamp": stamp,
        "close-sig-hash": digest,
    }
