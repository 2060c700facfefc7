"""What is peculiar to HubSpot."""

from dataclasses import replace
from datetime import timedelta

import httpx
import orjson
import pytest

from app.connectors.hubspot import connector as module
from app.connectors.hubspot import lifecycle
from app.connectors.hubspot.dialect import HubSpotDialect
from app.domain.values import Change, Key, Observation, Outcome, Ref, RelationEdit, Write
from app.errors import BadPayloadError, ExistsError, RejectedError
from app.sdk.client import Answer
from tests.connectors.conftest import HUBSPOT, NOON, Control, delivery, good, make, write

API = "/hubspot/crm/v3/objects"


def parse(*rows: dict):
    whole = [
        {"eventId": 1, "subscriptionId": 2, "portalId": 62515, "occurredAt": 1700000000000, **row}
        for row in rows
    ]
    return HUBSPOT.kind.parse(delivery(orjson.dumps(whole)), HUBSPOT.account())


def ref(type: str, id: int | str) -> Ref:
    return Ref("acme", type, str(id))


# ----------------------------------------------------------------------------- webhooks


def test_an_event_names_its_portal_and_what_changed():
    row = {"subscriptionType": "contact.propertyChange", "objectId": 7, "propertyName": "phone"}
    first, second, third = parse(
        {**row, "propertyValue": "1"},
        {**row, "propertyValue": "2", "isSensitive": True, "eventId": 2},
        {**row, "propertyValue": "1", "attemptNumber": 9},
    )
    assert (first.tenant, first.ref) == ("62515", ref("contacts", 7))
    assert first.fields == {"phone": "1"}
    assert second.fields == {"phone": None}
    assert first.key == third.key != second.key


def test_what_our_own_app_has_done_is_told_from_what_others_do():
    row = {"subscriptionType": "contact.propertyChange", "objectId": 7, "propertyName": "phone"}
    by_us = {**row, "appId": 54321, "changeSource": "INTEGRATION", "sourceId": "54321"}
    events = parse(
        by_us,
        {**by_us, "sourceId": "999", "eventId": 2},
        {**by_us, "changeSource": "CRM_UI", "sourceId": "userId:54321", "eventId": 3},
        {**row, "changeSource": "INTEGRATION", "eventId": 4},
    )
    assert [event.by_program for event in events] == [True, False, False, False]


def test_the_docs_name_of_the_type_is_taken_too_and_generic_events_are_translated():
    (event,) = parse({"eventType": "deal.creation", "objectId": 7})
    assert event.type == "deal.creation"
    (event,) = parse({"subscriptionType": "object.deletion", "objectTypeId": "0-2", "objectId": 7})
    assert (event.type, event.change) == ("company.deletion", Change.GONE)
    (event,) = parse({"subscriptionType": "object.creation", "objectTypeId": "0-5", "objectId": 7})
    assert (event.type, event.ref) == ("ticket.creation", ref("tickets", 7))
    (event,) = parse({"subscriptionType": "object.creation", "objectTypeId": "0-8", "objectId": 7})
    assert (event.type, event.ref) == ("object.creation", None)


def test_an_event_need_not_name_its_portal():
    (event,) = parse({"subscriptionType": "contact.creation", "objectId": 7, "portalId": None})
    assert (event.tenant, event.ref) == (None, ref("contacts", 7))


def test_a_merge_moves_every_old_id_and_looks_at_the_survivor():
    events = parse(
        {
            "subscriptionType": "contact.merge",
            "objectId": 9,
            "primaryObjectId": 1,
            "mergedObjectIds": [2, 3],
            "newObjectId": 9,
        }
    )
    assert [(e.change, e.ref) for e in events] == [
        (Change.MERGED, ref("contacts", 1)),
        (Change.MERGED, ref("contacts", 2)),
        (Change.MERGED, ref("contacts", 3)),
        (Change.CHANGED, ref("contacts", 9)),
    ]
    assert {e.survivor for e in events[:3]} == {ref("contacts", 9)}
    events = parse({"subscriptionType": "deal.merge", "primaryObjectId": 1, "mergedObjectIds": [2]})
    assert [(e.ref, e.survivor) for e in events] == [
        (ref("deals", 2), ref("deals", 1)),
        (ref("deals", 1), None),
    ]


