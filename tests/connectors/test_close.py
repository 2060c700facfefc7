"""What is peculiar to Close."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from app.connectors.close import connector as module
from app.connectors.close.dialect import CloseDialect
from app.connectors.close.shapes import body_of
from app.domain.values import Change, Event, Key, Op, Ref, RelationEdit
from app.errors import BadPayloadError, RejectedError
from app.sdk.client import Answer
from tests.connectors.conftest import CLOSE, NOON, Control, delivery, good, make, write

API = "/close/api/v1"


def parse(**event: Any) -> Event:
    whole = {
        "id": "ev_1",
        "date_created": "2026-01-14T09:15:02.118000",
        "object_type": "lead",
        "object_id": "lead_1",
        "action": "updated",
        **event,
    }
    (found,) = CLOSE.kind.parse(delivery(orjson.dumps({"event": whole})), CLOSE.account())
    return found


# ----------------------------------------------------------------------------- webhooks


def test_an_event_carries_its_record_and_when_each_field_was_edited():
    event = parse(
        date_updated="2026-01-14T09:16:00",
        changed_fields=["name"],
        object_type="contact",
        object_id="cont_1",
        data={"lead_id": "lead_1", "name": "Jane", "date_updated": "2026-01-14T09:15:59+00:00"},
    )
    assert event.key == "close:ev_1:2026-01-14T09:16:00"
    assert event.at.isoformat() == "2026-01-14T09:16:00+00:00"
    assert event.fields == {"name": "Jane"}
    seen = event.snapshot
    assert seen is not None
    assert seen.version is not None
    assert seen.version.isoformat() == "2026-01-14T09:15:59+00:00"
    assert not seen.partial
    assert seen.relations == {"company": (Ref("acme", "lead", "lead_1"),)}
    assert seen.field_times == {"name": event.at}


def test_a_snapshot_without_its_time_is_not_the_whole_record():
    snapshot = parse(data={"name": "Acme"}).snapshot
    assert snapshot is not None
    assert snapshot.partial


def test_a_lead_mentions_what_is_inside_it():
    seen = parse(data={"contact_ids": ["cont_1"], "opportunities": [{"id": "oppo_1"}]}).snapshot
    assert seen is not None
    assert [str(ref) for ref in seen.mentions] == [
        "acme/contact/cont_1",
        "acme/opportunity/oppo_1",
    ]


def test_a_cleared_contact_of_a_deal_is_none_and_a_missing_one_no_opinion():
    deal = {"object_type": "opportunity", "object_id": "oppo_1"}
    cleared = parse(**deal, data={"lead_id": "lead_1", "contact_id": None}).snapshot
    assert cleared is not None
    assert cleared.relations["people"] == ()
    missing = parse(**deal, data={"lead_id": "lead_1"}).snapshot
    assert missing is not None
    assert "people" not in missing.relations


def test_a_lead_that_was_merged_away_is_not_deleted():
    meta = {"merge_source_lead_id": "lead_1", "merge_destination_lead_id": "lead_2"}
    for action, object_id in (("merged", "lead_2"), ("deleted", "lead_1")):
        event = parse(action=action, object_id=object_id, data=None, meta=meta)
        assert event.change is Change.MERGED
        assert event.ref == Ref("acme", "lead", "lead_1")
        assert event.survivor == Ref("acme", "lead", "lead_2")
        assert event.data["destination_id"] == "lead_2"
    assert parse(action="deleted", data=None).change is Change.GONE


def test_what_is_missing_is_named():
    with pytest.raises(BadPayloadError, match=r"no id, object_type, date_updated"):
        CLOSE.kind.parse(delivery(b'{"event":{"action":"created"}}'), CLOSE.account())
    with pytest.raises(BadPayloadError, match="merge_source_lead_id"):
        parse(action="merged", meta={})
    with pytest.raises(BadPayloadError, match="object_id"):
        parse(object_id=None)


# ------------------------------------------------------------------------------- shapes


def test_entries_of_a_list_keep_what_else_they_hold():
    current = {
        "emails": [
            {"email": "Old@x.example", "type": "home", "is_unsubscribed": True},
            {"email": "gone@x.example", "type": "office"},
        ],
        "phones": [{"phone": "+14155550100", "type": "mobile", "country": "US"}],
        "addresses": [{"label": "business", "city": "Oslo"}, {"label": "other", "city": "Bergen"}],
    }
    body = body_of(
        {
            "emails[].email": ["new@x.example", "old@x.example"],
            "phones[].phone": ["+1 415 555-0100"],
            "addresses[]": {"city": "Paris"},
            "custom.cf_1": "x",
            "title": None,
        },
        current,
    )
    assert body == {
        "emails": [
            {"email": "new@x.example", "type": "office"},
            {"email": "old@x.example", "type": "home", "is_unsubscribed": True},
        ],
        "phones": [{"phone": "+1 415 555-0100", "type": "mobile", "country": "US"}],
        "addresses": [{"label": "business", "city": "Paris"}, {"label": "other", "city": "Bergen"}],
        "custom.cf_1": "x",
        "title": None,
    }
    assert body_of({"emails[].email": None, "addresses[]": None}, current) == {
        "emails": [],
        "addresses": [{"label": "other", "city": "Bergen"}],
    }


def test_a_day_and_a_number_are_cleared_with_null():
    body = body_of({"date_won": "", "confidence": "", "note": ""}, {})
    assert body == {"date_won": None, "confidence": None, "note": ""}


@pytest.mark.parametrize(
    ("data", "text", "field"),
    [
        ({"errors": ["a", "b"], "field-errors": {}}, "a; b", None),
        (
            {"field-errors": {"value": "Expected an integer."}},
            "value: Expected an integer.",
            "value",
        ),
        (
            {"field-errors": {"emails": {"errors": {"0": {"field-errors": {"email": "bad"}}}}}},
            "emails.0.email: bad",
            "emails",
        ),
        ({"errors": ["x"], "field-errors": {"name": ["a", "b"]}}, "name: a; name: b; x", "name"),
        ({"error": "Not found"}, "Not found", None),
        (None, "", None),
        ("<html>", "<html>", None),
    ],
)
def test_refusals_are_put_in_words(data, text, field):
    said = CloseDialect().explain(Answer(400, {}, data))
    assert (said.text, said.field) == (text, field)


def test_the_rate_limit_header_may_have_decimals():
    answer = Answer(
        429, {"ratelimit": "limit=100, remaining=50, reset=4.25", "retry-after": "5"}, None
    )
    rate = CloseDialect().rate(answer)
    assert (rate.remaining, rate.reset) == (50, 4.25)
    assert (CloseDialect().retry_at(answer, NOON) - NOON).total_seconds() == 4.25


# ----------------------------------------------------------------------- at the sandbox


@pytest_asyncio.fixture
async def lead(close) -> Ref:
    return await make(close, "company", {"name": "Acme"})


async def test_a_person_without_a_company_gets_a_lead_of_its_own(close, control: Control):
    await control.call("POST", "/_sandbox/reset")
    fields = {"name": "Jane Roe", "emails[].email": ["jane@x.example"]}
    outcome = good((await close.write([write(close, "person", fields)]))[0])
    assert outcome.stored is not None
    (container,) = outcome.stored.mentions
    assert container.type == "lead"
    assert outcome.stored.relations["company"] == (container,)
    made = [c for c in await control.calls("close") if c["method"] == "POST"]
    assert len(made) == 1
    (seen,) = await close.read([container])
    assert seen.raw is not None
    assert seen.raw["name"] == "Jane Roe"
    assert outcome.ref in seen.mentions


async def test_a_deal_takes_the_first_person_its_lead_has(close, lead):
    jane = await make(close, "person", {"name": "Jane"}, company=[lead])
    stranger = await make(close, "person", {"name": "Solo"})
    wanted = write(close, "deal", {"value": 1}, company=[lead], people=[stranger, jane])
    outcome = good((await close.write([wanted]))[0])
    assert outcome.stored is not None
    assert outcome.stored.relations["people"] == (jane,)
    assert outcome.ref is not None
    for people, expected in (((stranger,), ()), ((jane,), (jane,)), ((), ())):
        edit = write(close, "deal", {}, ref=outcome.ref, people=list(people))
        stored = good((await close.write([edit]))[0]).stored
        assert stored is not None
        assert stored.relations["people"] == expected


async def test_a_deal_without_a_lead_is_refused_in_words(close):
    (outcome,) = await close.write([write(close, "deal", {"value": 1})])
    assert isinstance(outcome.error, RejectedError)
    assert "needs a lead" in outcome.error.reason


async def test_a_contact_can_move_to_another_lead_but_not_to_none(close, lead):
    other = await make(close, "company", {"name": "Other"})
    jane = await make(close, "person", {"name": "Jane"}, company=[lead])
    moved = good((await close.write([write(close, "person", {}, ref=jane, company=[other])]))[0])
    assert moved.stored is not None
    assert moved.stored.relations["company"] == (other,)
    none = write(close, "person", {}, ref=jane)
    none.relations["company"] = RelationEdit(remove=(other,))  # type: ignore[index]
    (outcome,) = await close.write([none])
    assert isinstance(outcome.error, RejectedError)


async def test_a_lead_that_was_merged_away_is_followed(close, control: Control, lead):
    other = await make(close, "company", {"name": "Other"})
    body = {"source": lead.id, "destination": other.id}
    await control.person("POST", f"{API}/lead/merge/", json=body)
    (seen,) = await close.read([lead])
    assert (seen.ref, seen.asked, seen.gone) == (other, lead, False)


async def test_a_lead_is_merged_into_another_on_our_word(close, lead):
    other = await make(close, "company", {"name": "Other"})
    assert await close.merge(other, lead) == other
    (seen,) = await close.read([lead])
    assert (seen.ref, seen.asked) == (other, lead)


@pytest_asyncio.fixture
async def stamping(control: Control) -> AsyncIterator[Any]:
    """A connector that keeps our ids; the fields are not made yet."""
    connector = CLOSE.connect(control.base)
    connector.account = replace(connector.account, external_id="Syncline id")
    yield connector
    await connector.aclose()


async def test_our_own_id_is_prepared_stamped_and_found(stamping, control: Control):
    before = [f for f in await stamping.check() if "Syncline id" in f.check]
    assert [(f.ok, f.remedy) for f in before] == [(False, "Run `syncline accounts prepare`.")] * 3
    assert [f.detail for f in await stamping.prepare()] == ["created"] * 3
    assert [f.detail for f in await stamping.prepare()] == ["exists"] * 3
    assert all(f.ok for f in await stamping.check() if "Syncline id" in f.check)
    lead = good(
        (await stamping.write([write(stamping, "company", {"name": "A"}, external_id="c")]))[0]
    ).ref
    ada = write(stamping, "person", {"name": "Ada"}, company=[lead], external_id="p")
    bob = write(stamping, "person", {"name": "Bob"}, external_id="q")  # gets a lead of his own
    made = [good(one).ref for one in await stamping.write([ada, bob])]
    assert await stamping.find("company", [Key("external_id", "c")]) == {
        Key("external_id", "c"): await stamping.read([lead])
    }
    keys = [Key("external_id", id) for id in ("p", "q", "r")]
    found = await stamping.find("person", keys)
    assert [[one.ref for one in found[key]] for key in keys] == [[made[0]], [made[1]], []]
    stamps = (await stamping.directory()).stamps
    assert found[keys[0]][0].raw[stamps["contact"]] == "p"


async def test_of_equal_creates_whose_answers_were_lost_each_is_known_by_its_stamp(stamping):
    """The search is not asked: it lags. The lead tells what is in it, the log what was made."""
    await stamping.prepare()
    company = {"name": "Acme"}
    (one, other) = (write(stamping, "company", company, external_id=id) for id in ("c1", "c2"))
    leads = [good(made).ref for made in await stamping.write([one, other])]
    fields = {"value": 100}
    deals = [
        write(stamping, "deal", fields, company=[leads[0]], external_id=id) for id in ("d1", "d2")
    ]
    made = [good(answer).ref for answer in await stamping.write(deals)]
    lone = [write(stamping, "person", {"name": "Ada"}, external_id=id) for id in ("p1", "p2")]
    people = [good(answer).ref for answer in await stamping.write(lone)]
    since = datetime.now(UTC)
    for asked, there in zip((one, other, *deals, *lone), (*leads, *made, *people), strict=True):
        assert [seen.ref for seen in await stamping.probe(asked, since)] == [there]
    never = write(stamping, "company", company, external_id="c3")
    # Whether a stamp is that of a record which lives on in another, is not for Close to say.
    assert {seen.ref for seen in await stamping.probe(never, since)} <= {*leads}
    assert await stamping.probe(replace(never, external_id=None), since) != []


async def test_a_custom_field_that_holds_no_text_keeps_no_ids(stamping, control: Control):
    body = {"name": "Syncline id", "type": "number"}
    await control.person("POST", f"{API}/custom_field/contact/", json=body)
    (finding,) = [f for f in await stamping.prepare() if not f.ok]
    assert finding.check == "contact.Syncline id"
    assert "type number" in finding.detail
    good((await stamping.write([write(stamping, "person", {"name": "A"}, external_id="p")]))[0])


async def test_what_the_event_log_does_not_show_deleted_is_only_missing(close, control, lead):
    gone = write(close, "company", {}, ref=lead, op=Op.DELETE)
    good((await close.write([gone]))[0])
    await control.fault(vendor="close", fault="status", status=403, match={"path": "/event/"})
    (seen,) = await close.read([lead])
    assert (seen.raw, seen.gone) == (None, False)


async def test_a_search_that_matches_words_finds_only_the_very_address(close):
    wanted = await make(close, "person", {"name": "J", "emails[].email": ["Jane@acme.example"]})
    await make(close, "person", {"name": "K", "emails[].email": ["jane@acme.example.org"]})
    key = Key("email", "jane@acme.example")
    found = await close.find("person", [key])
    assert [one.ref for one in found[key]] == [wanted]


async def test_many_keys_are_asked_for_in_few_searches(close, control: Control):
    keys = [Key("email", f"p{n}@x.example") for n in range(100)]
    assert all(found == [] for found in (await close.find("person", keys)).values())
    assert len(await control.calls("close")) == 3


async def test_a_scan_goes_on_in_windows_where_close_will_not_skip(
    close, control: Control, monkeypatch
):
    monkeypatch.setattr(module, "PAGE", 20)
    await control.call(
        "POST", "/_sandbox/seed", json={"close": {"leads": 90, "opportunities_per_lead": 1}}
    )
    deep = {
        "vendor": "close",
        "fault": "status",
        "status": 400,
        "match": {"path": "/(lead|contact|opportunity)/$", "method": "GET"},
    }
    for entity in ("company", "person", "deal"):
        page = await close.scan(entity, None, None)
        await control.fault(**deep, times=1)
        seen = set()
        while True:
            seen |= {one.ref for one in page.observations}
            if page.cursor is None:
                break
            page = await close.scan(entity, page.cursor, None)
        assert len(seen) == 90


async def test_a_scan_misses_nothing_when_records_are_deleted_meanwhile(
    close, control, monkeypatch
):
    monkeypatch.setattr(module, "PAGE", 10)
    await control.call("POST", "/_sandbox/seed", json={"close": {"leads": 45}})
    page = await close.scan("company", None, None)
    first = [one.ref for one in page.observations]
    seen = set(first)
    batch = [write(close, "company", {}, ref=ref, op=Op.DELETE) for ref in first[:4]]
    assert all(outcome.error is None for outcome in await close.write(batch))
    while page.cursor:
        page = await close.scan("company", page.cursor, None)
        seen |= {one.ref for one in page.observations}
    assert len(seen) == 45


async def test_our_subscription_is_mended_and_not_doubled(close, control: Control):
    url = "https://hooks.example/webhooks/close"
    first, key = await close.subscribe(url)
    assert key is not None
    assert len(key.get_secret_value()) == 64
    assert set(first.events) == set(close.manifest.webhook.events)
    await control.person("PUT", f"{API}/webhook/{first.id}/", json={"status": "paused"})
    (paused,) = await close.subscriptions()
    assert not paused.active
    finding = next(f for f in await close.check() if f.check == "webhooks")
    assert not finding.ok
    again, _ = await close.subscribe(url)
    assert (again.id, again.active) == (first.id, True)
    assert len(await close.subscriptions()) == 1
    await close.unsubscribe(first.id)
    assert await close.subscriptions() == []


async def test_after_a_refusal_of_the_account_no_more_rows_are_sent():
    asked = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(402, json={"error": "plan limit"})

    connector = CLOSE.connect(transport=httpx.MockTransport(refuse))
    batch = [write(connector, "company", {"name": str(n)}) for n in range(25)]
    outcomes = await connector.write(batch)
    assert all(outcome.error is not None for outcome in outcomes)
    assert len(asked) <= 8


async def test_the_event_log_tells_when_a_field_was_edited(close, control: Control, lead):
    jane = await make(close, "person", {"name": "Jane", "title": "CFO"}, company=[lead])
    await control.person("PUT", f"{API}/contact/{jane.id}/", json={"title": "CEO"})
    await close.write([write(close, "person", {"name": "Jane R"}, ref=jane)])

    found = await close.edits([jane], {"title"})

    titles = found[jane]["title"]
    assert [edit.value for edit in titles] == ["CEO", "CFO"]
    assert titles[0].at > titles[1].at
    assert found[jane].keys() == {"title"}


async def test_who_left_is_known_and_can_own_nothing_new(close):
    there = await close.directory()
    mails = {there.owners[id] for id in there.retired}
    assert mails == {"barbara@syncline.example"}
    assert "grace@syncline.example" in there.owners.values()


async def test_the_currency_of_all_amounts_is_that_of_the_organisation(close):
    assert (await close.directory()).currency == "USD"


async def test_who_joins_a_deal_does_not_replace_its_contact(close, control: Control, lead):
    jane, mary = [await make(close, "person", {"name": n}, company=[lead]) for n in ("J", "M")]
    deal = await make(close, "deal", {"value": 1}, company=[lead], people=[jane])
    before = len(await control.calls("close"))
    join = write(close, "deal", {}, ref=deal)
    join.relations["people"] = RelationEdit((mary, jane), (mary,))  # type: ignore[index]
    outcome = good((await close.write([join]))[0])
    assert outcome.stored is not None
    assert outcome.stored.relations["people"] == (jane,)
    calls = (await control.calls("close"))[before:]
    assert [call["method"] for call in calls] == ["GET"]
    leave = write(close, "deal", {}, ref=deal)
    leave.relations["people"] = RelationEdit((mary,), (), (jane,))  # type: ignore[index]
    stored = good((await close.write([leave]))[0]).stored
    assert stored is not None
    assert stored.relations["people"] == (mary,)
