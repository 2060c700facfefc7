"""Alerts: look at what is wrong, say it once to each channel, and say when it is over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol

import orjson

from app import logs
from app.clock import now
from app.config import AlertsConfig, Config
from app.db import alerts
from app.db.engine import Database, is_away
from app.domain.alerts import Pace, word
from app.domain.verdict import retry_at
from app.errors import ConfigError, SyncError, TransientError
from app.sdk.client import Wire
from app.sdk.signature import standard_headers, standard_key

log = logs.get()

#: Seconds between looks.
EVERY: Final = 10.0
#: A channel that refuses is asked again, at the latest after this long, for as long as it takes.
_LONGEST: Final = timedelta(minutes=15)
_MARKS: Final = {"raised": "🔴", "changed": "🟠", "recovered": "🟢", "test": "⚪"}


class Channel(Protocol):
    """Somebody who is told. Raises SyncError where that did not succeed."""

    async def tell(self, id: int, content: Mapping[str, Any]) -> None: ...


class _Log:
    """The log: always there."""

    async def tell(self, id: int, content: Mapping[str, Any]) -> None:
        told = {name: content.get(name) for name in ("kind", "account", "summary", "count")}
        match content["word"]:
            case "recovered":
                log.info("alert.recovered", **told)
            case "changed":
                log.warning("alert.changed", **told)
            case "raised":
                log.warning("alert.raised", **told)
            case _:
                log.info("alert.tested", **told)


class _Webhook:
    """A URL of the operator's, signed by Standard Webhooks; the id is the same on every try."""

    def __init__(self, config: AlertsConfig, private_hosts: Collection[str]) -> None:
        assert config.webhook is not None
        self._private = private_hosts
        self._url = config.webhook.url.get_secret_value()
        self._secret = config.webhook.secret
        if not standard_key(self._secret.get_secret_value()):
            raise ConfigError("alerts.webhook.secret: is not base64 after whsec_")

    async def tell(self, id: int, content: Mapping[str, Any]) -> None:
        said = {"type": f"alert.{content['word']}", "timestamp": content["at"], "data": content}
        body = orjson.dumps(said)
        signed = standard_headers(self._secret, f"msg_{id}", body, at=now())
        await _post(self._url, body, signed, self._private)


class _Slack:
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks"""

    def __init__(self, config: AlertsConfig, private_hosts: Collection[str]) -> None:
        assert config.slack is not None
        self._private = private_hosts
        self._url = config.slack.get_secret_value()

    async def tell(self, id: int, content: Mapping[str, Any]) -> None:
        await _post(self._url, orjson.dumps({"text": _sentence(content)}), {}, self._private)


def channels(config: AlertsConfig, private_hosts: Collection[str] = ()) -> dict[str, Channel]:
    """Everybody who is told, by name. Raises ConfigError for a secret that cannot sign."""
    found: dict[str, Channel] = {"log": _Log()}
    if config.webhook:
        found["webhook"] = _Webhook(config, private_hosts)
    if config.slack:
        found["slack"] = _Slack(config, private_hosts)
    return found


def _sentence(content: Mapping[str, Any]) -> str:
    many = f" ({content['count']})" if content["count"] > 1 else ""
    over = "over: " if content["word"] == "recovered" else ""
    # https://docs.slack.dev/messaging/formatting-message-text#escaping
    text = f"{over}{content['summary']}{many}"
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, name)
    return f"{_MARKS[content['word']]} Syncline: {text}"


async def _post(
    url: str, body: bytes, headers: Mapping[str, str], private_hosts: Collection[str]
) -> None:
    wire = Wire(url, private_hosts=private_hosts)
    try:
        got = await wire.send(
            "POST", url, headers={"content-type": "application/json", **headers}, content=body
        )
    finally:
        await wire.aclose()
    if not 200 <= got.status < 300:
        raise TransientError(f"{wire.origin} answered {got.status}")


# ----------------------------------------------------------------------------- the watch


async def keep_watch(database: Database, config: Config) -> None:
    """Look and tell, again and again, until cancelled; outlives a database that is away.

    API and workers all do it: whoever is first looks, and each message is taken by one.
    """
    told = channels(config.alerts, config.private_hosts)
    while True:
        await asyncio.sleep(EVERY * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret
        try:
            await look(database, config)
            await tell(database, told)
        except Exception as error:
            if not is_away(error):
                log.exception("alert.broke")


async def look(database: Database, config: Config) -> None:
    """Compare what is wrong with what is known, and note what is to be said of it.

    What is said and that it is said are one transaction: each change of state is told once.
    """
    rules = config.alerts
    pace = Pace(timedelta(seconds=rules.after), timedelta(seconds=rules.summary))
    everybody = list(channels(rules))
    async with database.transaction() as db:
        if not await alerts.alone(db):
            return
        wrong = {t.key: t for t in await alerts.troubles(db, set(config.accounts), lag=rules.lag)}
        known = await alerts.living(db)
        for key, trouble in wrong.items():
            alert = known.get(key) or await alerts.begin(db, trouble)
            await alerts.update(db, trouble)
            if said := word(alert, trouble, now(), pace):
                await alerts.say(db, key, said, everybody)
        for key in known.keys() - wrong.keys():
            if over := word(known[key], None, now(), pace):
                await alerts.say(db, key, over, everybody)
            else:
                await alerts.forget(db, key)


async def tell(database: Database, told: Mapping[str, Channel]) -> int:
    """Carry every message that is due; how many were taken.

    A message is taken, carried, and only then called sent: it may come twice, with the same
    id, and never not at all.
    """
    count = 0
    while True:
        async with database.transaction() as db:
            message = await alerts.take(db, told.keys())
        if message is None:
            return count
        count += 1
        error = await _carry(told[message["channel"]], message)
        async with database.transaction() as db:
            if error is None:
                await alerts.sent(db, message["id"])
                continue
            moment = now()
            again = retry_at(message["attempts"], moment, cap=_LONGEST) - moment
            await alerts.unsent(db, message["id"], error, again)
            channel, attempts = message["channel"], message["attempts"] + 1
            log.warning("alert.untold", channel=channel, attempts=attempts, reason=error)


async def _carry(channel: Channel, message: Mapping[str, Any]) -> str | None:
    """Why it could not be carried; None if it was."""
    try:
        await channel.tell(message["id"], message["content"])
    except SyncError as error:
        return error.reason
    return None


async def try_out(config: Config) -> dict[str, str | None]:
    """Tell every channel that this is a test: why each did not take it, or None."""
    content = {
        "word": "test",
        "kind": "test",
        "account": None,
        "summary": "this is a test of the alerts",
        "count": 1,
        "at": now().isoformat(),
    }
    id = int(now().timestamp() * 1000)
    return {
        name: await _carry(channel, {"id": id, "content": content})
        for name, channel in channels(config.alerts, config.private_hosts).items()
    }