@pytest.mark.parametrize(
    ("kind", "child"),
    [
        ("CONTACT_TO_COMPANY", ref("contacts", 1)),
        ("COMPANY_TO_CONTACT", ref("contacts", 2)),
        ("DEAL_TO_COMPANY", ref("deals", 1)),
        ("COMPANY_TO_DEAL", ref("deals", 2)),
        ("DEAL_TO_CONTACT", ref("deals", 1)),
        ("CONTACT_TO_DEAL", ref("deals", 2)),
        ("CONTACT_TO_TICKET", ref("tickets", 2)),
        ("TICKET_TO_COMPANY", ref("tickets", 1)),
        ("TICKET_TO_DEAL", None),
        ("COMPANY_TO_COMPANY", None),
    ],
)
def test_a_changed_link_concerns_the_child(kind, child):
    row = {"associationType": kind, "fromObjectId": 1, "toObjectId": 2}
    (event,) = parse({"subscriptionType": "contact.associationChange", **row})
    assert (event.change, event.ref) == (Change.CHANGED, child)
    (removed,) = parse(
        {"subscriptionType": "contact.associationChange", **row, "associationRemoved": True}
    )
    assert removed.key != event.key


def test_a_primary_link_says_whom_the_child_names_from_then_on():
    row = {"subscriptionType": "contact.associationChange", "associationType": "CONTACT_TO_COMPANY"}
    primary = {**row, "fromObjectId": 1, "toObjectId": 2, "isPrimaryAssociation": True}
    company = {"company": ref("companies", 2)}
    back = {"associationType": "COMPANY_TO_CONTACT", "fromObjectId": 2, "toObjectId": 1}
    plain = {**primary, "isPrimaryAssociation": False}  # HubSpot makes and tells it as well
    told = parse(primary, {**primary, **back}, plain)
    assert [event.names for event in told] == [company] * 3
    later = {**plain, "occurredAt": 1700000000001}  # a label, perhaps
    gone = {**primary, "associationRemoved": True}
    assert [event.names for event in parse(primary, later, gone)] == [company, {}, {}]
    (alone,) = parse(plain)
    assert alone.names == {}


def test_that_a_record_was_made_is_told_apart_from_what_it_was_made_with():
    made, edited = parse(
        {"subscriptionType": "contact.creation", "objectId": 7},
        {"subscriptionType": "contact.propertyChange", "objectId": 7, "propertyName": "phone"},
    )
    assert (made.born, edited.born) == (True, False)


def test_two_values_in_one_moment_are_two_facts_and_one_told_twice_is_one():
    row = {"subscriptionType": "contact.propertyChange", "objectId": 7, "propertyName": "phone"}
    first, other, again = parse(
        {**row, "propertyValue": "+14155550100"},
        {**row, "propertyValue": ""},
        {**row, "propertyValue": "+14155550100", "attemptNumber": 3},
    )
    assert first.key == again.key != other.key
    assert "4155550100" not in first.key


@pytest.mark.parametrize(("source", "born"), [("INTEGRATION", True), ("CRM_UI", False)])
def test_what_a_person_made_is_looked_at(source, born):
    row = {"subscriptionType": "contact.creation", "objectId": 7, "changeSource": source}
    (made,) = parse(row)
    assert made.born is born


def test_a_bad_row_is_named_by_its_number():
    good_one = {"subscriptionType": "deal.creation", "objectId": 7}
    with pytest.raises(BadPayloadError, match="event 1: it has no objectId") as caught:
        parse(good_one, {"subscriptionType": "deal.creation"})
    assert [event.ref for event in caught.value.read] == [ref("deals", 7)]
    with pytest.raises(BadPayloadError, match="event 0: it has no readable occurredAt"):
        parse({**good_one, "occurredAt": 10**18})


# ----------------------------------------------------------------------------- dialect


@pytest.mark.parametrize(
    ("policy", "headers", "seconds"),
    [
        ("TEN_SECONDLY_ROLLING", {}, 10),
        ("SECONDLY", {}, 1),
        ("DAILY", {}, 3600),
        (None, {}, 1),
        ("DAILY", {"retry-after": "5"}, 5),
    ],
)
def test_each_policy_has_its_pause(policy, headers, seconds):
    answer = Answer(429, headers, {"policyName": policy})
    assert HubSpotDialect().retry_at(answer, NOON) == NOON + timedelta(seconds=seconds)


