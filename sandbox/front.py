"""The front desk: one port, a path prefix per vendor, faults, the call log, the controls."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any
from urllib.parse import parse_qs

from sandbox.calls import CallLog, Entry, is_write
from sandbox.faults import Fault, Faults
from sandbox.webhooks import Sender
from sandbox.wire import NOBODY, PERSON, Answer, Call, Routes, Vendor, now

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

AS_PERSON = "/_sandbox/as-person"


@dataclass
class Front:
    """An ASGI application. `dirty` is set whenever there is something new to keep."""

    vendors: Mapping[str, Vendor]
    senders: Mapping[str, Sender]
    controls: Routes
    faults: Faults = field(default_factory=Faults)
    log: CallLog = field(default_factory=CallLog)
    dirty: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = await self._answer(scope, await _body(receive))
        if answer is None:
            await _hang_up(send)
            return
        await _send(send, answer)

    async def _answer(self, scope: Scope, body: bytes) -> Answer | None:
        """The answer to a request; None to drop the connection."""
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
        person = path.startswith(AS_PERSON + "/")
        path = path.removeprefix(AS_PERSON) if person else path
        _, name, *rest = path.split("/", 2)
        call = Call(
            method=scope["method"],
            path="/" + "".join(rest),
            query=parse_qs(scope["query_string"].decode(), keep_blank_values=True),
            headers={k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]},
            body=body,
            at=now(),
            actor=PERSON if person else NOBODY,
        )
        if vendor := self.vendors.get(name):
            return await self._ask(vendor, call)
        return self._control(call, path, scope)

    async def _ask(self, vendor: Vendor, call: Call) -> Answer | None:
        started = perf_counter()
        person = call.actor.is_person
        fault = None
        if not person:
            fault = self.faults.strike(vendor.name, call.method, call.path, call.at)
        if fault and fault.kind == "latency":
            await asyncio.sleep(fault.seconds)
            call = replace(call, at=now())  # what is written late is dated late
        answer = _spoiled(fault, lambda: vendor.answer(call))
        written = vendor.drain()
        if written:
            self.dirty.set()
        entry = Entry(
            at=call.at,
            vendor=vendor.name,
            method=call.method,
            path=call.path,
            status=answer.status if answer else 0,
            write=is_write(call.method, call.path),
            rows=len(written),
            person=person,
            ms=round((perf_counter() - started) * 1000, 2),
        )
        self.log.add(entry, written)
        return answer

    def senders_of(self, vendor: str) -> list[Sender]:
        """The queues of a vendor, which may have several: `salesforce`, `salesforce.outbound`."""
        own = (vendor, f"{vendor}.")
        return [s for name, s in self.senders.items() if name == own[0] or name.startswith(own[1])]

    async def watch(self, vendor: Vendor) -> None:
        """Let a CRM do what it does by itself. Nobody's call pays for it."""
        async for _ in vendor.later.run():
            if vendor.drain():
                self.dirty.set()

    def _control(self, call: Call, path: str, scope: Scope) -> Answer:
        if scope["client"] and scope["client"][0] not in ("127.0.0.1", "::1"):
            return Answer(403, {"error": "the controls answer this machine only"})
        try:
            route, values = self.controls.find(call.method, path)
            if route is None:
                return Answer(405, {"error": "method not allowed"})
            return route.handler(self, call, **values)
        except LookupError:
            return Answer(404, {"error": f"nothing at {path}"})
        except (ValueError, TypeError, KeyError) as error:
            return Answer(400, {"error": str(error)})


def _spoiled(fault: Fault | None, ask: Callable[[], Answer]) -> Answer | None:
    """The vendor's answer, unless a fault says otherwise."""
    if fault and fault.kind in ("drop_before", "outage"):
        return None
    answer = (fault.answer() if fault else None) or ask()
    if fault and fault.kind == "drop_after_commit":
        return None
    return answer


async def _body(receive: Receive) -> bytes:
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _send(send: Send, answer: Answer) -> None:
    content = answer.content()
    headers = {"content-type": "application/json", **answer.headers}
    if answer.status != 204:
        headers["content-length"] = str(len(content))
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


async def _hang_up(send: Send) -> None:
    """Cut the connection without a word. ASGI has no word for it, so ask uvicorn's cycle."""
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
    transport.abort()
    await asyncio.sleep(0)
