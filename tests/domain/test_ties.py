"""The laws of who belongs to whom: many companies, one of them primary, and labels."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from app.domain import ties
from app.domain.merge import Merged, Winner, merge
from app.domain.values import Value

IDS = [f"0000000{n}-0000-4000-8000-000000000000" for n in range(4)]
WORDS = ("Decision maker", "Pays")

Fields = dict[str, Value]


def contact(primary: str | None, links: dict[str, set[str]]) -> Fields:
    """What a portal shows of a contact with these links."""
    return {
        "company": primary,
        "companies": sorted(links),
        "labels": sorted(ties.said("companies", id, word) for id in links for word in links[id]),
    }


@st.composite
def contacts(draw: st.DrawFn) -> Fields:
    links = draw(st.dictionaries(st.sampled_from(IDS), st.sets(st.sampled_from(WORDS))))
    return contact(draw(st.sampled_from(sorted(links))) if links else None, links)


def first(_name: str, _ours: Value, _theirs: Value) -> tuple[Winner, str]:
    return Winner.OURS, "the first stays"


@dataclass(frozen=True)
class Met:
    """Our record, and what an account last agreed on."""

    ours: Fields
    base: Fields


def met(base: Fields, ours: Fields, theirs: Fields) -> Met:
    found: Merged = merge(base, {}, ours, theirs, policy=first)
    left = base.get("company") if "companies" not in theirs else None
    takes = ties.followed("person", ours, found.takes, left=left)
    return Met({**ours, **{take.field: take.new for take in takes}}, found.base)


def links_of(fields: Fields) -> set[str]:
    found = fields["companies"]
    assert isinstance(found, list)
    return set(found)


def labels_of(fields: Fields) -> set[str]:
    found = fields["labels"]
    assert isinstance(found, list)
    return set(found)


def is_whole(fields: Fields) -> bool:
    named = {one.parent for one in ties.labels_in(fields["labels"])}
    company = {str(fields["company"])} if fields["company"] else set()
    return named | company <= links_of(fields)


@given(contacts(), contacts(), contacts())
def test_the_company_is_one_of_the_companies_and_what_is_labelled_is_linked(base, ours, theirs):
    assert is_whole(met(base, ours, theirs).ours)


@given(contacts(), contacts(), contacts())
def test_links_and_labels_that_both_added_survive_and_none_is_invented(base, ours, theirs):
    merged = met(base, ours, theirs).ours
    for of in (links_of, labels_of):
        assert of(merged) >= (of(ours) | of(theirs)) - of(base)
        assert of(merged) <= of(ours) | of(theirs)


@given(contacts(), contacts(), contacts())
def test_a_link_that_one_removed_and_nobody_else_has_touched_is_gone(base, ours, theirs):
    merged = met(base, ours, theirs).ours
    gone = (links_of(base) & links_of(ours)) - links_of(theirs)
    touched = {
        one.parent for one in ties.labels_in(ours["labels"]) if str(one) not in labels_of(base)
    }
    assert not (gone - touched - {ours["company"]}) & links_of(merged) - {merged["company"]}
    assert not ((labels_of(base) - labels_of(theirs)) & labels_of(merged)) - labels_of(theirs)


@given(contacts(), contacts(), contacts())
def test_two_portals_are_merged_in_any_order_but_for_the_primary_of_both(base, one, other):
    def both(first: Fields, second: Fields) -> Fields:
        return met(base, met(base, base, first).ours, second).ours

    ahead, back = both(one, other), both(other, one)
    assert labels_of(ahead) == labels_of(back)
    # Who is primary is one value, which the policy decides; that company is linked in any case.
    primary = {ahead["company"], back["company"]}
    assert links_of(ahead) - primary == links_of(back) - primary


@given(contacts(), contacts())
def test_the_same_news_twice_changes_nothing(base, theirs):
    once = met(base, base, theirs)
    assert met(once.base, once.ours, theirs) == once


@given(contacts(), st.sampled_from(IDS))
def test_who_knows_of_one_company_moves_the_record_from_that_one_alone(ours, to):
    base: Fields = {"company": ours["company"]}
    moved = met(base, ours, {"company": to})
    assert moved.ours["company"] == to
    labelled = {one.parent for one in ties.labels_in(ours["labels"])}
    left = {str(ours["company"])} - labelled
    assert links_of(moved.ours) == (links_of(ours) - left) | {to}
    assert labels_of(moved.ours) == labels_of(ours)
    assert met(moved.base, moved.ours, {"company": to}) == moved


@given(contacts(), st.permutations(IDS))
def test_labels_follow_a_record_that_was_merged_into_another(ours, ids):
    lost, kept, *_ = ids
    found = ties.labels_in(ties.renamed(ours["labels"], lost, kept))
    words = {(one.parent, one.word) for one in ties.labels_in(ours["labels"])}
    assert {(one.parent, one.word) for one in found} == {
        (kept if parent == lost else parent, word) for parent, word in words
    }
