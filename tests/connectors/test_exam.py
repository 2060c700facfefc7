"""The exam: every connector that the registry finds takes it."""

import base64
import contextlib
import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
import stamina
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from app.domain.values import Change, Delivery, Event, Key, Op, Ref
from app.errors import (
    AccountError,
    BadPayloadError,
    BadSignatureError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    StaleError,
    TransientError,
    UnsupportedEventError,
)
from tests.connectors.conftest import (
    CANDIDATES,
    FOLDER,
    NOON,
    REGISTRY,
    Candidate,
    Control,
    delivery,
    make,
    write,
)

#: (connector, test) -> why it need not pass. This table only shrinks.
WAIVERS: dict[tuple[str, str], str] = {}

SECRET = "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"


def test_every_connector_takes_the_exam():
    assert set(CANDIDATES) == set(REGISTRY.connectors)


def test_every_waiver_has_a_reason_and_a_connector():
    assert all(name in CANDIDATES and reason for (name, _), reason in WAIVERS.items())


@pytest.fixture(params=sorted(CANDIDATES))
def it(request: pytest.FixtureRequest) -> Candidate:
    name = request.param
    if reason := WAIVERS.get((name, request.function.__name__.removeprefix("test_"))):
        pytest.xfail(reason)
    return CANDIDATES[name]


# -------------------------------------------------------------------------- the folder


def test_the_folder_is_complete(it: Candidate):
    have = {path.name for path in (FOLDER / it.name).iterdir()}
    assert {"manifest.yaml", "mapping.yaml", "connector.py", "README.md", "examples"} <= have
    assert set(it.properties()) == {promise.type for promise in it.manifest.entities.values()}


def test_nothing_is_both_handled_and_ignored(it: Candidate):
    webhook = it.manifest.webhook
    assert not set(webhook.events) & webhook.ignores
    with pytest.raises(UnsupportedEventError):
        it.manifest.route("no.such.event")


def test_every_declared_event_has_an_example_that_reads_as_such(it: Candidate):
    examples = it.examples()
    assert set(examples) == set(it.manifest.webhook.events)
    for name, body in examples.items():
        events = it.kind.parse(delivery(body), it.account())
        assert {event.type for event in events} == {name}
        for event in events:
            assert event.at.tzinfo is not None
            assert event.ref is not None
            assert event.ref.account == "acme"
            entity = it.manifest.entity_of(event.ref.type)
            assert entity == it.manifest.webhook.events[name] or "ssociation" in name
            if event.change is Change.MERGED:
                assert event.survivor is not None
                assert event.survivor != event.ref
            if event.snapshot is not None:
                assert event.snapshot.ref == event.ref


def test_examples_have_no_real_people_in_them(it: Candidate):
    for body in it.examples().values():
        for word in body.split():
            assert b"@" not in word or b"@acme.example" in word


# ------------------------------------------------------------------------- signatures


def signed(scheme: str, body: bytes, now=NOON) -> dict[str, str]:
    """The headers of a genuine delivery."""
    seconds, text = str(int(now.timestamp())), SECRET.encode()
    match scheme:
        case "close-v1":
            mac = hmac.new(bytes.fromhex(SECRET), seconds.encode() + body, hashlib.sha256)
            return {"close-sig-hash": mac.hexdigest(), "close-sig-timestamp": seconds}
        case "close-sig":
            return {"close-sig": hmac.new(text, body, hashlib.sha256).hexdigest()}
        case "hubspot-v3":
            message = b"POSThttps://hooks.example/webhooks/acme" + body + f"{seconds}000".encode()
            mac = hmac.new(text, message, hashlib.sha256)
            return {
                "x-hubspot-signature-v3": base64.b64encode(mac.digest()).decode(),
                "x-hubspot-request-timestamp": f"{seconds}000",
            }
        case "standard-webhooks":
            mac = hmac.new(text, f"msg_1.{seconds}.".encode() + body, hashlib.sha256)
            return {
                "webhook-id": "msg_1",
                "webhook-timestamp": seconds,
                "webhook-signature": f"v1,{base64.b64encode(mac.digest()).decode()}",
            }
    raise AssertionError(f"say here how {scheme} signs")


