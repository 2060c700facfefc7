"""Deal stages meet by map, by name and by class; what meets nothing is held, never guessed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.config import EntitySync
from app.domain.codecs import ABSENT, Context, Held
from app.domain.mapping import says_the_same, to_canonical, to_remote
from app.domain.stages import (
    STAGE,
    check,
    kinds_of,
    pipelines_in,
    seen_by,
    stages_in,
    todays,
    words_of,
)
from app.domain.strangers import strangers
from app.domain.values import Directory, Pipeline, Stage
from tests.domain.test_mapping import built_in

CLOSE = Directory(
    (
        Pipeline(
            "pipe_1",
            "Sales",
            (
                Stage("stat_new", "New", "open"),
                Stage("stat_qualified", "Qualified", "open"),
                Stage("stat_paper", "Paperwork", "open"),
                Stage("stat_won", "Won", "won"),
                Stage("stat_lost", "Lost", "lost"),
            ),
        ),
        Pipeline(
            "pipe_2",
            "Renewals",
            (
                Stage("stat_due", "Due", "open"),
                Stage("stat_again", "Qualified", "open"),
                Stage("stat_renewed", "Won", "won"),
            ),
        ),
    )
)
HUBSPOT = Directory(
    (
        Pipeline(
            "default",
            "Sales Pipeline",
            (
                Stage("appointmentscheduled", "Appointment Scheduled", "open"),
                Stage("qualifiedtobuy", "Qualified To Buy", "open"),
                Stage("contractsent", "Contract Sent", "open"),
                Stage("closedwon", "Closed Won", "won"),
                Stage("closedlost", "Closed Lost", "lost"),
            ),
        ),
    )
)
BOTH = {"close": CLOSE, "hubspot": HUBSPOT}
MAP: dict[str, Any] = {
    "New": {"close": "New", "hubspot": "appointmentscheduled"},
    "Qualified": {
        "close": "Qualified",
        "hubspot": ["Qualified To Buy", {"pipeline": "default", "stage": "contractsent"}],
    },
    "Won": {"close": "Won", "hubspot": "closedwon"},
}


def context(
    account: str,
    stages: dict[str, Any] | None = None,
    pipelines: dict[str, Any] | None = None,
    *,
    current: Any = NotImplemented,
) -> Context:
    """The context of an account; ``current`` is what it last showed (default: some open deal)."""
    deal = EntitySync.model_validate({"stages": stages or {}, "pipelines": pipelines or {}})
    return Context(
        directory=BOTH[account],
        stages=stages_in(deal, account),
        pipelines=pipelines_in(deal, account),
        kinds=kinds_of(BOTH, deal),
        words=words_of(deal, BOTH),
        own_words=words_of(deal, {account: BOTH[account]}),
        current={"stage": "New"} if current is NotImplemented else current,
    )


def put(stage: str, where: Context, pipeline: str | None = "Sales") -> Any:
    """The (stage, pipeline) that would be written, or the reason why it is held."""
    try:
        return tuple(STAGE.put([stage, pipeline], where))
    except Held as held:
        return held.reason


def get(stage: str, where: Context, pipeline: str | None = None) -> Any:
    return tuple(STAGE.get([stage, pipeline], where))


# --- without a map


@pytest.mark.parametrize(
    ("stage", "remote"),
    [
        ("Won", "closedwon"),  # by class
        ("Closed Lost", "closedlost"),  # by name
        ("closed lost", "closedlost"),  # whatever the case
    ],
)
def test_stages_match_by_name_then_by_class(stage: str, remote: str):
    assert put(stage, context("hubspot")) == (remote, "default")


def test_an_open_stage_that_matches_nothing_leaves_an_open_deal_where_it_is():
    assert put("Paperwork", context("hubspot")) == (ABSENT, ABSENT)


def test_a_deal_that_is_won_there_in_another_stage_of_that_class_stays_in_it():
    where = context("close", current={"stage": "Won"})
    assert put("Closed Won", where) == (ABSENT, ABSENT)


def test_a_deal_that_was_closed_and_is_open_again_takes_the_entry_stage():
    where = context("hubspot", current={"stage": "Closed Won"})
    assert put("Paperwork", where) == ("appointmentscheduled", "default")


def test_a_create_takes_the_entry_stage():
    where = context("hubspot", current=None)
    assert put("Paperwork", where) == ("appointmentscheduled", "default")


def test_a_stage_of_no_known_class_is_held_with_a_reason():
    assert "Limbo" in put("Limbo", context("hubspot"))


def test_two_words_for_one_stage_are_no_difference():
    raw = {"dealstage": "closedwon", "pipeline": "default"}
    ours = {"stage": "Won", "pipeline": "Sales"}
    where = context("hubspot", current=None)
    assert says_the_same(built_in("hubspot", "deal"), ["stage"], ours, raw, where) == {"stage"}


# --- with one


@pytest.mark.parametrize("own", ["qualifiedtobuy", "Qualified To Buy", "qualified to  BUY"])
def test_a_configured_stage_wins_by_id_or_by_name(own: str):
    where = context("hubspot", {"Qualified": {"hubspot": own}})
    assert put("Qualified", where) == ("qualifiedtobuy", "default")
    assert get("qualifiedtobuy", where) == ("Qualified", "Sales Pipeline")


def test_several_stages_there_are_one_of_ours_and_the_first_is_written():
    where = context("hubspot", MAP)
    assert get("contractsent", where)[0] == get("qualifiedtobuy", where)[0] == "Qualified"
    assert put("Qualified", where) == ("qualifiedtobuy", "default")


def test_a_stage_is_written_in_the_deals_own_pipeline_else_in_the_first_that_has_it():
    where = context("close", MAP)
    assert put("Qualified", where, "Renewals") == ("stat_again", "pipe_2")
    assert put("Qualified", where, "Nobody's") == ("stat_qualified", "pipe_1")


def test_a_place_can_name_its_pipeline():
    stages = {
        "Renewed": {"close": {"pipeline": "Renewals", "stage": "Won"}},
        "Won": {"close": {"pipeline": "pipe_1", "stage": "Won"}},
    }
    where = context("close", stages)
    assert put("Renewed", where, "Sales") == ("stat_renewed", "pipe_2")
    assert (get("stat_renewed", where)[0], get("stat_won", where)[0]) == ("Renewed", "Won")


def test_pipelines_are_mapped_both_ways():
    pipelines = {"New business": {"close": "Sales", "hubspot": ["default", "Gone"]}}
    close, hubspot = (context(a, MAP, pipelines) for a in BOTH)
    assert get("stat_new", close) == get("appointmentscheduled", hubspot) == ("New", "New business")
    assert put("Qualified", close, "New business") == ("stat_qualified", "pipe_1")


def test_a_deal_of_a_pipeline_that_is_not_mapped_does_not_land_in_another():
    pipelines = {"New business": {"close": "Sales", "hubspot": "default"}}
    reason = put("Qualified", context("hubspot", MAP, pipelines), "Renewals")
    assert "no pipeline there is mapped to 'Renewals'" in reason


def test_an_open_stage_that_nothing_maps_is_held():
    reason = put("Paperwork", context("hubspot", MAP))
    assert reason == "no stage there matches 'Paperwork'; map it under sync.deal.stages"


def test_a_create_with_a_held_stage_takes_the_entry_stage_meanwhile():
    where = context("hubspot", MAP, current=None)
    found, held = to_remote(
        built_in("hubspot", "deal"), ["name", "stage"], {"name": "A", "stage": "Paperwork"}, where
    )
    assert found == {"dealname": "A", "dealstage": "appointmentscheduled", "pipeline": "default"}
    assert list(held) == ["stage"]


def test_a_stage_that_nothing_maps_is_not_taken_for_ours_of_the_same_name():
    where = context("hubspot", {"Contract Sent": {"hubspot": "qualifiedtobuy"}})
    assert get("contractsent", where)[0] == "Sales Pipeline / Contract Sent"
    assert get("qualifiedtobuy", where)[0] == "Contract Sent"


def test_what_is_won_or_lost_needs_no_map():
    assert put("Lost", context("hubspot", MAP)) == ("closedlost", "default")
    assert put("Won", context("hubspot", MAP)) == ("closedwon", "default")


def test_a_configured_stage_that_does_not_exist_there_is_held():
    reason = put("Demo", context("hubspot", {"Demo": {"hubspot": "demo"}}))
    assert reason == "the configured stage 'demo' does not exist there"


@pytest.mark.parametrize("account", BOTH)
def test_a_close_date_that_a_crm_fills_in_is_no_edit(account: str):
    assert "close_date" in built_in(account, "deal").filled


def test_hubspots_own_probability_is_no_match_for_what_people_expect():
    assert "probability" not in built_in("hubspot", "deal").fields


# --- after a change of the map


def test_a_stage_that_was_read_before_it_was_mapped_is_called_anew():
    where = context("close", {**MAP, "Legal": {"close": "Paperwork", "hubspot": "contractsent"}})
    assert todays({"stage": "Paperwork"}, where.own_words)["stage"] == "Legal"
    hubspot = context("hubspot", {"Legal": {"close": "Paperwork", "hubspot": "contractsent"}})
    assert put("Paperwork", hubspot) == ("contractsent", "default")


def test_a_word_that_means_different_things_is_left_alone():
    # There are two called Qualified in Close, and only one of them is mapped.
    stages = {"Legal": {"close": {"pipeline": "Sales", "stage": "Qualified"}}}
    where = context("close", stages)
    assert todays({"stage": "Qualified"}, where.own_words) == {"stage": "Qualified"}


# --- what nobody has heard of


def test_an_id_that_the_directory_does_not_know_is_named_and_says_nothing():
    mapping, where = built_in("close", "deal"), context("close", MAP)
    raw = {"status_id": "stat_brandnew", "user_id": "user_9", "note": "x"}
    assert strangers(mapping, raw, where) == {("status_id", "stat_brandnew"), ("user_id", "user_9")}
    assert to_canonical(mapping, raw, where) == {"description": "x"}
    assert strangers(mapping, {"status_id": "stat_paper", "user_id": None}, where) == set()


# --- what accounts test says


def test_the_check_names_what_does_not_exist_and_what_is_not_covered():
    deal = EntitySync.model_validate(
        {"stages": {**MAP, "Ghost": {"hubspot": "ghost"}}, "pipelines": {"A": {"hubspot": "b"}}}
    )
    said = [(f.check, f.ok, f.detail) for f in check(deal, "hubspot", HUBSPOT)]
    nothing = "is mapped by nothing, so a deal in it is held"
    assert said == [
        ("stages", False, "ghost (Ghost): does not exist there"),
        ("pipelines", False, "b (A): does not exist there"),
        ("pipelines", True, f"Sales Pipeline: {nothing}"),
    ]
    (bare,) = check(deal, "close", CLOSE)
    assert bare.detail == f"Sales / Paperwork, Renewals / Due: {nothing}"


def test_the_check_names_a_stage_that_stands_for_two_of_ours():
    stages = {"A": {"close": "Won"}, "B": {"close": "stat_won"}}  # by name, and by id
    said = [f.detail for f in check(EntitySync.model_validate({"stages": stages}), "close", CLOSE)]
    assert said[0] == "Sales / Won (A, B): stands for several, and is read as one of them"


def test_without_a_map_there_is_nothing_to_check():
    assert check(EntitySync(), "close", CLOSE) == []


# --- laws

STAGES = [(s.id, p.id, a) for a, d in BOTH.items() for p in d.pipelines for s in p.stages]
OWN = {a: sorted({s.name for p in d.pipelines for s in p.stages}) for a, d in BOTH.items()}


@st.composite
def maps(draw: st.DrawFn) -> dict[str, Any]:
    """Any map of these stages in which each name stands once."""
    found: dict[str, Any] = {}
    for account, names in OWN.items():
        for name in names:
            ours = draw(st.sampled_from(["A", "B", "C", "D", "Won", "Qualified", None]))
            if ours is not None:
                found.setdefault(ours, {}).setdefault(account, []).append(name)
    return found


@example(
    {
        "A": {
            "close": ["Due", "Lost", "New", "Won"],
            "hubspot": sorted(OWN["hubspot"]),
        },
        "Qualified": {"close": ["Paperwork"]},
    },
    ("stat_qualified", "pipe_1", "close"),
)
@given(maps(), st.sampled_from(STAGES))
def test_what_is_read_as_one_of_ours_is_written_as_a_stage_that_reads_the_same(stages, place):
    stage, pipeline, account = place
    where = context(account, stages)
    ours = get(stage, where, pipeline)
    there = put(*[ours[0], where, ours[1]])
    assert get(there[0], where, there[1]) == ours


@given(maps(), st.sampled_from(STAGES), st.sampled_from(list(BOTH)))
def test_a_mapped_stage_never_lands_in_one_that_is_mapped_to_another(stages, place, target):
    stage, pipeline, account = place
    ours, group = get(stage, context(account, stages), pipeline)
    where = context(target, stages)
    written = put(ours, where, group)
    if isinstance(written, tuple) and written[0] is not ABSENT and ours in where.stages:
        assert get(*[written[0], where, written[1]])[0] == ours


# --- tickets

DESK = Directory(
    tickets=(
        Pipeline(
            "0",
            "Support Pipeline",
            (
                Stage("1", "New", "open"),
                Stage("2", "Waiting on contact", "open"),
                Stage("4", "Closed", "closed"),
            ),
        ),
    )
)
CASES = Directory(
    tickets=(
        Pipeline(
            "012000000000000AAA",
            "Cases",
            (
                Stage("New", "New", "open"),
                Stage("Escalated", "Escalated", "open"),
                Stage("Solved", "Solved", "closed"),
            ),
        ),
    )
)


def desk(stages: dict[str, Any], *, current: Any = None) -> Context:
    """The context of tickets in an account whose cases are solved in the end."""
    sync = EntitySync.model_validate({"stages": stages})
    known = {n: seen_by("ticket", d) for n, d in {"desk": DESK, "cases": CASES}.items()}
    return Context(
        entity="ticket",
        directory=known["cases"],
        stages=stages_in(sync, "cases"),
        kinds=kinds_of(known, sync),
        current=current,
    )


def test_a_closed_ticket_is_closed_everywhere_and_an_open_one_stays_where_it_is():
    assert put("New", desk({}), None) == ("New", "012000000000000AAA")
    assert put("Closed", desk({}, current={"stage": "New"}), None)[0] == "Solved"
    assert put("Closed", desk({}, current={"stage": "Solved"}), None) == (ABSENT, ABSENT)
    waiting = put("Waiting on contact", desk({}, current={"stage": "Escalated"}), None)
    assert waiting == (ABSENT, ABSENT)


def test_a_ticket_in_a_stage_that_nothing_maps_is_held_with_the_key_to_write():
    where = desk({"New": {"cases": "New"}}, current={"stage": "New"})
    reason = "no stage there matches 'Waiting on contact'; map it under sync.ticket.stages"
    assert put("Waiting on contact", where, None) == reason
    sync = EntitySync.model_validate({"stages": {"New": {"cases": ["New", "Fresh"]}}})
    found = check(sync, "cases", seen_by("ticket", CASES), entity="ticket")
    assert [(one.detail, one.remedy) for one in found] == [
        ("Fresh (New): does not exist there", "Correct sync.ticket.stages."),
        (
            "Cases / Escalated: is mapped by nothing, so a ticket in it is held",
            "Add to sync.ticket.stages.",
        ),
    ]
