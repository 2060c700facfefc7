"""Every transform keeps apart what is apart, and brings back what it wrote."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from importlib.resources import files
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.close.shapes import body_of
from app.connectors.hubspot.shapes import as_properties
from app.domain.codecs import CODECS, Context, Held
from app.domain.entities import equal
from app.domain.mapping import compile_mapping, to_canonical, to_remote
from app.domain.values import Directory

SINGLE = sorted(name for name, codec in CODECS.items() if codec.shape == (1, 1))
PLAIN = [name for name in SINGLE if name not in ("close_address", "multi_select")]
FIVE: list[Any] = [None, "", 0, False]  # the fifth is to be absent


def get(codec: str, value: Any) -> Any:
    return CODECS[codec].get([value], Context())[0]


def put(codec: str, value: Any) -> Any:
    return CODECS[codec].put([value], Context())[0]


@pytest.mark.parametrize("codec", PLAIN)
def test_null_empty_zero_and_false_are_read_apart(codec):
    for one, other in combinations(FIVE, 2):
        assert not equal(get(codec, one), get(codec, other)), (one, other)


@pytest.mark.parametrize("codec", PLAIN)
def test_null_empty_zero_and_false_are_written_apart(codec):
    for one, other in combinations(FIVE, 2):
        assert not equal(put(codec, one), put(codec, other)), (one, other)


@pytest.mark.parametrize("codec", SINGLE)
def test_what_was_not_sent_is_not_read(codec):
    mapping = compile_mapping("person", {"custom.x": {"path": "x", "as": codec}}, where="here")
    assert to_canonical(mapping, {"y": 1}, Context()) == {}
    assert "custom.x" in to_canonical(mapping, {"x": None}, Context())


@pytest.mark.parametrize("codec", SINGLE)
@given(
    junk=st.none() | st.text() | st.integers() | st.booleans() | st.floats() | st.lists(st.text())
)
def test_whatever_a_vendor_sends_is_read_without_an_error(codec, junk):
    if codec == "close_address":
        return  # its value is a list of objects
    get(codec, junk)


def test_the_five_are_apart_in_what_each_vendor_is_sent():
    fields = {"custom.a": None, "custom.b": "", "custom.c": 0, "custom.d": False}
    rows = {name: {"path": name[-1]} for name in fields}
    mapping = compile_mapping("person", rows, where="here")
    remote, _ = to_remote(mapping, fields, fields, Context())
    assert body_of(remote, {}) == {"a": None, "b": "", "c": 0, "d": False}
    # HubSpot has text only, and clears with an empty one:
    # https://developers.hubspot.com/docs/api-reference/legacy/crm/using-object-apis
    assert as_properties(remote) == {"a": "", "b": "", "c": "0", "d": "false"}


@pytest.mark.parametrize("connector", ["close", "hubspot"])
def test_a_clear_in_the_built_in_mappings_is_a_clear_and_silence_is_silence(connector):
    text = (files("app.connectors") / connector / "mapping.yaml").read_text()
    for entity, rows in yaml.safe_load(text).items():
        mapping = compile_mapping(entity, rows, where=connector)
        assert to_canonical(mapping, {}, Context()) == {}
        for row in mapping.rows:
            if row.codec.shape != (1, 1) or row.direction != "both":
                continue
            (name,) = row.fields
            assert to_remote(mapping, [name], {name: None}, Context())[0] == {row.paths[0]: None}


decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12)


@given(decimals)
def test_a_number_comes_back_as_the_same_number(number):
    text = get("decimal", str(number))
    assert Decimal(text) == number
    assert get("decimal", put("decimal", text)) == text
    assert get("number", put("number", get("number", text))) == get("number", text)


@pytest.mark.parametrize("huge", ["1E+999999999", "NaN", "-Infinity", "sNaN", "9" * 100])
def test_what_is_no_sensible_number_stays_its_text(huge):
    assert get("decimal", huge) == get("integer", huge) == huge


def test_whole_and_broken_numbers_are_told_apart():
    assert get("integer", "12") == 12
    assert get("integer", "12.50") == "12.5"
    assert put("number", "12.5") == 12.5
    assert put("number", "0.10000000000000000001") == "0.10000000000000000001"


@pytest.mark.parametrize(
    ("given_", "day"),
    [
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T00:00:00Z", "2026-01-31"),
        ("2026-01-31T23:30:00-11:00", "2026-01-31"),
        ("2026-01-31T00:30:00+14:00", "2026-01-31"),
        (1769817600000, "2026-01-31"),
        ("1769817600000", "2026-01-31"),
    ],
)
def test_a_day_is_the_day_that_was_written_whatever_the_zone(given_, day):
    assert get("date", given_) == day


ZONES = ("America/New_York", "Asia/Tokyo", "Pacific/Kiritimati", "America/Sao_Paulo", None)


@given(st.dates(min_value=date(1900, 1, 2)), st.sampled_from(ZONES))
def test_a_day_that_is_kept_as_a_moment_is_that_day_for_the_people_there(day, zone):
    context = Context(directory=Directory(zone=zone))
    (written,) = CODECS["midnight"].put([day.isoformat()], context)
    assert CODECS["midnight"].get([written], context) == [day.isoformat()]
    assert written[:10] == day.isoformat()
    moment = datetime.fromisoformat(written)
    assert moment.astimezone(ZoneInfo(zone or "UTC")).date() == day


@pytest.mark.parametrize(
    ("zone", "shown", "day"),
    [
        ("Asia/Tokyo", "2026-01-31T15:00:00Z", "2026-02-01"),  # midnight there
        ("America/New_York", "2026-02-02T03:59:00Z", "2026-02-01"),
        ("America/New_York", "2026-02-01T00:00:00Z", "2026-02-01"),  # meant as a day
        ("Nowhere/AtAll", "2026-02-01T12:00:00Z", "2026-02-01"),
        (None, "2026-02-01T12:00:00Z", "2026-02-01"),
        (None, None, None),
        (None, "", ""),
    ],
)
def test_a_moment_that_stands_for_a_day_is_read_in_the_zone_of_the_account(zone, shown, day):
    context = Context(directory=Directory(zone=zone))
    assert CODECS["midnight"].get([shown], context) == [day]


@pytest.mark.parametrize(
    "same",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.000+00:00",
        "2026-01-31T12:00:00",
        "2026-01-31T07:00:00-05:00",
        1769860800000,
    ],
)
def test_one_moment_has_one_spelling(same):
    assert get("datetime", same) == "2026-01-31T12:00:00Z"
    assert put("epoch_ms", get("epoch_ms", same)) == 1769860800000


@given(st.datetimes().map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)))
def test_a_moment_comes_back_from_milliseconds(at):
    text = get("datetime", at.isoformat())
    if at.year > 1971:  # fewer than nine digits could be anything
        assert get("epoch_ms", put("epoch_ms", text)) == text


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("1500.5", "USD", 150050), ("1500", "JPY", 1500), ("1.234", "KWD", 1234), ("0", "USD", 0)],
)
def test_money_has_the_decimals_of_its_currency(amount, currency, minor):
    assert CODECS["cents"].get([minor, currency], Context()) == [amount, currency]
    assert CODECS["cents"].put([amount, currency], Context())[0] == minor
    written = CODECS["money"].put([amount, currency], Context())
    assert CODECS["money"].get(written, Context()) == [amount, currency]


def test_an_amount_that_is_no_number_is_held():
    with pytest.raises(Held, match="'a lot' is not a number"):
        CODECS["cents"].put(["a lot", "USD"], Context())


def test_an_amount_in_another_currency_than_the_accounts_is_held():
    dollars = Context(directory=Directory(currency="USD"))
    with pytest.raises(Held, match="in JPY, and all amounts there are in USD"):
        CODECS["cents"].put(["5000", "JPY"], dollars)
    assert CODECS["cents"].put(["50", None], dollars)[0] == 5000  # a CRM with one does not say
    assert CODECS["cents"].put([None, "JPY"], dollars)[0] is None  # nothing is nothing anywhere
    assert (
        CODECS["cents"].put(["5000", None], Context(directory=Directory(currency="JPY")))[0] == 5000
    )


@pytest.mark.parametrize("same", ["b;a", ["a", "b"], ["b", "a", "b"], ";a;b"])
def test_a_choice_of_several_has_no_order(same):
    assert get("multi_select", same) == ["a", "b"]


def test_no_choice_and_no_answer_are_two_things():
    assert get("multi_select", "") == []
    assert get("multi_select", None) is None
    assert (put("multi_select", []), put("multi_select", None)) == ([], None)


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), max_size=5))
def test_choices_come_back_from_both_vendors(choices):
    canonical = get("multi_select", choices)
    assert get("multi_select", put("multi_select", canonical)) == canonical
    assert (
        get("multi_select", as_properties({"x": put("multi_select", canonical)})["x"]) == canonical
    )