def test_only_a_genuine_delivery_is_accepted(it: Candidate):
    account, kind = it.account(), it.kind

    def verify(what: Delivery, *secrets: str, now=NOON) -> None:
        kept = [SecretStr(secret) for secret in secrets]
        kind.verify(what, account, kept, public_url="https://hooks.example/", now=now)

    body = next(iter(it.examples().values()))
    late = NOON + timedelta(seconds=it.manifest.webhook.tolerance + 1)
    for scheme in it.manifest.signature:
        true = delivery(body, signed(scheme, body))
        verify(true, SECRET)
        verify(true, "another", SECRET)
        forged = [(true.with_body(bytes([body[0] ^ 1]) + body[1:]), SECRET, NOON)]
        forged += [(true.with_body(body + b"\n"), SECRET, NOON)]
        forged += [(true, secret, NOON) for secret in ("", "another", SECRET[:-2] + "00")]
        for name in true.headers:
            rest = {k: v for k, v in true.headers.items() if k != name}
            forged.append((replace(true, headers=rest), SECRET, NOON))
        if any("timestamp" in name for name in true.headers):
            forged.append((true, SECRET, late))
        for what, secret, now in forged:
            with pytest.raises(BadSignatureError) as caught:
                verify(what, secret, now=now)
            assert SECRET not in str(caught.value)
        with pytest.raises(BadSignatureError):
            verify(true)


# ------------------------------------------------------------------------------ parsing

JUNK = [b"", b"null", b"{}", b"[[]]", b"[1]", b"0", b'"x"', b"\xff\xfe", b'{"event":[]}', b"[{}]"]


def test_junk_gives_a_named_error(it: Candidate):
    for body in [*JUNK, b"{" * 5000, next(iter(it.examples().values()))[:-20]]:
        with pytest.raises(BadPayloadError) as caught:
            it.kind.parse(delivery(body), it.account())
        assert caught.value.reason


@settings(deadline=None, max_examples=200)
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(CANDIDATES))
def test_a_damaged_example_is_read_or_named(name: str, data: st.DataObject):
    it = CANDIDATES[name]
    tree = orjson.loads(data.draw(st.sampled_from(sorted(it.examples().values()))))
    spots: list[tuple[dict, str]] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            spots.extend((value, key) for key in value)
        for inner in value.values() if isinstance(value, dict) else value:  # type: ignore[attr-defined]
            if isinstance(inner, dict | list):
                walk(inner)

    walk(tree)
    holder, key = data.draw(st.sampled_from(spots))
    junk = st.sampled_from(
        [None, 0, -1, True, 1.5, "", "x", [], [1], {}, {"a": 1}, 10**18, "9" * 40]
    )
    holder[key] = data.draw(junk)
    events: list[Event] = []
    with contextlib.suppress(BadPayloadError):
        events = it.kind.parse(delivery(orjson.dumps(tree)), it.account())
    assert all(isinstance(event.key, str) for event in events)


def test_the_same_delivery_has_the_same_keys(it: Candidate):
    keys: dict[str, str] = {}
    for name, body in it.examples().items():
        first = [event.key for event in it.kind.parse(delivery(body), it.account())]
        assert len(set(first)) == len(first)
        spaced = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2)
        again = spaced.replace(b'"attemptNumber": 0', b'"attemptNumber": 3')
        assert [e.key for e in it.kind.parse(delivery(again), it.account())] == first
        for key in first:
            assert keys.setdefault(key, name) == name


# ------------------------------------------------------------------------------ answers


@pytest.fixture
def quick_retries():
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


LATER = {"retry-after": "60"}
KINDS = {
    400: RejectedError,
    401: AccountError,
    402: AccountError,
    403: AccountError,
    404: NotFoundError,
    409: StaleError,
    422: RejectedError,
    423: TransientError,
    429: RateLimitedError,
    500: TransientError,
    503: TransientError,
}


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("status", sorted(KINDS))
async def test_every_status_has_its_class_and_no_secret_is_told(it: Candidate, status: int):
    def answer(request: httpx.Request) -> httpx.Response:
        echo = f"no {' '.join(it.secrets)} {request.headers['authorization']}"
        body = {"message": echo, "error": echo, "errors": [echo], "field-errors": {"name": echo}}
        return httpx.Response(status, json=body, headers=LATER)

    connector = it.connect(transport=it.transport(answer))
    with structlog.testing.capture_logs() as lines, pytest.raises(KINDS[status]) as caught:
        await connector.client.call("GET", "/x/")
    outcomes = []
    if status not in (401, 402, 403, 429):
        wanted = write(connector, "company", it.named["company"]("Acme"))
        outcomes = await connector.write([wanted])
        assert [outcome.error is not None for outcome in outcomes] == [True]
    findings = await it.connect(transport=it.transport(answer)).check()
    assert any(not finding.ok and finding.remedy for finding in findings)
    for text in (str(caught.value), repr(lines), repr(outcomes), repr(findings)):
        for secret in it.secrets:
            assert secret not in text
            assert base64.b64encode(f"{secret}:".encode()).decode() not in text


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, None), (403, None), (401, AccountError), (402, AccountError), (500, TransientError)],
)
async def test_one_call_tells_whether_the_credential_signs_us_in(
    it: Candidate, status: int, kind: type[Exception] | None
):
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return httpx.Response(status, json={})

    connector = it.connect(transport=it.transport(answer))
    with pytest.raises(kind) if kind else contextlib.nullcontext():
        await connector.greet()
    assert set(asked) == {"GET"}
    # A session may have ended: it is renewed, and asked once more.
    renewed = bool(it.session) and status == 401
    assert len(asked) == (2 if renewed else 1)


