"""What is done about an error: by its remedy, after pauses that grow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.verdict import MAX_ATTEMPTS, Action, retry_at, verdict
from app.errors import (
    AccountError,
    BadPayloadError,
    ExistsError,
    HeldError,
    RateLimitedError,
    RejectedError,
    StaleError,
    TransientError,
    UnknownOutcomeError,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

attempts = st.integers(min_value=0, max_value=1000)
jitters = st.floats(min_value=0.5, max_value=1.5)


@given(attempts, jitters)
def test_pauses_are_spread_and_never_longer_than_an_hour_and_a_half(tries, jitter):
    pause = retry_at(tries, NOON, jitter=jitter) - NOON
    assert timedelta() < pause <= HOUR * 1.5
    plain = retry_at(tries, NOON) - NOON
    assert plain * 0.49 <= pause <= plain * 1.51


def test_pauses_double_from_a_second_to_an_hour():
    pauses = [retry_at(n, NOON) - NOON for n in range(20)]
    assert pauses[0] == timedelta(seconds=1)
    assert all(2 * one == other for one, other in pairwise(pauses[:12]))
    assert pauses[-1] == HOUR


@given(attempts, jitters)
@pytest.mark.parametrize(
    "error",
    [
        TransientError("503"),
        UnknownOutcomeError("no answer"),
        RateLimitedError(NOON + HOUR),
        AccountError("401"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_trouble_of_the_vendor_or_the_account_waits_and_does_not_die(error, tries, jitter):
    found = verdict(error, tries, NOON, jitter=jitter)
    assert found.action in (Action.RETRY, Action.PAUSE)
    assert found.at is not None
    assert found.at > NOON


def test_a_limit_is_obeyed_to_its_own_time():
    until = NOON + timedelta(minutes=17)
    assert verdict(RateLimitedError(until), 3, NOON).at == until


@given(attempts)
@pytest.mark.parametrize("kind", [RejectedError, HeldError, BadPayloadError])
def test_what_is_refused_is_a_persons_at_once(kind, tries):
    assert verdict(kind("no"), tries, NOON).action is Action.DEAD


@pytest.mark.parametrize("error", [StaleError("409"), ExistsError("409", remote_id="1")])
def test_what_moved_is_read_again_at_once_but_not_for_ever(error):
    assert verdict(error, 0, NOON).action is Action.REREAD
    assert verdict(error, 0, NOON).at == NOON
    assert verdict(error, MAX_ATTEMPTS, NOON).action is Action.DEAD


@given(attempts)
def test_a_bug_is_tried_a_few_times_and_then_a_persons(tries):
    wanted = Action.DEAD if tries >= MAX_ATTEMPTS else Action.RETRY
    assert verdict(ZeroDivisionError(), tries, NOON).action is wanted
