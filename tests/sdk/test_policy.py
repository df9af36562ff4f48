"""When a device may learn, connect and send: every limit, every condition that is not known."""

import logging
import math
import tracemalloc
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasuki.sdk import policy, solver
from tasuki.sdk.errors import InputError
from tasuki.sdk.policy import Conditions, Decision, Limits, Sensor
from tasuki.sdk.problem import Problem

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=timezone(timedelta(hours=9)))
UNKNOWN = Conditions()


def at(hour: int, minute: int = 0) -> datetime:
    return NOON.replace(hour=hour, minute=minute)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(name, value) for name in ("ram", "disk", "bytes_per_day") for value in (-1, 1.5, "1", True, math.inf)],
        *[("min_battery", value) for value in (-0.1, 1.1, math.nan, "0.5", True, 20)],
        *[
            ("hours", value)
            for value in (
                (), [], 5, "22-6", (22, 6), [(22,)], [(22, 6, 7)], [(22, 22)], [(24, 6)], [(-1, 6)], [(1, 25)],
                [(1, math.nan)], [("1", 2)], [(True, 2)], [(1, 2), None],
            )
        ],
    ],
)  # fmt: skip
def test_each_bad_limit_is_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{field}.*(give|None)"):
        Limits(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("battery", 80),
        ("battery", math.nan),
        ("battery", -0.1),
        ("charging", 1),
        ("charging", "no"),
        ("network", "lte"),
    ],
)
def test_each_bad_condition_is_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        Conditions(**{field: value})


@given(
    st.one_of(st.none(), st.floats(0, 1)),
    st.sampled_from([None, True, False]),
    st.integers(0, 23),
    st.integers(0, 10**9),
)
def test_without_limits_all_is_allowed_wherever_there_is_a_network(
    battery: float | None, charging: bool | None, hour: int, size: int
) -> None:
    for network in (None, "free"):
        conditions = Conditions(battery, charging, network)  # type: ignore[arg-type]
        assert policy.may_learn(Limits(), conditions, at(hour)) == Decision(True)
        assert policy.may_connect(Limits(), conditions, at(hour)) == Decision(True)
        assert policy.may_send(Limits(), conditions, at(hour), size, size) == Decision(True)


@pytest.mark.parametrize(
    ("battery", "charging", "allowed"),
    [
        (0.5, None, True), (0.5, False, True), (0.49, False, False), (0.49, None, False), (0.0, True, True),
        (None, True, True), (None, False, False), (None, None, False),
    ],
)  # fmt: skip
def test_the_battery(battery: float | None, charging: bool | None, allowed: bool) -> None:
    """A battery that is not known is too low where a limit needs it; charging settles it, not knowing of it doesn't."""
    limits, conditions = Limits(min_battery=0.5), Conditions(battery, charging)
    for decision in (
        policy.may_learn(limits, conditions, NOON),
        policy.may_connect(limits, conditions, NOON),
        policy.may_send(limits, conditions, NOON, 1, 0),
    ):
        assert decision.allowed is allowed
        assert decision.retry_after is None, "time alone charges no battery"
        assert allowed or "min_battery" in decision.reason


def test_a_network_that_is_not_known_forbids_nothing() -> None:
    for limits in (Limits(), Limits(bytes_per_day=100), Limits(min_battery=0.0)):
        assert policy.may_send(limits, Conditions(battery=1.0), NOON, 100, 0).allowed


def test_without_a_network_learning_goes_on() -> None:
    away = Conditions(network="none")
    assert policy.may_learn(Limits(), away, NOON).allowed
    assert not policy.may_connect(Limits(), away, NOON).allowed
    assert not policy.may_send(Limits(), away, NOON, 1, 0).allowed


def test_a_metered_network_needs_a_budget() -> None:
    metered = Conditions(network="metered")
    refused = policy.may_send(Limits(), metered, NOON, 1, 0)
    assert (refused.allowed, refused.retry_after) == (False, None)
    assert "bytes_per_day" in refused.reason
    assert policy.may_connect(Limits(), metered, NOON).allowed, "adapters still come"
    assert policy.may_send(Limits(bytes_per_day=10), metered, NOON, 10, 0).allowed


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 2 * 10**6))
def test_the_budget_is_never_passed(budget: int, size: int, spent: int) -> None:
    for network in (None, "free", "metered"):
        decision = policy.may_send(Limits(bytes_per_day=budget), Conditions(network=network), NOON, size, spent)  # type: ignore[arg-type]
        assert decision.allowed is (spent + size <= budget)
        if size > budget:
            assert decision.retry_after is None, "no midnight will help"
        elif not decision.allowed:
            assert decision.retry_after == 12 * 3600.0


