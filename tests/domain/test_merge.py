"""The laws of merge, one test each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.codecs import ABSENT
from app.domain.draft import agreed_after_update
from app.domain.entities import equal, is_blank
from app.domain.merge import Merged, Winner, behind, merge
from app.domain.values import Value

NAMES = ("name", "phone", "title", "amount", "emails")

plain = st.one_of(
    st.none(), st.just(""), st.just(0), st.just(False), st.sampled_from(["a", "b", "c"]), st.just(7)
)
sets = st.lists(st.sampled_from(["x", "y", "z"]), unique=True).map(sorted)


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Value]:
    names = draw(st.sets(st.sampled_from(NAMES)))
    return {name: draw(sets if name == "emails" else plain) for name in names}


def test_an_empty_set_in_a_record_just_met_is_no_news():
    known: list[dict[str, Value]] = [{}, {"emails": []}, {"emails": None}]
    for ours in known:
        met = merge({}, {}, ours, {"emails": []}, policy=never)
        assert (met.takes, met.base) == ((), {"emails": []})


def theirs_win(_name: str, _ours: Value, _theirs: Value) -> tuple[Winner, str]:
    return Winner.THEIRS, "theirs"


def ours_wins(_name: str, _ours: Value, _theirs: Value) -> tuple[Winner, str]:
    return Winner.OURS, "ours"


def held(_name: str, _ours: Value, _theirs: Value) -> tuple[Winner, str]:
    return Winner.NOBODY, "held"


def never(name: str, ours: Value, theirs: Value) -> tuple[Winner, str]:
    raise AssertionError(f"{name} is no conflict: {ours!r}, {theirs!r}")


policies = st.sampled_from([theirs_win, ours_wins])


@given(fields(), fields(), fields(), policies)
def test_merge_is_idempotent_the_same_news_twice_changes_nothing(base, ours, theirs, policy):
    once = merge(base, {}, ours, theirs, policy=policy)
    twice = merge(once.base, once.sent, once.onto(ours), theirs, policy=policy)
    assert twice.takes == ()
    assert twice.clashes == ()
    assert (twice.base, twice.sent) == (once.base, once.sent)


@given(fields(), fields(), fields())
def test_merge_is_echo_silent_our_own_write_coming_back_changes_nothing(base, ours, spelled):
    """Also where the vendor keeps what we wrote in another spelling."""
    stored = {**ours, **{name: value for name, value in spelled.items() if name in ours}}
    base, sent = agreed_after_update(base, {}, ours, told=ours.keys(), stored=stored)
    echo = merge(base, sent, ours, {**base, **stored}, policy=never)
    assert (echo.takes, echo.clashes) == ((), ())
    assert (echo.base, echo.sent) == (base, sent)
    assert behind(base, sent, ours, ours.keys()) == frozenset()


@given(fields(), fields(), fields())
def test_a_field_they_did_not_send_is_no_opinion(base, ours, theirs):
    merged = merge(base, {}, ours, theirs, policy=theirs_win)
    untouched = ours.keys() - theirs.keys()
    assert all(equal(merged.onto(ours)[name], ours[name]) for name in untouched)
    assert {n: v for n, v in merged.base.items() if n not in theirs} == {
        n: v for n, v in base.items() if n not in theirs
    }


@given(fields(), fields(), policies)
def test_what_only_they_changed_is_taken(base, theirs, policy):
    merged = merge(base, {}, base, theirs, policy=policy)
    assert merged.clashes == ()
    for name in theirs.keys() & base.keys():
        assert merged.onto(base)[name] == theirs[name]


@given(fields(), fields(), policies)
def test_what_only_we_changed_stays(base, ours, policy):
    ours = {**base, **ours}
    merged = merge(base, {}, ours, base, policy=policy)
    assert merged.takes == ()
    assert merged.onto(ours) == ours


@given(fields(), fields(), fields())
def test_no_value_is_lost_without_a_trace(base, ours, theirs):
    """Whoever loses a conflict, both values stand in what is journalled."""
    for policy in (theirs_win, ours_wins, held):
        merged = merge(base, {}, ours, theirs, policy=policy)
        for clash in merged.clashes:
            assert clash.ours == ours[clash.field]
            assert clash.theirs == theirs[clash.field]
        for take in merged.takes:
            assert take.old == ours.get(take.field, ABSENT)


@given(fields(), fields(), fields(), policies)
def test_merge_is_conservative_it_never_invents_a_value(base, ours, theirs, policy):
    """Whatever stands afterwards stood with us or with them; a set has elements of both."""
    for name, value in merge(base, {}, ours, theirs, policy=policy).onto(ours).items():
        sides = [side[name] for side in (ours, theirs) if name in side]
        if isinstance(value, list):
            assert set(value) <= {x for side in sides if isinstance(side, list) for x in side}
        else:
            assert any(equal(value, side) for side in sides)


@given(fields(), fields(), fields(), policies)
def test_an_edit_that_does_not_survive_is_told_as_the_loser_of_a_conflict(
    base, ours, theirs, policy
):
    """Of two edits one may lose, and then it stands in the journal; no other edit is undone."""
    ours = {**base, **ours}
    merged = merge(base, {}, ours, theirs, policy=policy)
    after, lost = merged.onto(ours), {clash.field: clash for clash in merged.clashes}
    for name in theirs.keys() & base.keys() - {"emails"}:
        mine, value = ours[name], theirs[name]
        if not equal(mine, base[name]) and not equal(after[name], mine):
            assert lost[name].ours == mine
        both_blank = is_blank(mine) and is_blank(value)
        if not equal(value, base[name]) and not equal(after[name], value) and not both_blank:
            assert lost[name].theirs == value


def never_asked(name: str, _ours: Value, _theirs: Value) -> tuple[Winner, str]:
    raise AssertionError(f"nobody contradicts anybody in {name}")


@given(fields(), fields())
def test_clock_skew_cannot_change_a_winner_that_causal_order_decides(base, news):
    """An edit made over the value that both agreed on is taken; no clock is even looked at."""
    theirs = {name: value for name, value in news.items() if name in base}
    assert merge(base, {}, base, theirs, policy=never_asked).onto(base) == {**base, **theirs}
    assert merge(base, {}, {**base, **theirs}, base, policy=never_asked).takes == ()


@given(fields(), fields(), fields())
def test_the_base_of_a_held_field_does_not_move(base, ours, theirs):
    merged = merge(base, {}, ours, theirs, policy=held)
    for clash in merged.clashes:
        assert merged.base.get(clash.field, ABSENT) == base.get(clash.field, ABSENT)
        assert merged.onto(ours)[clash.field] == ours[clash.field]


@given(sets, sets, sets)
def test_sets_merge_element_by_element(base, ours, theirs):
    merged = merge(
        {"emails": base}, {}, {"emails": ours}, {"emails": theirs}, policy=theirs_win
    ).onto({"emails": ours})
    emails = merged["emails"]
    assert isinstance(emails, list)
    found = set(emails)
    assert set(theirs) - set(base) <= found
    assert not (set(base) - set(theirs)) & found - set(ours) - set(theirs)
    assert set(ours) - set(base) <= found


@given(fields(), fields(), fields())
def test_merge_is_order_free_for_non_conflicting_edits(base, left, right):
    """Two systems edit different fields: the order of their news does not matter."""
    right = {name: value for name, value in right.items() if name not in left}
    ours = dict(base)

    def take(news: dict[str, Value], onto: dict[str, Value]) -> dict[str, Value]:
        return merge(base, {}, onto, {**base, **news}, policy=never).onto(onto)

    assert take(right, take(left, ours)) == take(left, take(right, ours))


def one(base: Value, ours: Value, theirs: Value, **sent: Value) -> Merged:
    def bag(value: Value) -> dict[str, Value]:
        return {} if value is ABSENT else {"title": value}

    return merge(bag(base), sent, bag(ours), bag(theirs), policy=theirs_win)


def test_a_cleared_field_is_an_edit_like_any_other():
    assert one("CEO", "CEO", None).onto({"title": "CEO"}) == {"title": None}


def test_two_people_who_clear_the_same_field_agree_however_their_crms_show_it():
    merged = merge({"title": "CEO"}, {}, {"title": None}, {"title": ""}, policy=held)
    assert (merged.takes, merged.clashes) == ((), ())
    assert behind(merged.base, merged.sent, {"title": None}, {"title"}) == frozenset()


def test_a_blank_in_a_record_just_met_never_overwrites_a_value():
    for blank in (None, ""):
        assert one(ABSENT, "CEO", blank).takes == ()


def test_zero_false_and_blank_are_different_values():
    for old, new in ((0, False), (None, 0), ("", None), (False, None)):
        merged = one(old, old, new)
        found = merged.onto({"title": old})["title"]
        assert (found, type(found)) == (new, type(new))


def test_a_value_the_vendor_reformats_is_learned_and_not_sent_again():
    base, sent, ours = {"phone": "(415) 555-0100"}, {"phone": "+14155550100"}, "+14155550100"
    assert behind(base, sent, {"phone": ours}, {"phone"}) == frozenset()
    again = merge(base, sent, {"phone": ours}, {"phone": "(415) 555-0100"}, policy=theirs_win)
    assert again.takes == ()


def test_an_edit_after_the_vendor_reformatted_is_taken():
    merged = merge(
        {"phone": "(415) 555-0100"},
        {"phone": "+14155550100"},
        {"phone": "+14155550100"},
        {"phone": "+14155550199"},
        policy=ours_wins,
    )
    assert merged.onto({}) == {"phone": "+14155550199"}
    assert merged.clashes == ()
