"""Discovery, handlers and dispatch; the example of docs/handlers.md is loaded and run."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
from pydantic import SecretStr

from app.domain.values import Change, Event, Ref
from app.errors import ConfigError, TransientError, UnsupportedEventError
from app.sdk import registry as registry_module
from app.sdk.connector import Account
from app.sdk.handler import Context, Wishes
from app.sdk.registry import Registry, Verdict, load_manifest

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEAD, OTHER = Ref("acme", "lead", "lead_1"), Ref("acme", "lead", "lead_2")


def account(connector="close", **more) -> Account:
    return Account(
        **{
            "name": "acme",
            "connector": connector,
            "base_url": "",
            "credentials": {"api_key": SecretStr("api_x")},
            **more,
        }
    )


def event(type: str, **more) -> Event:
    return Event(**{"key": "k", "type": type, "at": NOON, "ref": LEAD, **more})


def load(folder: Path, text: str) -> Registry:
    (folder / "own.py").write_text("from app.sdk import on\n" + dedent(text))
    return Registry.load(["own.py"], folder=folder)


async def ask(registry: Registry, what: Event):
    return await registry.dispatch(what, Context(registry.connect(account())))


# ---------------------------------------------------------------------------- connectors


def test_the_connectors_are_found():
    registry = Registry.load()
    assert {"close", "hubspot"} <= set(registry.connectors)
    with pytest.raises(ConfigError, match="did you mean 'hubspot'"):
        registry.connector("hubspott")
    with pytest.raises(TypeError):
        registry.connectors["x"] = None  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("name: close", "nam: close"), "close/manifest.yaml: name: Field required"),
        (("close-v1", "close-v2"), "did you mean 'close-v1'"),
        (("lead.created: company", "lead.created: compny"), "did you mean 'company'"),
        (("- lead_merge.created", "- lead.created"), "is also in events"),
        (("calls: 20", "calls: many"), "limits.default.calls"),
        (("name: close", "name: [close"), "close/manifest.yaml: "),
    ],
)
def test_a_wrong_manifest_is_named_by_file_and_key(tmp_path, change, words):
    text = (ROOT / "app/connectors/close/manifest.yaml").read_text()
    assert change[0] in text
    file = tmp_path / "close" / "manifest.yaml"
    file.parent.mkdir()
    file.write_text(text.replace(*change))
    with pytest.raises(ConfigError) as caught:
        load_manifest(file)
    assert words in str(caught.value)


def test_missing_credentials_are_named():
    registry = Registry.load()
    for connector in registry.connectors:
        with pytest.raises(ConfigError, match="acme: credentials need"):
            registry.connect(account(connector, credentials={}))
        half = {name: SecretStr("x") for name in ("client_id", "client_secret", "refresh_token")}
        with pytest.raises(ConfigError, match="keep"):
            registry.connect(account(connector, credentials=half))


def test_connectors_of_one_account_share_a_quota():
    registry = Registry.load()
    one, two = registry.connect(account()), registry.connect(account())
    other = registry.connect(account(name="other"))
    assert one.client.quota is two.client.quota
    assert one.client.quota is not other.client.quota
    assert one.client.base_url == "https://api.close.com/api/v1"


# ------------------------------------------------------------------------------ dispatch


async def test_the_house_does_the_ordinary_thing():
    registry = Registry.load()
    changed = await ask(registry, event("lead.updated"))
    assert changed.answer is Verdict.HANDLED
    assert changed.wishes == Wishes(marks=(LEAD,))
    gone = await ask(registry, event("lead.deleted", change=Change.GONE))
    assert gone.wishes == Wishes(gone=(LEAD,))
    merged = event("lead.merged", change=Change.MERGED, survivor=OTHER)
    assert (await ask(registry, merged)).wishes == Wishes((OTHER,), ((LEAD, OTHER),))
    for change in Change:
        nothing = event("lead.updated", ref=None, change=change)
        assert (await ask(registry, nothing)).wishes == Wishes()


async def test_an_event_gets_one_of_three_answers():
    registry = Registry.load()
    ignored = await ask(registry, event("task.incoming_email.created"))
    assert (ignored.answer, ignored.wishes) == (Verdict.IGNORED, Wishes())
    assert (
        registry.answer(registry.connector("close").manifest, "task.incoming_email.created")
        is Verdict.IGNORED
    )
    assert registry.answer(registry.connector("close").manifest, "lead.updated") is Verdict.HANDLED
    with pytest.raises(UnsupportedEventError, match=r"lead\.painted"):
        await ask(registry, event("lead.painted"))
    with pytest.raises(UnsupportedEventError):
        registry.answer(registry.connector("close").manifest, "lead.painted")


async def test_a_users_handler_adds_to_the_house(tmp_path):
    registry = load(
        tmp_path,
        """
        @on("close", "lead.updated")
        @on("close", "task.incoming_email.created")
        async def more(event, ctx):
            ctx.mark(ctx.connector.ref("person", "cont_1"))
        """,
    )
    person = Ref("acme", "contact", "cont_1")
    assert (await ask(registry, event("lead.updated"))).wishes.marks == (LEAD, person)
    assert (await ask(registry, event("lead.created"))).wishes.marks == (LEAD,)
    # An event that the manifest ignores is handled once somebody asks for it, by them alone.
    found = await ask(registry, event("task.incoming_email.created"))
    assert (found.answer, found.wishes.marks) == (Verdict.HANDLED, (person,))
    assert (
        registry.answer(registry.connector("close").manifest, "task.incoming_email.created")
        is Verdict.HANDLED
    )


async def test_a_users_handler_may_stand_instead_of_the_house(tmp_path):
    registry = load(
        tmp_path,
        """
        @on("close", "lead.merged", instead=True)
        async def mine(event, ctx):
            ctx.relink(event.ref, to="lead_9")
        """,
    )
    merged = event("lead.merged", change=Change.MERGED, survivor=OTHER)
    assert (await ask(registry, merged)).wishes == Wishes(
        relinks=((LEAD, Ref("acme", "lead", "lead_9")),)
    )


async def test_skip_outweighs_every_other_wish(tmp_path):
    registry = load(
        tmp_path,
        """
        @on("close", "lead.updated")
        async def no(event, ctx):
            ctx.skip("not today")
            ctx.gone(event.ref)
        """,
    )
    assert (await ask(registry, event("lead.updated"))).wishes == Wishes(skipped="not today")


async def test_a_slow_handler_is_stopped_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(registry_module, "TIME_LIMIT", 0.02)
    registry = load(
        tmp_path,
        """
        import asyncio
        @on("close", "lead.updated")
        async def slow(event, ctx):
            await asyncio.sleep(5)
        @on("close", "lead.created")
        async def own(event, ctx):
            raise TimeoutError("of my own")
        """,
    )
    with pytest.raises(TransientError, match="slow took longer"):
        await ask(registry, event("lead.updated"))
    with pytest.raises(TimeoutError, match="of my own"):
        await ask(registry, event("lead.created"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('@on("clos", "lead.updated")\nasync def f(e, c): ...', "did you mean 'close'"),
        ('@on("close", "lead.update")\nasync def f(e, c): ...', "did you mean 'lead.updated'"),
        ('@on("close", "lead.updated")\ndef f(e, c): ...', "a handler is an `async def`"),
        (
            '@on("close", "lead.updated")\n@on("close", "lead.updated")\nasync def f(e, c): ...',
            "registered twice",
        ),
        (
            '@on("close", "lead.updated", instead=True)\nasync def f(e, c): ...\n'
            '@on("close", "lead.updated", instead=True)\nasync def g(e, c): ...',
            "both want to replace",
        ),
        ("import nothing_like_that", "handlers: own.py: ModuleNotFoundError"),
        ("def f(:", "handlers: own.py: SyntaxError"),
    ],
)
def test_a_handler_that_cannot_work_stops_the_start(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert words in str(caught.value)


def test_a_file_that_is_missing_or_named_twice_stops_the_start(tmp_path):
    for name in ("missing.py", "no.such.module"):
        with pytest.raises(ConfigError, match=f"handlers: {name}"):
            Registry.load([name], folder=tmp_path)
    (tmp_path / "own.py").write_text(
        'from app.sdk import on\n@on("close", "lead.updated")\nasync def f(e, c): ...\n'
    )
    twice = ["own.py", str(tmp_path / "own.py")]
    with pytest.raises(ConfigError, match="twice"):
        Registry.load(twice, folder=tmp_path)


def test_a_second_name_in_one_module_is_no_second_handler(tmp_path):
    load(
        tmp_path,
        """
        @on("close", "lead.updated")
        async def f(event, ctx): ...
        g = f
        """,
    )


async def test_the_example_of_the_documentation_works(tmp_path):
    text = (ROOT / "docs/handlers.md").read_text()
    found = re.search(r"<!-- example: (\S+) -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found
    (tmp_path / found[1]).write_text(found[2])
    registry = Registry.load([found[1]], folder=tmp_path)
    named = event("lead.updated", data={"data": {"name": "[test] Acme"}})
    assert (await ask(registry, named)).wishes == Wishes(skipped="a test lead")
    usual = replace(named, data={"data": {"name": "Acme"}})
    assert (await ask(registry, usual)).wishes == Wishes(marks=(LEAD,))
    note = event("activity.note.created", ref=None, data={"lead_id": "lead_2"})
    assert (await ask(registry, note)).wishes == Wishes(marks=(OTHER,))
    merged = event("lead.merged", change=Change.MERGED, data={"destination_id": "lead_2"})
    assert (await ask(registry, merged)).wishes == Wishes(relinks=((LEAD, OTHER),))


async def test_reading_goes_through_the_connector():
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v1/lead/lead_1/"
        return httpx.Response(200, json={"id": "lead_1", "name": "Acme"})

    connector = Registry.load().connect(account(), transport=httpx.MockTransport(answer))
    ctx = Context(connector)
    seen = await ctx.read(LEAD)
    assert (seen.ref, seen.raw) == (LEAD, {"id": "lead_1", "name": "Acme"})
    assert ctx.account == "acme"