def test_before_midnight_the_day_ends_sooner():
    late = NOON.replace(hour=23, minute=50)
    at = HubSpotDialect().retry_at(Answer(429, {}, {"policyName": "DAILY"}), late)
    assert at - late == timedelta(minutes=10)


def test_the_headers_tell_the_quota():
    headers = {
        "x-hubspot-ratelimit-max": "190",
        "x-hubspot-ratelimit-remaining": "180",
        "x-hubspot-ratelimit-interval-milliseconds": "10000",
    }
    rate = HubSpotDialect().rate(Answer(200, headers, None))
    assert (rate.limit, rate.per, rate.remaining, rate.reset) == (190, 10, 180, None)
    assert HubSpotDialect().rate(Answer(200, {}, None)).limit is None


# ----------------------------------------------------------------------- at the sandbox


async def test_a_second_contact_of_one_address_names_the_first(hubspot):
    fields = {"firstname": "Jane", "email": "jane@acme.example"}
    first = await make(hubspot, "person", fields)
    other = {"firstname": "Mary", "email": "mary@acme.example"}
    both = [write(hubspot, "person", fields), write(hubspot, "person", other)]
    exists, fine = await hubspot.write(both)
    assert isinstance(exists.error, ExistsError)
    assert exists.error.remote_id == first.id
    good(fine)


async def test_a_new_record_is_linked_to_its_primary_company(hubspot, control: Control):
    one, two = [await make(hubspot, "company", {"name": n, "domain": f"{n}.example"}) for n in "ab"]
    jane = await make(hubspot, "person", {"firstname": "Jane"}, company=[two])
    deal = {"dealname": "D", "dealstage": "appointmentscheduled", "pipeline": "default"}
    made = await make(hubspot, "deal", deal, company=[two], people=[jane])
    # A second company does not take the place of the primary one, though its id is lower.
    path = f"/hubspot/crm/v4/objects/contacts/{jane.id}/associations/default/companies/{one.id}"
    await control.person("PUT", path)
    (seen,) = await hubspot.read([jane])
    assert seen.relations == {"company": (two,), "companies": (one, two)}
    (listed,) = (await hubspot.scan("person", None, None)).observations
    assert (listed.relations, listed.labels) == (seen.relations, seen.labels)
    (seen,) = await hubspot.read([made])
    assert seen.relations == {"company": (two,), "companies": (two,), "people": (jane,)}
    # Then it does, and the former one stays linked.
    edit = write(hubspot, "person", {"firstname": "J"}, ref=jane)
    edit.relations["company"] = RelationEdit((one,), (one,), (two,))  # type: ignore[index]
    stored = good((await hubspot.write([edit]))[0]).stored
    assert stored is not None
    assert stored.relations == {"company": (one,)}
    (seen,) = await hubspot.read([jane])
    assert seen.relations == {"company": (one,), "companies": (one, two)}
    # Unlinked it is where it is none of its companies any more.
    edit = relate(hubspot, "person", jane, "companies", remove=[two])
    good((await hubspot.write([edit]))[0])
    (seen,) = await hubspot.read([jane])
    assert seen.relations == {"company": (one,), "companies": (one,)}
    edit = write(hubspot, "deal", {}, ref=made)
    edit.relations["people"] = RelationEdit((), (), (jane,))  # type: ignore[index]
    good((await hubspot.write([edit]))[0])
    (seen,) = await hubspot.read([made])
    assert seen.relations["people"] == ()


async def test_a_merged_away_id_answers_with_the_survivor(hubspot, control: Control):
    one, two = [await make(hubspot, "person", {"firstname": n}) for n in "ab"]
    body = {"primaryObjectId": one.id, "objectIdToMerge": two.id}
    await control.person("POST", f"{API}/contacts/merge", json=body)
    seen = {
        observation.asked or observation.ref: observation
        for observation in await hubspot.read([one, two])
    }
    assert seen[two].ref == one
    assert not seen[two].gone
    assert seen[one].asked is None


async def test_two_contacts_are_merged_on_our_word(hubspot):
    one, two = [await make(hubspot, "person", {"firstname": n}) for n in "ab"]
    kept = await hubspot.merge(one, two)
    assert {seen.ref for seen in await hubspot.read([one, two])} == {kept}


