"""What a comparison says of one record: equal if and only if there is nothing to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import EntitySync, FieldSync
from app.domain.codecs import Context
from app.domain.decide import decide
from app.domain.drift import EMPTY, Around, Cause, add_digest, compare
from app.domain.mapping import compile_mapping
from app.domain.state import LinkState, RecordState, State
from app.domain.values import Fields, Observation, Ref

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = UUID(int=1)
NAMES = ("title", "lead_status", "phone")
ROWS = {name: name for name in NAMES}
#: Nothing is under way, and nothing may still be told.
QUIET = Around(told_until=NOON)

values = st.sampled_from(["x", "y", "", None])
fields = st.dictionaries(st.sampled_from(NAMES), values)


def state(base: Fields, ours: Fields, sent: Fields, **link: Any) -> State:
    sync = EntitySync(accounts=("a", "b"), conflict="a")
    mapping = compile_mapping("person", ROWS, where="here")
    record = RecordState(ID, "person", ours, version=3)
    own = LinkState(ID, base, sent, seen_at=NOON - timedelta(days=1), **link)
    return State("person", mapping, sync, Context(), link=own, record=record)


def shown(raw: Fields | None, at: datetime = NOON) -> Observation:
    return Observation(Ref("b", "contact", "1"), raw, at)


#: Each name with a value, as an account that shows every field.
full = st.fixed_dictionaries(dict.fromkeys(NAMES, st.sampled_from(["x", "y", "z"])))
some = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["x", "y", "z"]))


@given(some, full, some, full)
def test_nothing_differs_if_and_only_if_the_ordinary_path_has_nothing_to_do(
    base, ours, sent, theirs
):
    asked, seen = state(base, ours, sent), shown(theirs)
    plan = decide(asked, seen, new_id=UUID(int=2), now=NOON)
    told = plan.takes or plan.clashes or "b" in plan.marks
    assert bool(compare(asked, seen, QUIET).differences) == bool(told)


@given(fields, fields, fields)
def test_a_comparison_after_a_reading_finds_only_what_must_be_written(base, ours, theirs):
    """What `decide` has taken in differs no more, unless the account is marked as behind."""
    asked, seen = state(base, ours, {}), shown(theirs)
    plan = decide(asked, seen, new_id=UUID(int=2), now=NOON)
    assert asked.link is not None
    link = replace(
        asked.link,
        base=asked.link.base if plan.base is None else plan.base,
        sent=asked.link.sent if plan.sent is None else plan.sent,
    )
    after = replace(asked, link=link, record=plan.record or asked.record)
    mark = "pending" if "b" in plan.marks else None
    found = compare(after, seen, replace(QUIET, mark=mark))
    mapped = {one.field for one in found.differences if one.cause is Cause.MAPPING}
    causes = {one.cause for one in found.differences if one.field not in mapped}
    assert causes <= {Cause.WAITING}
    assert mapped.isdisjoint(ours)


@given(fields, fields, fields, fields)
def test_the_digests_are_equal_if_and_only_if_nothing_differs(base, ours, sent, theirs):
    found = compare(state(base, ours, sent), shown(theirs), QUIET)
    digests = [
        add_digest(EMPTY, entity="person", record_id=str(ID), fields=side)
        for side in (found.ours, found.theirs)
    ]
    assert (digests[0] == digests[1]) == (not found.differences)


@given(st.lists(st.tuples(st.uuids(), fields), unique_by=lambda one: one[0]), st.randoms())
def test_the_digest_does_not_depend_on_the_order_of_the_records(records, random):
    def digest() -> str:
        total = EMPTY
        for id, own in records:
            total = add_digest(total, entity="person", record_id=str(id), fields=own)
        return total

    first = digest()
    random.shuffle(records)
    assert digest() == first


MOVED: dict[str, Any] = {"base": {"title": "x"}, "ours": {"title": "x"}, "sent": {}}
AHEAD: dict[str, Any] = {"base": {"title": "x"}, "ours": {"title": "y"}, "sent": {}}


@pytest.mark.parametrize(
    ("asked", "theirs", "around", "cause"),
    [
        (state(**MOVED), "y", QUIET, Cause.MISSED),
        (state(**MOVED), "y", replace(QUIET, unread=True), Cause.UNREAD),
        (state(**MOVED), "y", replace(QUIET, told_until=NOON - timedelta(1)), Cause.RECENT),
        (state(**MOVED, held=frozenset({"title"})), "y", QUIET, Cause.HELD),
        (state({}, {}, {}), "y", QUIET, Cause.MAPPING),
        (state(**AHEAD), "x", QUIET, Cause.UNMARKED),
        (state(**AHEAD), "x", replace(QUIET, mark="pending"), Cause.WAITING),
        (state(**AHEAD), "x", replace(QUIET, mark="held"), Cause.GUARD),
        (state(**AHEAD), "x", replace(QUIET, mark="dead"), Cause.REFUSED),
        (state(**AHEAD, words={"title": "x"}), "x", QUIET, Cause.WORD),
    ],
    ids=lambda value: str(value) if isinstance(value, Cause) else "",
)
def test_each_difference_has_its_cause(asked, theirs, around, cause):
    (found,) = compare(asked, shown({"title": theirs}), around).differences
    assert (found.field, found.cause) == ("title", cause)
    assert found.reason


def test_a_record_that_is_gone_or_hidden_differs_as_a_whole():
    gone = replace(shown(None), gone=True)
    causes = [
        compare(state(**MOVED), seen, QUIET).differences[0].cause for seen in (gone, shown(None))
    ]
    assert causes == [Cause.DELETED, Cause.HIDDEN]
    doomed = state(**MOVED)
    assert doomed.record is not None
    doomed = replace(doomed, record=replace(doomed.record, state="gone"))
    found = compare(doomed, shown({"title": "x"}), replace(QUIET, mark="pending"))
    assert [(one.field, one.cause) for one in found.differences] == [(None, Cause.WAITING)]


def test_what_the_configuration_lets_differ_is_counted_and_no_difference():
    fields = {"title": FieldSync(direction="to a")}
    asked = state(**AHEAD)
    asked = replace(asked, sync=asked.sync.model_copy(update={"fields": fields}))
    found = compare(asked, shown({"title": "x"}), QUIET)
    assert not found.differences
    assert found.apart == {"title"}
