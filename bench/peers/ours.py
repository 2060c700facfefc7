"""Ours: the whole application, with one Close account and everything it does in production."""

from __future__ import annotations

import os

from app import config as configuration
from app.api.webhooks import WebhookFront
from app.main import create_app
from app.sdk.registry import Registry
from app.settings import settings

_ACCOUNTS = {
    "accounts": {
        "close": {
            "connector": "close",
            "credentials": {"api_key": "nobody"},
            "webhook_secret": os.environ["BENCH_KEY"],
        }
    }
}


def create() -> WebhookFront:
    registry = Registry.load()
    config = configuration.parse(_ACCOUNTS, lambda name: registry.connector(name).manifest.entities)
    return create_app(settings(), config)