async def test_a_further_address_is_an_identity_too(hubspot, control: Control):
    one, two = [
        await make(hubspot, "person", {"firstname": n, "email": f"{n}@acme.example"}) for n in "ab"
    ]
    body = {"primaryObjectId": one.id, "objectIdToMerge": two.id}
    await control.person("POST", f"{API}/contacts/merge", json=body)
    key = Key("email", "b@acme.example")
    assert [seen.ref for seen in (await hubspot.find("person", [key]))[key]] == [one]


async def test_many_domains_are_asked_for_in_bodies_that_hubspot_takes(hubspot, control: Control):
    keys = [Key("domain", f"{'x' * 40}{n}.example") for n in range(120)]
    wanted = await make(hubspot, "company", {"name": "X", "domain": keys[77].value})
    await make(hubspot, "company", {"name": "Y", "domain": "www.other.example"})
    found = await hubspot.find("company", [*keys, Key("domain", "other.example")])
    assert [seen.ref for seen in found[keys[77]]] == [wanted]
    assert len(found[Key("domain", "other.example")]) == 1
    assert sum(map(len, found.values())) == 2


async def test_our_own_id_is_prepared_stamped_and_found(control: Control):
    account = HUBSPOT.account(control.base)
    connector = HUBSPOT.connect(control.base)
    connector.account = type(account)(**{**_plain(account), "external_id": "syncline_id"})
    before = await connector.check()
    assert [f.ok for f in before if "syncline_id" in f.check] == [False] * 4
    assert all(finding.ok for finding in await connector.prepare())
    assert all(finding.ok for finding in await connector.prepare())
    assert all(f.ok for f in await connector.check())
    for entity in ("company", "person", "deal", "ticket", "note", "task"):
        fields = HUBSPOT.named[entity]("Stamped")
        wanted = write(connector, entity, fields, external_id=f"id-{entity}")
        made = good((await connector.write([wanted]))[0]).ref
        key = Key("external_id", f"id-{entity}")
        assert [seen.ref for seen in (await connector.find(entity, [key]))[key]] == [made]
    await connector.aclose()


def _plain(account) -> dict:
    return {name: getattr(account, name) for name in account.__slots__}


async def test_without_the_property_nothing_is_stamped_nor_looked_for(control: Control):
    connector = HUBSPOT.connect(control.base)
    connector.account = type(connector.account)(
        **{**_plain(connector.account), "external_id": "syncline_id"}
    )
    wanted = write(connector, "company", {"name": "Acme"}, external_id="x")
    good((await connector.write([wanted]))[0])
    key = Key("external_id", "x")
    assert await connector.find("company", [key]) == {key: []}
    await connector.aclose()


async def test_a_cleared_field_is_sent_empty_and_known_to_be_cleared(hubspot):
    jane = await make(hubspot, "person", {"firstname": "Jane", "phone": "+1"})
    stored = good(
        (await hubspot.write([write(hubspot, "person", {"phone": None}, ref=jane)]))[0]
    ).stored
    assert stored is not None
    assert stored.partial
    assert stored.raw is not None
    assert stored.raw["phone"] is None
    (seen,) = await hubspot.read([jane])
    assert seen.raw is not None
    assert seen.raw["phone"] is None


async def test_an_archived_owner_is_known_and_can_own_nothing_new(hubspot):
    there = await hubspot.directory()
    mails = {there.owners[id] for id in there.retired}
    assert mails == {"barbara@syncline.example"}
    assert "grace@syncline.example" in there.owners.values()


async def _customer(hubspot) -> Ref:
    fields = {"email": "ada@x.example", "lifecyclestage": "customer"}
    return await make(hubspot, "person", fields)


async def _updates(control: Control) -> int:
    calls = await control.calls("hubspot")
    return sum(call["path"].endswith("/batch/update") for call in calls)


async def test_an_earlier_lifecycle_stage_is_held_and_the_rest_is_written(hubspot):
    who = await _customer(hubspot)
    back = {"lifecyclestage": "lead", "jobtitle": "CEO"}
    (outcome,) = await hubspot.write([write(hubspot, "person", back, ref=who)])
    assert list(good(outcome).held) == ["lifecyclestage"]
    assert "cannot go back to lead" in outcome.held["lifecyclestage"]
    (seen,) = await hubspot.read([who])
    assert seen.raw is not None
    assert (seen.raw["lifecyclestage"], seen.raw["jobtitle"]) == ("customer", "CEO")