async def test_a_working_credential_is_let_in(it: Candidate, control: Control):
    connector = it.connect(control.base)
    await connector.greet()
    await connector.aclose()


@pytest.mark.usefixtures("quick_retries")
async def test_a_look_up_that_fails_is_never_not_found(it: Candidate):
    for status in (400, 403, 404, 429, 500):
        refusal = httpx.Response(status, json={}, headers=LATER)
        transport = it.transport(lambda _, refusal=refusal: refusal)  # type: ignore[misc]
        connector = it.connect(transport=transport)
        for entity, promise in it.manifest.entities.items():
            for kind in set(promise.keys) - {"external_id"}:
                key = Key(kind, "jane@acme.example" if kind == "email" else "acme.example")
                with pytest.raises((RejectedError, AccountError, TransientError)):
                    await connector.find(entity, [key])


# ------------------------------------------------------------------- against the sandbox


async def relatives(connector, it: Candidate, entity: str) -> dict[str, Any]:
    """The relations without which this record cannot be made."""
    parents = it.manifest.entities[entity].parents
    return {name: [await make(connector, name, it.named[name]("Parent"))] for name in parents}


async def test_what_was_written_is_read_once_per_ref(it: Candidate, control: Control):
    connector = it.connect(control.base)
    for entity in it.writes("create"):
        promise, fields = it.manifest.entities[entity], it.named[entity]
        parents = await relatives(connector, it, entity)
        refs = [await make(connector, entity, fields(name), **parents) for name in ("One", "Two")]
        nobody = Ref("acme", promise.type, it.nobody(promise.type))
        seen = await connector.read([*refs, nobody])
        assert {one.ref: one.raw is None for one in seen} == {
            refs[0]: False,
            refs[1]: False,
            nobody: True,
        }
        assert len(seen) == 3
        assert not any(one.gone for one in seen)
        for one in seen[:2]:
            assert one.version is not None
            for name, wanted in parents.items():
                assert one.relations[name] == tuple(wanted)
    await connector.aclose()


async def test_what_was_deleted_is_gone(it: Candidate, control: Control):
    connector = it.connect(control.base)
    for entity in it.writes("delete"):
        ref = await make(
            connector, entity, it.named[entity]("Old"), **await relatives(connector, it, entity)
        )
        gone = write(connector, entity, {}, ref=ref, op=Op.DELETE)
        (outcome,) = await connector.write([gone])
        assert outcome.error is None
        (seen,) = await connector.read([ref])
        assert (seen.gone, seen.raw, seen.ref) == (True, None, ref)
    await connector.aclose()


async def test_a_bad_row_is_exactly_one_failure(it: Candidate, control: Control):
    connector = it.connect(control.base)
    for entity, fields in it.named.items():
        parents = await relatives(connector, it, entity)
        batch = [write(connector, entity, fields(name), **parents) for name in ("A1", "B2", "C3")]
        bad = {name: it.refused[name] for name in it.refused if name in batch[1].fields}
        batch[1] = replace(batch[1], fields={**batch[1].fields, **(bad or it.refused)})
        outcomes = await connector.write(batch)
        assert [outcome.write for outcome in outcomes] == batch
        assert [outcome.error is None for outcome in outcomes] == [True, False, True]
        error = outcomes[1].error
        assert isinstance(error, RejectedError)
        assert error.reason
        assert error.field is not None
        for outcome in (outcomes[0], outcomes[2]):
            assert outcome.stored is not None
            assert outcome.stored.ref == outcome.ref
        if entity not in it.writes("update"):
            continue
        refs = [outcomes[0].ref, outcomes[2].ref]
        changed = [
            write(connector, entity, fields(f"X{n}"), ref=ref)
            for n, ref in enumerate(refs)
            if ref is not None
        ]
        nobody = Ref("acme", batch[0].type, it.nobody(batch[0].type))
        changed.insert(1, replace(changed[0], trace="t", ref=nobody))
        fates = await connector.write(changed)
        assert [fate.error is None for fate in fates] == [True, False, True]
        assert isinstance(fates[1].error, NotFoundError)
    await connector.aclose()


