"""What a vendor's own history says of a value of ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.domain.codecs import CODECS, Context
from app.domain.edits import EVER, made_at, still_timed
from app.domain.mapping import EntityMapping, Row
from app.domain.values import Claim, Edit

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = NOON + timedelta(minutes=1)
TITLE = EntityMapping("person", (Row(("title",), ("role",), CODECS["text"]),))


def when(value: str, *edits: Edit) -> datetime:
    """When this value was edited, of which we saw at noon that it was there."""
    found = {"role": edits}
    return made_at(TITLE, "title", value, found, seen_at=NOON, context=Context())


def test_the_edit_that_gave_our_value_counts_though_its_clock_is_ahead_of_ours():
    assert when("ours", Edit("ours", SOON), Edit("first", NOON - timedelta(hours=1))) == SOON


def test_an_edit_that_we_have_not_seen_is_not_ours():
    before = NOON - timedelta(seconds=1)
    assert when("ours", Edit("newer", SOON), Edit("ours", before)) == before


def test_where_no_edit_shows_our_value_the_last_before_we_saw_it_counts():
    before = NOON - timedelta(seconds=1)
    assert when("ours", Edit("newer", SOON), Edit("OURS, spelled otherwise", before)) == before
    assert when("ours") == EVER


def test_the_time_of_an_edit_is_not_that_of_a_later_one_which_was_read_instead():
    told = [Claim(NOON, {"role": "first", "phone": "1"}, {})]
    times = {"role": NOON, "phone": NOON}
    assert still_timed(times, told, {"role": "second", "phone": "1"}) == {"phone": NOON}
    assert still_timed(times, told, {"role": "first", "phone": "1"}) == times


def test_a_blank_is_the_same_however_it_is_shown():
    told = [Claim(NOON, {"role": ""}, {})]
    assert still_timed({"role": NOON}, told, {"role": None}) == {"role": NOON}