async def test_an_earlier_lifecycle_stage_alone_is_refused_without_a_write(
    hubspot, control: Control
):
    who = await _customer(hubspot)
    back = write(hubspot, "person", {"lifecyclestage": "lead"}, ref=who)
    (outcome,) = await hubspot.write([back])
    assert isinstance(outcome.error, RejectedError)
    assert outcome.error.field == "lifecyclestage"
    assert await _updates(control) == 0


async def test_a_later_lifecycle_stage_is_one_write(hubspot, control: Control):
    who = await _customer(hubspot)
    on = write(hubspot, "person", {"lifecyclestage": "evangelist"}, ref=who)
    (outcome,) = await hubspot.write([on])
    assert good(outcome).held == {}
    assert await _updates(control) == 1


async def test_where_the_account_says_so_the_present_stage_is_cleared_first(control: Control):
    hubspot = HUBSPOT.connect(control.base)
    plain = _plain(hubspot.account) | {"options": {"lifecycle": "clear"}}
    hubspot.account = type(hubspot.account)(**plain)
    who = await _customer(hubspot)
    back = write(hubspot, "person", {"lifecyclestage": "lead"}, ref=who)
    (outcome,) = await hubspot.write([back])
    assert good(outcome).held == {}
    assert await _updates(control) == 2
    (seen,) = await hubspot.read([who])
    assert seen.raw is not None
    assert seen.raw["lifecyclestage"] == "lead"
    await hubspot.aclose()


async def test_a_stage_that_is_ignored_without_a_word_is_told(hubspot):
    who = ref("contacts", 7)
    wanted = write(hubspot, "person", {"lifecyclestage": "ours"}, ref=who)
    stored = Observation(who, {"lifecyclestage": "theirs"}, partial=True)
    told = lifecycle.kept(Outcome(wanted, ref=who, stored=stored))
    assert isinstance(told.error, RejectedError)
    assert "HubSpot keeps the lifecycle stage theirs" in told.error.reason


async def test_changes_of_one_very_moment_are_all_visited(hubspot, control: Control, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 7)
    monkeypatch.setattr("app.connectors.hubspot.search.BATCH", 7)
    # A seed is made in one millisecond: far more than one page of it.
    await control.call("POST", "/_sandbox/seed", json={"hubspot": {"companies": 40}})
    seen, cursor = set(), None
    for _ in range(30):
        page = await hubspot.scan("company", cursor, NOON - timedelta(days=1))
        seen |= {one.ref for one in page.observations}
        cursor = page.cursor
        if cursor is None:
            break
    assert cursor is None
    assert len(seen) == 40


async def test_a_batch_that_is_refused_as_a_whole_is_sent_row_by_row():
    def answer(request: httpx.Request) -> httpx.Response:
        inputs = orjson.loads(request.content)["inputs"]
        if any(row["properties"]["name"] == "bad" for row in inputs):
            return httpx.Response(400, json={"message": "no", "category": "VALIDATION_ERROR"})
        rows = [
            {
                "id": str(n),
                "properties": row["properties"],
                "objectWriteTraceId": row["objectWriteTraceId"],
            }
            for n, row in enumerate(inputs)
        ]
        return httpx.Response(201, json={"results": rows})

    connector = HUBSPOT.connect(transport=httpx.MockTransport(answer))
    batch = [write(connector, "company", {"name": n}) for n in ("a", "bad", "c")]
    outcomes = await connector.write(batch)
    assert [type(outcome.error).__name__ for outcome in outcomes] == [
        "NoneType",
        "RejectedError",
        "NoneType",
    ]


async def test_a_row_that_the_answer_does_not_mention_is_in_doubt():
    transport = httpx.MockTransport(lambda _: httpx.Response(201, json={"results": []}))
    connector = HUBSPOT.connect(transport=transport)
    outcomes = await connector.write([write(connector, "company", {"name": n}) for n in "ab"])
    assert [type(outcome.error).__name__ for outcome in outcomes] == ["UnknownOutcomeError"] * 2


async def test_who_must_subscribe_by_hand_is_told_how(hubspot):
    with pytest.raises(RejectedError) as caught:
        await hubspot.subscribe("https://hooks.example/webhooks/hubspot")
    for word in ("https://hooks.example/webhooks/hubspot", "contact.creation", "Webhooks"):
        assert word in caught.value.reason
    assert await hubspot.subscriptions() == []


