"""SOQL is built from checked names and quoted values; the local Salesforce reads it back."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.salesforce import soql
from app.errors import RejectedError
from sandbox.salesforce import soql as grammar

#: What somebody would try, beside what hypothesis thinks of.
NASTY = [
    "O'Brien",
    "\\",
    "\\'",
    "' OR Name != '",
    "\\' OR Name LIKE '%",
    "x') LIMIT 1 --",
    "%_%",
    "\u2028\u0000\u0085\ud800",
    "line\nline\r\t\b\f",
    "‘quoted’",
    "\\u0027 OR Id != null",
]
texts = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=())))


def where(condition: soql.Condition):
    """What the vendor's grammar makes of a condition."""
    return grammar.parse(soql.select(["Id"], "Contact", condition)).where


@given(texts)
def test_any_text_comes_back_as_that_text_and_nothing_more(text: str):
    found = where(soql.equals("LastName", text))
    assert isinstance(found, grammar.Compare)
    assert (found.path, found.value.kind, found.value.value) == ("LastName", "text", text)


@given(st.lists(texts, min_size=1, max_size=8))
def test_a_list_has_exactly_its_texts(listed: list[str]):
    found = where(soql.within("Email", listed))
    assert isinstance(found, grammar.Compare)
    assert [literal.value for literal in found.value] == listed


@given(texts)
def test_what_is_contained_has_no_wildcards_of_its_own(text: str):
    found = where(soql.contains("Website", text))
    assert isinstance(found, grammar.Compare)
    letters = grammar.characters(found.value.raw, like=True)
    assert letters == [("%", True), *((c, False) for c in text), ("%", True)]


@given(texts, texts, st.booleans())
def test_conditions_cannot_break_out_of_each_other(one: str, other: str, both: bool):
    join = soql.every if both else soql.some
    found = where(join(soql.equals("FirstName", one), soql.equals("LastName", other)))
    assert isinstance(found, grammar.Logic)
    assert [part.value.value for part in found.parts] == [one, other]


@given(texts)
def test_only_an_api_name_is_a_name(text: str):
    try:
        shown = soql.name(text)
    except RejectedError:
        return
    assert shown == text
    assert grammar.parse(soql.select(["Id", text], "Account")).select[1] == text


@pytest.mark.parametrize(
    "bad", ["", "Name ", "Name--", "Id FROM User", "1a", "a..b", "a.", "Größe", "x'"]
)
def test_what_is_no_api_name_is_refused(bad: str):
    for build in (
        lambda: soql.select([bad], "Account"),
        lambda: soql.select(["Id"], bad),
        lambda: soql.select(["Id"], "Account", order=[bad]),
        lambda: soql.equals(bad, 1),
        lambda: soql.contains(bad, "x"),
    ):
        with pytest.raises(RejectedError):
            build()


def test_values_have_the_literals_of_their_types():
    east = timezone(timedelta(hours=5, minutes=30))
    assert [
        soql.literal(value)
        for value in (
            None,
            True,
            0,
            -7,
            Decimal("1500.50"),
            date(2026, 1, 31),
            datetime(2026, 1, 31, 17, 30, tzinfo=east),
            datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC),
        )
    ] == [
        "null",
        "true",
        "0",
        "-7",
        "1500.50",
        "2026-01-31",
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.250Z",
    ]


@pytest.mark.parametrize("bad", [datetime(2026, 1, 31), Decimal("NaN"), 1.5, ["a"], b"a"])
def test_what_has_no_literal_is_refused(bad):
    with pytest.raises(RejectedError):
        soql.literal(bad)


def test_a_condition_of_nothing_is_refused():
    with pytest.raises(RejectedError):
        soql.every()
    with pytest.raises(RejectedError):
        soql.some()
    with pytest.raises(RejectedError):
        soql.within("Id", [])


@given(st.lists(texts, max_size=40))
def test_a_long_list_is_asked_in_parts_that_fit(values: list[str]):
    parts = list(soql.chunks(values, room=600))
    assert [value for part in parts for value in part] == values
    assert all(parts)
    for part in parts:
        if len(part) > 1:
            text = str(soql.within("Email", part))
            assert len(text.encode("utf-8", "surrogatepass")) < 600
