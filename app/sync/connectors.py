"""The connectors of every configured account, for whoever talks to a CRM on a person's word."""

from __future__ import annotations

from app.config import Config
from app.db.accounts import Box
from app.db.engine import Database
from app.sdk.connector import Connector
from app.sdk.registry import Registry
from app.settings import Settings
from app.sync.house import build


def connect_all(
    settings: Settings, config: Config, database: Database, registry: Registry
) -> dict[str, Connector]:
    """One connector per account, signed in on first use. Raises ConfigError."""
    house = build(database, config, registry, Box(settings.secret_keys))
    return {name: member.connector for name, member in house.members.items()}