async def test_the_portal_of_a_token_is_compared(control: Control):
    connector = HUBSPOT.connect(control.base)
    connector.account = type(connector.account)(
        **{**_plain(connector.account), "options": {"portal_id": 1}}
    )
    finding = next(f for f in await connector.check() if f.check == "portal_id")
    assert not finding.ok
    assert "62515" in finding.detail
    await connector.aclose()


async def test_the_history_of_a_property_tells_when_it_was_edited(hubspot, control: Control):
    ada = await make(hubspot, "person", {"email": "edits@x.example", "jobtitle": "CFO"})
    url = f"{API}/contacts/{ada.id}"
    await control.person("PATCH", url, json={"properties": {"jobtitle": "CEO"}})

    found = await hubspot.edits([ada], {"jobtitle"})

    titles = found[ada]["jobtitle"]
    assert [edit.value for edit in titles] == ["CEO", "CFO"]
    assert titles[0].at > titles[1].at


async def test_labels_that_people_gave_a_link_survive_a_change_of_the_primary(
    hubspot, control: Control
):
    one, two = [await make(hubspot, "company", {"name": n, "domain": f"{n}.example"}) for n in "cd"]
    jane = await make(hubspot, "person", {"firstname": "Jane"}, company=[one])
    labels = "/hubspot/crm/v4/associations/contacts/companies/labels"
    made = await control.person("POST", labels, json={"label": "Pays", "name": "pays"})
    label = {
        "associationCategory": "USER_DEFINED",
        "associationTypeId": made["results"][0]["typeId"],
    }
    primary = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}
    links = f"/hubspot/crm/v4/objects/contacts/{jane.id}/associations/companies"
    await control.person("PUT", f"{links}/{one.id}", json=[primary, label])
    await control.person("PUT", f"{links}/{two.id}", json=[label])

    edit = write(hubspot, "person", {}, ref=jane)
    edit.relations["company"] = RelationEdit((two,), (two,), (one,))  # type: ignore[index]
    good((await hubspot.write([edit]))[0])

    shown = (await control.person("GET", links))["results"]
    types = {
        str(end["toObjectId"]): {t["label"] or "" for t in end["associationTypes"]} for end in shown
    }
    assert types == {one.id: {"", "Pays"}, two.id: {"", "Pays", "Primary"}}


async def test_links_get_and_lose_the_labels_that_they_are_told(hubspot, control: Control):
    one, two = [await make(hubspot, "company", {"name": n}) for n in "ef"]
    await hubspot.create_label("person", "companies", "Decision maker")
    await hubspot.create_label("person", "companies", "Decision maker")  # by somebody else just now
    new = write(hubspot, "person", {"email": "jane@x.example"})
    new.relations["company"] = RelationEdit((one,), (one,))  # type: ignore[index]
    new.relations["companies"] = RelationEdit(  # type: ignore[index]
        (one, two), (one, two), label=((one, "Decision maker"), (two, "Decision maker"))
    )
    jane = good((await hubspot.write([new]))[0]).ref
    assert jane is not None
    (seen,) = await hubspot.read([jane])
    assert seen.relations == {"company": (one,), "companies": (one, two)}
    assert seen.labels == {one: ("Decision maker",), two: ("Decision maker",)}
    (listed,) = (await hubspot.scan("person", None, None)).observations
    assert (listed.relations, listed.labels) == (seen.relations, seen.labels)

    edit = write(hubspot, "person", {}, ref=jane)
    edit.relations["companies"] = RelationEdit(  # type: ignore[index]
        (one, two), label=((one, "Billing"),), unlabel=((one, "Decision maker"),)
    )
    (outcome,) = await hubspot.write([edit])
    assert isinstance(outcome.error, RejectedError)
    assert outcome.error.value == "Billing"
    await hubspot.create_label("person", "companies", "Billing")
    good((await hubspot.write([edit]))[0])
    (seen,) = await hubspot.read([jane])
    assert seen.relations["company"] == (one,)
    assert seen.labels == {one: ("Billing",), two: ("Decision maker",)}

    edit = write(hubspot, "person", {}, ref=jane)
    edit.relations["companies"] = RelationEdit(  # type: ignore[index]
        (one,), remove=(two,), unlabel=((two, "Decision maker"),)
    )
    good((await hubspot.write([edit]))[0])
    (seen,) = await hubspot.read([jane])
    assert (seen.relations["companies"], seen.labels) == ((one,), {one: ("Billing",)})
    known = await hubspot.labels("person")
    assert {"Billing", "Decision maker"} <= set(known["companies"])


