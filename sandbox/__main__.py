"""``python -m sandbox``: serve the local CRMs on one port until told to stop."""

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import perf_counter

import orjson
import uvicorn

from sandbox.close.org import Close, CloseSettings
from sandbox.control import controls
from sandbox.front import Front
from sandbox.hubspot.app import HubSpot, HubSpotSettings
from sandbox.salesforce.org import Salesforce, SalesforceSettings

SAVE_PAUSE = 0.5
_BUILT_IN = "default: %(default)s"


def arguments() -> argparse.ArgumentParser:
    """The command line; every credential has a built-in default."""
    close, hubspot, salesforce = CloseSettings(), HubSpotSettings(), SalesforceSettings()
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        description="Local CRMs.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8100)
    add("--state", type=Path, metavar="FILE", help="keep all data in this file")
    add("--no-quota", action="store_true", help="never answer 429")
    add("--search-lag", type=float, default=2.0, metavar="SECONDS")
    add("--retry-after", type=float, default=0.5, metavar="SECONDS", help="first webhook retry")
    add("--close-api-key", default=close.api_key, metavar="KEY", help=_BUILT_IN)
    add("--close-webhook", metavar="URL", help="subscribe this URL to all changes")
    add("--close-signature-key", default=close.signature_key, metavar="HEX", help=_BUILT_IN)
    add("--close-consolidation", type=float, default=close.consolidation, metavar="SECONDS")
    add("--close-limit", type=int, default=close.limit, metavar="N", help="calls per group and 5 s")
    add("--hubspot-token", default=hubspot.token, metavar="TOKEN", help=_BUILT_IN)
    add("--hubspot-portal-id", type=int, default=hubspot.portal_id, metavar="N")
    add("--hubspot-portal", action="append", default=[], metavar="TOKEN=ID", help="one more portal")
    add("--hubspot-target", metavar="URL", help="the app's webhook target URL")
    add("--hubspot-client-secret", default=hubspot.client_secret, metavar="SECRET", help=_BUILT_IN)
    add("--hubspot-app-id", type=int, default=hubspot.app_id, metavar="N")
    add("--hubspot-limit", type=int, default=hubspot.limit, metavar="N", help="calls per 10 s")
    add("--hubspot-daily-limit", type=int, default=hubspot.daily_limit, metavar="N")
    add("--hubspot-search-limit", type=int, default=hubspot.search_limit, metavar="N")
    add("--hubspot-merge-new-id", action="store_true", help="merges give the survivor a new id")
    add("--salesforce-client-id", default=salesforce.client_id, metavar="KEY", help=_BUILT_IN)
    add(
        "--salesforce-client-secret",
        default=salesforce.client_secret,
        metavar="SECRET",
        help=_BUILT_IN,
    )
    add("--salesforce-username", default=salesforce.username, metavar="NAME", help=_BUILT_IN)
    add("--salesforce-password", default=salesforce.password, metavar="PASSWORD", help=_BUILT_IN)
    add(
        "--salesforce-security-token",
        default=salesforce.security_token,
        metavar="TOKEN",
        help=_BUILT_IN,
    )
    add(
        "--salesforce-refresh-token",
        default=salesforce.refresh_token,
        metavar="TOKEN",
        help=_BUILT_IN,
    )
    add(
        "--salesforce-key",
        type=Path,
        default=salesforce.key,
        metavar="FILE",
        help="the key, private or public, whose JWTs are taken; default: %(default)s",
    )
    add("--salesforce-external-id", default=salesforce.external_id, metavar="FIELD", help=_BUILT_IN)
    add("--salesforce-webhook", metavar="URL", help="where call-outs go")
    add("--salesforce-secret", default=salesforce.webhook_secret, metavar="SECRET", help=_BUILT_IN)
    add(
        "--salesforce-pubsub-port",
        type=int,
        metavar="N",
        help="serve the Pub/Sub API (gRPC) on this port; needs the extra `salesforce`",
    )
    add("--salesforce-outbound", metavar="URL", help="where Outbound Messages (SOAP) go")
    add("--salesforce-daily-limit", type=int, default=salesforce.daily_limit, metavar="N")
    return parser