@pytest.mark.parametrize(
    ("hours", "hour", "minute", "wait"),
    [
        ([(9, 17)], 9, 0, None), ([(9, 17)], 16, 59, None), ([(9, 17)], 17, 0, 16), ([(9, 17)], 8, 0, 1),
        ([(22, 6)], 22, 0, None), ([(22, 6)], 23, 59, None), ([(22, 6)], 0, 0, None), ([(22, 6)], 5, 59, None),
        ([(22, 6)], 6, 0, 16), ([(22, 6)], 21, 30, 0.5), ([(0, 24)], 23, 59, None), ([(0, 24)], 0, 0, None),
        ([(1, 2), (12.5, 13)], 12, 0, 0.5), ([(1, 2), (12.5, 13)], 12, 30, None), ([(1, 2), (12.5, 13)], 13, 0, 12),
    ],
)  # fmt: skip
def test_hours(hours: list[tuple[float, float]], hour: int, minute: int, wait: float | None) -> None:
    decision = policy.may_learn(Limits(hours=hours), UNKNOWN, at(hour, minute))
    assert decision.allowed is (wait is None)
    assert decision.retry_after == (None if wait is None else pytest.approx(wait * 3600))


@given(st.floats(0, 23.99), st.floats(0, 24), st.integers(0, 86_399))
def test_after_the_wait_the_hours_have_come(first: float, last: float, second: int) -> None:
    if first == last:
        return
    limits = Limits(hours=[(first, last)])
    now = at(0) + timedelta(seconds=second)
    decision = policy.may_connect(limits, UNKNOWN, now)
    if not decision.allowed:
        assert decision.retry_after is not None
        assert 0 <= decision.retry_after < 86_400
        inside = now + timedelta(seconds=decision.retry_after, microseconds=1)
        short = (last - first) % 24 * 3600 < 1e-3
        assert short or policy.may_connect(limits, UNKNOWN, inside).allowed


def test_days_are_those_of_the_local_calendar() -> None:
    assert policy.day(at(0)) == policy.day(at(23, 59)) == policy.day(at(0) + timedelta(days=1)) - 1
    assert policy.local(0.0).utcoffset() is not None


def test_a_hook_that_raises_is_logged_once_and_counts_as_not_known(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = [
        OSError("no fuel gauge"), OSError("no fuel gauge"), {"battery": 1.0}, Conditions(battery=0.9), OSError("again"),
    ]  # fmt: skip

    def hook() -> Conditions:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, (Conditions, dict))
        return answer  # type: ignore[return-value]

    sensor = Sensor(hook)
    with caplog.at_level(logging.WARNING):
        first, same, wrong, good, after = (sensor.read() for _ in range(5))
    assert first == same == Conditions(fault="the conditions hook failed: OSError: no fuel gauge")
    assert wrong.fault is not None
    assert "dict" in wrong.fault
    assert good == Conditions(battery=0.9)
    assert after.fault is not None
    assert len(caplog.records) == 3
    refused = policy.may_learn(Limits(min_battery=0.2), first, NOON)
    assert (refused.allowed, refused.reason) == (False, first.fault)
    assert policy.may_learn(Limits(), first, NOON).allowed


def test_without_a_hook_nothing_is_known() -> None:
    assert Sensor().read() == UNKNOWN


@given(st.integers(0, 10**9), st.integers(1, 4096), st.integers(1, 4096))
def test_examples_fill_the_memory_and_never_pass_it(ram: int, features: int, labels: int) -> None:
    least = policy.fit_bytes(policy.LEAST_EXAMPLES, features, labels)
    if ram < least:
        with pytest.raises(InputError, match=str(least)):
            policy.examples_within(ram, features, labels)
        return
    count = policy.examples_within(ram, features, labels)
    assert count >= policy.LEAST_EXAMPLES
    assert policy.fit_bytes(count, features, labels) <= ram < policy.fit_bytes(count + 1, features, labels)


def test_the_least_memory_is_enough_for_sixteen() -> None:
    assert policy.examples_within(policy.fit_bytes(16, 96, 27), 96, 27) == 16


@pytest.mark.parametrize(("count", "features", "labels"), [(400, 96, 27), (16, 96, 27), (2000, 32, 8), (64, 256, 60)])
def test_a_fit_takes_no_more_than_is_reckoned(count: int, features: int, labels: int) -> None:
    rng = np.random.default_rng(5)
    inputs = rng.standard_normal((count, features)).astype(np.float32)
    base = rng.standard_normal((count, labels)).astype(np.float32)
    targets = rng.integers(0, labels, count).astype(np.intp)
    names = tuple(f"label {row}" for row in range(labels))
    problem = Problem(names, inputs, base, targets, np.eye(features + 1, dtype=np.float32), np.ones(labels))
    solver.minimise(problem)  # what is loaded at the first call is not the fit's
    tracemalloc.start()
    solver.minimise(problem)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= policy.fit_bytes(count, features, labels)