async def test_a_label_that_nobody_told_us_of_keeps_its_link(hubspot, control: Control):
    one, two = [await make(hubspot, "company", {"name": n}) for n in "gh"]
    jane = await make(hubspot, "person", {"firstname": "Jane"}, company=[one])
    await hubspot.create_label("person", "companies", "Pays")
    edit = write(hubspot, "person", {}, ref=jane)
    edit.relations["companies"] = RelationEdit(  # type: ignore[index]
        (one, two), (two,), label=((two, "Pays"),)
    )
    good((await hubspot.write([edit]))[0])
    good((await hubspot.write([relate(hubspot, "person", jane, "companies", remove=[two])]))[0])
    (seen,) = await hubspot.read([jane])
    assert seen.labels == {one: (), two: ("Pays",)}


async def limit(control: Control, start: str, end: str, type: int, most: int) -> None:
    """An administrator allows only so many links of this type."""
    path = f"/hubspot/crm/v4/associations/definitions/configurations/{start}/{end}/batch/create"
    row = {"category": "HUBSPOT_DEFINED", "typeId": type, "maxToObjectIds": most}
    await control.person("POST", path, json={"inputs": [row]})


def relate(hubspot, entity: str, one: Ref, *relations: str, add=(), remove=()) -> Write:
    edit = write(hubspot, entity, {}, ref=one)
    moved = RelationEdit(tuple(add), tuple(add), tuple(remove))
    return replace(edit, relations=dict.fromkeys(relations, moved))


async def test_where_a_contact_may_have_one_company_it_moves_all_the_same(
    hubspot, control: Control
):
    old, new = [await make(hubspot, "company", {"name": name}) for name in ("Old", "New")]
    jane = await make(hubspot, "person", {"email": "jane@x.example"}, company=[old])
    await limit(control, "contacts", "companies", 279, 1)
    moved = relate(hubspot, "person", jane, "company", "companies", add=[new], remove=[old])
    (outcome,) = await hubspot.write([moved])
    assert outcome.error is None
    (seen,) = await hubspot.read([jane])
    assert seen.relations["company"] == (new,)


async def test_where_the_new_company_is_full_the_old_link_comes_back_and_the_refusal_is_named(
    hubspot, control: Control
):
    old, full = [await make(hubspot, "company", {"name": name}) for name in ("Old", "Full")]
    await make(hubspot, "person", {"email": "there@x.example"}, company=[full])
    jane = await make(hubspot, "person", {"email": "jane@x.example"}, company=[old])
    await limit(control, "companies", "contacts", 280, 1)
    moved = relate(hubspot, "person", jane, "company", "companies", add=[full], remove=[old])
    (outcome,) = await hubspot.write([moved])
    assert isinstance(outcome.error, RejectedError)
    assert (outcome.error.field, outcome.error.value) == ("company", f"companies/{full.id}")
    assert "limit of 1" in str(outcome.error)
    (seen,) = await hubspot.read([jane])
    assert seen.relations["company"] == (old,)


async def test_one_link_too_many_is_exactly_one_failure(hubspot, control: Control):
    one, two = [await make(hubspot, "person", {"email": f"{n}@x.example"}) for n in "ab"]
    stages = {"dealstage": "appointmentscheduled", "pipeline": "default"}
    deals = [await make(hubspot, "deal", {"dealname": n, **stages}, people=[one]) for n in "xy"]
    await limit(control, "deals", "contacts", 3, 1)
    refused = relate(hubspot, "deal", deals[0], "people", add=[two])
    fine = relate(hubspot, "deal", deals[1], "people", remove=[one])
    outcomes = {o.write.trace: o for o in await hubspot.write([refused, fine])}
    error = outcomes[refused.trace].error
    assert isinstance(error, RejectedError)
    assert (error.field, error.value) == ("people", f"contacts/{two.id}")
    assert outcomes[fine.trace].error is None
    findings = [f for f in await hubspot.check() if f.check == "link deals"]
    assert [(f.ok, "1 contacts at most" in f.detail) for f in findings] == [(True, True)]