async def test_keys_are_found_exactly(it: Candidate, control: Control):
    connector = it.connect(control.base)
    for entity, promise in it.manifest.entities.items():
        for kind in set(promise.keys) - {"external_id"}:
            wanted = "jane@people.example" if kind == "email" else "jane.example"
            ref = await make(connector, entity, it.named[entity]("Jane"))
            if kind == "domain":
                await make(connector, entity, it.named[entity]("Mary.jane"))
            nobody = Key(kind, f"nobody.{wanted}")
            found = await connector.find(entity, [Key(kind, wanted), nobody])
            assert {key: [one.ref for one in seen] for key, seen in found.items()} == {
                Key(kind, wanted): [ref],
                nobody: [],
            }
    await connector.aclose()


async def test_a_scan_killed_anywhere_and_resumed_visits_everything(
    it: Candidate, control: Control
):
    number = 230
    wanted = {it.companies: number}
    await control.call("POST", "/_sandbox/seed", json={it.name: wanted})
    for since in (None, NOON - timedelta(days=1)):
        seen: set[str] = set()
        cursor, pages = None, 0
        while True:
            # Another process, with nothing but the cursor.
            connector = it.connect(control.base)
            lost = await connector.scan("company", cursor, since)
            page = await connector.scan("company", cursor, since)
            assert {o.ref for o in lost.observations} == {o.ref for o in page.observations}
            await connector.aclose()
            seen |= {o.ref.id for o in page.observations}
            assert all(o.raw for o in page.observations)
            pages += 1
            cursor = page.cursor
            if cursor is None:
                break
        assert len(seen) == number
        assert pages < 8


async def test_a_cursor_of_another_kind_is_refused(it: Candidate):
    connector = it.connect(transport=it.transport(lambda _: httpx.Response(500)))
    for text in ("", "x", "[]", "{}" if it.name == "hubspot" else '{"skip":"x"}', "1"):
        with pytest.raises(RejectedError):
            await connector.scan("company", text, None)


async def test_an_account_can_be_looked_over(it: Candidate, control: Control):
    connector = it.connect(control.base)
    findings = await connector.check()
    assert findings
    assert findings[0].ok
    directory = await connector.directory()
    kinds = {stage.kind for pipeline in directory.pipelines for stage in pipeline.stages}
    assert kinds == {"open", "won", "lost"}
    kinds = {stage.kind for pipeline in directory.tickets for stage in pipeline.stages}
    assert kinds == ({"open", "closed"} if "ticket" in it.manifest.entities else set())
    assert "grace@syncline.example" in directory.owners.values()
    wrong = {name: SecretStr("wrong") for name in it.credentials}
    account = replace(it.account(control.base), credentials=wrong)
    stranger = REGISTRY.connect(account)
    findings = await stranger.check()
    assert [finding.ok for finding in findings] == [False]
    assert findings[0].remedy
    await stranger.aclose()
    await connector.aclose()


async def test_what_a_lost_create_left_behind_is_found(it: Candidate, control: Control):
    connector = it.connect(control.base)
    for entity, fields in it.named.items():
        parents = await relatives(connector, it, entity)
        wanted = write(connector, entity, fields("Lost"), **parents)
        before = NOON.now(NOON.tzinfo)
        assert await connector.probe(wanted, before) == []
        await control.fault(
            vendor=it.name,
            fault="drop_after_commit",
            times=1,
            match={"method": "POST", "path": it.creates},
        )
        (outcome,) = await connector.write([wanted])
        assert type(outcome.error).__name__ == "UnknownOutcomeError"
        (found,) = await connector.probe(wanted, before)
        assert found.raw is not None
    await connector.aclose()
