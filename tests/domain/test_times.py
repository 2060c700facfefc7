"""Days stay days and moments stay moments, from one CRM to the other and back, however often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.codecs import Context
from app.domain.mapping import to_canonical, to_remote
from app.domain.values import Directory
from tests.domain.test_activities import built_in

ZONES = (
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    None,
)
#: The clocks of some of these zones went forward or back on them, one of them over midnight.
CHANGES = [date(2026, 3, 8), date(2026, 3, 29), date(2026, 11, 1), date(2018, 11, 4)]
days = st.one_of(st.dates(date(1971, 1, 2), date(2200, 1, 1)), st.sampled_from(CHANGES))
moments = st.datetimes(datetime(1971, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))


def in_hubspot(value: Any) -> Any:
    """Moments are kept to the millisecond, and shown in UTC.

    https://developers.hubspot.com/docs/api-reference/legacy/crm/properties/guide
    """
    if not isinstance(value, str) or "T" not in value:
        return value
    at = datetime.fromisoformat(value).astimezone(UTC)
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def in_close(value: Any) -> Any:
    """Moments are kept as they are, and shown in UTC; days are days.

    https://developer.close.com/api/resources/activities
    """
    if not isinstance(value, str) or "T" not in value:
        return value
    return datetime.fromisoformat(value).astimezone(UTC).isoformat()


KEEPS: Mapping[str, Callable[[Any], Any]] = {"close": in_close, "hubspot": in_hubspot}


def kept(connector: str, entity: str, fields: Mapping[str, Any], zone: str | None) -> Any:
    """What we read again of what we wrote there."""
    mapping = built_in(connector, entity)
    context = Context(directory=Directory(zone=zone))
    remote, held = to_remote(mapping, fields, fields, context)
    assert not held
    shown = {path: KEEPS[connector](value) for path, value in remote.items()}
    for row in mapping.rows:  # what a CRM sets by itself, such as when it was logged
        shown = {**dict.fromkeys(row.paths), **shown} if shown.keys() & {*row.paths} else shown
    read = to_canonical(mapping, shown, context)
    return {name: read[name] for name in fields}


def around(entity: str, fields: Mapping[str, Any], zone: str | None) -> Any:
    """From Close to HubSpot and back, twice."""
    for _ in range(2):
        for connector in ("close", "hubspot"):
            fields = kept(connector, entity, fields, zone)
    return fields


@given(days, st.sampled_from(ZONES))
@example(date(2018, 11, 4), "America/Sao_Paulo")  # a day without a midnight
@example(date(2011, 12, 29), "Pacific/Apia")  # the day before the one that never was
def test_the_close_date_of_a_deal_never_moves(day, zone):
    fields = {"close_date": day.isoformat()}
    assert around("deal", fields, zone) == fields


@given(days, st.sampled_from(ZONES))
def test_the_day_on_which_a_task_is_due_never_moves(day, zone):
    fields = {"due": day.isoformat()}
    assert around("task", fields, zone) == fields


@pytest.mark.parametrize(
    ("entity", "name"), [("note", "at"), ("call", "at"), ("email", "at"), ("task", "due")]
)
@given(moments, st.sampled_from(ZONES))
def test_a_moment_is_the_same_moment_everywhere(entity, name, at, zone):
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    if at.timetz().replace(tzinfo=None) == datetime.min.time():
        at += timedelta(seconds=1)  # of a task midnight says a day
    (text,) = to_canonical(
        built_in("close", entity), shown(entity, name, at.isoformat()), Context()
    ).values()
    assert around(entity, {name: text}, zone) == {name: text}
    assert datetime.fromisoformat(str(text)) == at


@given(moments, st.sampled_from([zone for zone in ZONES if zone]))
def test_a_moment_with_a_zone_of_its_own_is_that_moment(at, zone):
    local = at.replace(microsecond=0).astimezone(ZoneInfo(zone)).isoformat()
    read = to_canonical(built_in("close", "note"), shown("note", "at", local), Context())
    assert datetime.fromisoformat(str(read["at"])) == at.replace(microsecond=0)


@given(moments)
def test_what_one_keeps_more_of_than_the_other_is_cut_once_and_then_stays(at):
    (first,) = around("note", {"at": at.isoformat().replace("+00:00", "Z")}, None).values()
    assert around("note", {"at": first}, None) == {"at": first}
    assert timedelta() <= at - datetime.fromisoformat(first) < timedelta(milliseconds=1)


def shown(entity: str, name: str, value: str) -> dict[str, Any]:
    """A record of Close that shows this moment."""
    row = built_in("close", entity).row_of(name)
    assert row is not None
    return {**dict.fromkeys(row.paths), row.paths[-1]: value}