def build(args: argparse.Namespace) -> Front:
    """The front with its vendors, as the arguments describe them."""
    close = CloseSettings(
        api_key=args.close_api_key,
        webhook=args.close_webhook,
        signature_key=args.close_signature_key,
        consolidation=args.close_consolidation,
        limit=0 if args.no_quota else args.close_limit,
        search_lag=args.search_lag,
        retry_after=args.retry_after,
    )
    more = tuple(
        (token, int(id)) for token, _, id in (p.partition("=") for p in args.hubspot_portal)
    )
    hubspot = HubSpotSettings(
        token=args.hubspot_token,
        portal_id=args.hubspot_portal_id,
        more_portals=more,
        target=args.hubspot_target,
        client_secret=args.hubspot_client_secret,
        app_id=args.hubspot_app_id,
        limit=0 if args.no_quota else args.hubspot_limit,
        daily_limit=args.hubspot_daily_limit,
        search_limit=0 if args.no_quota else args.hubspot_search_limit,
        search_lag=args.search_lag,
        merge_new_id=args.hubspot_merge_new_id,
        retry_after=args.retry_after,
    )
    salesforce = SalesforceSettings(
        client_id=args.salesforce_client_id,
        client_secret=args.salesforce_client_secret,
        username=args.salesforce_username,
        password=args.salesforce_password,
        security_token=args.salesforce_security_token,
        refresh_token=args.salesforce_refresh_token,
        key=args.salesforce_key,
        external_id=args.salesforce_external_id,
        webhook=args.salesforce_webhook,
        webhook_secret=args.salesforce_secret,
        outbound=args.salesforce_outbound,
        retry_after=args.retry_after,
        daily_limit=0 if args.no_quota else args.salesforce_daily_limit,
    )
    org = Salesforce(salesforce)
    vendors = (Close(close), HubSpot(hubspot), org)
    senders = {vendor.name: vendor.sender for vendor in vendors}
    senders["salesforce.outbound"] = org.outbound
    return Front({vendor.name: vendor for vendor in vendors}, senders, controls)


def load(front: Front, file: Path) -> None:
    """Continue with what the file keeps, if it exists."""
    if not file.exists():
        return
    kept = orjson.loads(file.read_bytes())
    for name, vendor in front.vendors.items():
        if name in kept["vendors"]:  # a home may be older than a CRM
            vendor.load(kept["vendors"][name])
    for name, sender in front.senders.items():
        sender.load(kept["webhooks"].get(name, []))


def save(front: Front, file: Path) -> None:
    """Replace the file with the present state, all or nothing."""
    state = {
        "vendors": {name: vendor.dump() for name, vendor in front.vendors.items()},
        "webhooks": {name: sender.dump() for name, sender in front.senders.items()},
    }
    fresh = file.with_suffix(file.suffix + ".new")
    fresh.write_bytes(orjson.dumps(state))
    os.replace(fresh, file)


async def keep(front: Front, file: Path) -> None:
    """Save shortly after each change; rarely enough that a large state does not slow us."""
    took = 0.0
    while True:
        await front.dirty.wait()
        await asyncio.sleep(max(SAVE_PAUSE, 10 * took))
        front.dirty.clear()
        started = perf_counter()
        save(front, file)
        took = perf_counter() - started


class Server(uvicorn.Server):
    """Stops on SIGTERM and SIGINT with exit code 0, and says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(None)
        if self.started:
            print(self._ready, flush=True)

    def _stop(self) -> None:
        self.should_exit = True


@contextlib.asynccontextmanager
async def pubsub(args: argparse.Namespace, front: Front) -> AsyncIterator[None]:
    """Salesforce's Pub/Sub API beside the rest, if a port is given for it."""
    if args.salesforce_pubsub_port is None:
        yield
        return
    from sandbox.salesforce.pubsub import PubSub

    org = front.vendors["salesforce"]
    assert isinstance(org, Salesforce)
    server = PubSub(org, front.faults)
    async with server.serving(f"{args.host}:{args.salesforce_pubsub_port}"):
        yield


async def serve(args: argparse.Namespace) -> None:
    """Serve until stopped; deliver webhooks and keep the state meanwhile."""
    front = build(args)
    if args.state:
        load(front, args.state)
    config = uvicorn.Config(
        front,
        host=args.host,
        port=args.port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    base = f"http://{args.host}:{args.port}"
    places = f"Close {base}/close/api/v1, HubSpot {base}/hubspot, Salesforce {base}/salesforce"
    ready = f"sandbox ready: {base} ({places})"
    tasks = [asyncio.create_task(sender.run()) for sender in front.senders.values()]
    tasks += [asyncio.create_task(front.watch(vendor)) for vendor in front.vendors.values()]
    if args.state:
        tasks.append(asyncio.create_task(keep(front, args.state)))
    async with pubsub(args, front):
        await Server(config, ready).serve()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if args.state:
        save(front, args.state)


if __name__ == "__main__":
    asyncio.run(serve(arguments().parse_args()))
