"""Transitions of an engine's health, with a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.engine.health import Condition, EngineHealth

SERVING, LOST, STALE, GIVEN_UP = Condition


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def health_of(clock, **limits):
    return EngineHealth(**{"most_silent": 10.0, "most_restarts": 2, **limits}, clock=clock)


def test_silence_is_a_loss_only_when_it_lasts(clock):
    health = health_of(clock)
    clock.now += 10.0
    health.silent("has not answered")
    assert health.condition is SERVING
    health.answered()
    clock.now += 10.1
    health.silent("has not answered")
    assert health.condition is LOST and health.why == "has not answered for 10 seconds"


def test_an_end_is_a_loss_at_once(clock):
    health = health_of(clock)
    health.ended("was ended by SIGKILL")
    assert health.condition is LOST and health.restarts == 1


def test_what_comes_back_is_stale_until_its_weights_are_back(clock):
    health = health_of(clock)
    health.ended("gone")
    health.restored()  # a push that was under way
    assert health.condition is LOST
    clock.now += 30.0
    health.answered()
    assert health.condition is STALE
    health.answered()
    assert health.condition is STALE
    clock.now += 2.0
    health.restored()
    assert health.condition is SERVING and health.seconds_lost == pytest.approx(32.0)


def test_seconds_lost_count_from_the_last_answer(clock):
    health = health_of(clock)
    clock.now += 11.0
    health.silent("has not answered")
    clock.now += 1.0
    health.answered()
    health.restored()
    assert health.seconds_lost == pytest.approx(12.0)


def test_it_comes_back_a_bounded_number_of_times(clock):
    health = health_of(clock, most_restarts=2)
    for _ in range(2):
        health.ended("gone")
        health.answered()
        health.restored()
    health.ended("gone")
    assert health.condition is GIVEN_UP and health.why == "gone, after 2 restarts"
    health.answered()
    health.restored()
    assert health.condition is GIVEN_UP


def test_starts_that_fail_are_restarts_too(clock):
    health = health_of(clock, most_restarts=2)
    health.ended("gone")
    health.start_failed("could not be started")
    assert health.condition is LOST
    health.start_failed("could not be started")
    assert health.condition is GIVEN_UP


def test_one_that_is_only_waited_for_is_waited_for_so_long(clock):
    health = health_of(clock, most_wait=60.0)
    health.ended("takes no connections")
    clock.now += 60.0
    health.ended("takes no connections")
    assert health.condition is LOST
    clock.now += 0.1
    health.ended("takes no connections")
    assert health.condition is GIVEN_UP and "did not come back within 60 seconds" in health.why


EVENTS = st.sampled_from(["answered", "silent", "ended", "start_failed", "restored"])


@given(st.lists(st.tuples(EVENTS, st.floats(0, 30))))
def test_no_events_lead_from_lost_to_serving_without_new_weights(events):
    clock = Clock()
    health = health_of(clock, most_wait=100.0)
    for event, seconds in events:
        clock.now += seconds
        before, restarts = health.condition, health.restarts
        getattr(health, event)(*[] if event in ("answered", "restored") else ["fault"])
        allowed = {
            SERVING: {LOST, GIVEN_UP},
            LOST: {STALE, GIVEN_UP},
            STALE: {SERVING, LOST, GIVEN_UP},
            GIVEN_UP: set(),
        }
        assert health.condition is before or health.condition in allowed[before]
        assert event == "restored" or health.condition is not SERVING or before is SERVING
        assert restarts <= health.restarts <= 2 and health.seconds_lost >= 0
