"""When a device may learn and use the network, and how much it may remember. Pure: time and conditions come in.

A limit that isn't set never forbids anything. A condition that isn't known forbids only what a limit needs it for:

| not known | forbids |
|---|---|
| battery | learning, connecting and sending where `min_battery` is set, unless the device is known to charge |
| charging | nothing by itself; where `min_battery` is set the charge decides |
| network | nothing: it counts as `free` |

`bytes_per_day` holds on every network. On one that is known to be metered nothing is sent without it: only the owner
can say what may be spent there. Adapters are taken in on any network.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Final, Literal, get_args

from tasuki.sdk.errors import InputError

log = logging.getLogger(__name__)
Network = Literal["free", "metered", "none"]
# Fewer examples than this teach nothing that a held-out part of them could confirm.
LEAST_EXAMPLES: Final = 16
_FLOAT64: Final = 8
_DAY_SECONDS: Final = 86_400.0
_MATRICES: Final = 4
_TABLES: Final = 23


@dataclass(frozen=True)
class Limits:
    """What the owner allows. None: no limit. Raises InputError.

    `ram`: bytes of working memory for one refit (`examples_within`). `disk`: bytes of the state directory.
    `bytes_per_day`: payload bytes up and down in one local calendar day; what is over it is not sent, what comes in
    counts. `update_bytes`: what the compressed table of one update may take; the less, the coarser.
    `min_battery`: the charge, 0 to 1, below which the device only answers, unless it charges.
    `hours`: pairs (from, to) of local hours, 0 to 24, in which it may learn and connect; (22, 6) goes over midnight.
    """

    ram: int | None = None
    disk: int | None = None
    bytes_per_day: int | None = None
    update_bytes: int | None = None
    min_battery: float | None = None
    hours: Sequence[tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        for name in ("ram", "disk", "bytes_per_day", "update_bytes"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 0):
                raise InputError(f"{name}={value!r} is no number of bytes: give an int from 0 on, or None for no limit")
        if self.min_battery is not None and not _within(self.min_battery, 1.0):
            raise InputError(f"min_battery={self.min_battery!r} is no charge: give 0 to 1, or None for no limit")
        if self.hours is not None:
            object.__setattr__(self, "hours", _checked_hours(self.hours))


@dataclass(frozen=True)
class Conditions:
    """What the device knows of itself; None where it does not. `battery` is the charge, 0 to 1. Raises InputError.

    `fault` says why the conditions are not known, if the hook that reads them failed.
    """

    battery: float | None = None
    charging: bool | None = None
    network: Network | None = None
    fault: str | None = None

    def __post_init__(self) -> None:
        if self.battery is not None and not _within(self.battery, 1.0):
            raise InputError(f"battery={self.battery!r} is no charge: give 0 to 1, or None if it is not known")
        if self.charging is not None and not isinstance(self.charging, bool):
            raise InputError(f"charging={self.charging!r}: give True, False, or None if it is not known")
        if self.network not in (None, *get_args(Network)):
            raise InputError(f"network={self.network!r}: give free, metered or none, or None if it is not known")


Hook = Callable[[], Conditions]


@dataclass(frozen=True)
class Decision:
    """`reason` says why not (empty if allowed); `retry_after`: seconds until time alone may change the answer."""

    allowed: bool
    reason: str = ""
    retry_after: float | None = None


ALLOWED: Final = Decision(True)


class Sensor:
    """Asks a hook for conditions and outlives it: what it raises is logged once, and counts as not known."""

    def __init__(self, hook: Hook | None = None) -> None:
        self._hook = hook
        self._fault: str | None = None

    def read(self) -> Conditions:
        """The conditions now. Raises nothing."""
        if self._hook is None:
            return Conditions()
        try:
            found = self._hook()
            if not isinstance(found, Conditions):
                raise TypeError(f"it gave {type(found).__name__}, not Conditions")
            found = replace(found, fault=None)
        except Exception as error:
            found = Conditions(fault=f"the conditions hook failed: {type(error).__name__}: {error}"[:200])
            if found.fault != self._fault:
                log.warning("%s; conditions count as not known", found.fault, exc_info=error)
        self._fault = found.fault
        return found


def local(seconds: float) -> datetime:
    """The local time at `seconds` since the epoch."""
    return datetime.fromtimestamp(seconds, timezone.utc).astimezone()


def day(now_local: datetime) -> int:
    """The number of the local calendar day."""
    return now_local.toordinal()


def may_learn(limits: Limits, conditions: Conditions, now_local: datetime) -> Decision:
    """Whether to fit what was learned now; examples are taken in any case."""
    return _hours(limits, now_local) or _battery(limits, conditions) or ALLOWED


def may_connect(limits: Limits, conditions: Conditions, now_local: datetime) -> Decision:
    """Whether to look for the broker at all."""
    if conditions.network == "none":
        return Decision(False, "there is no network")
    return may_learn(limits, conditions, now_local)


def may_send(limits: Limits, conditions: Conditions, now_local: datetime, size: int, spent_today: int) -> Decision:
    """Whether an update of `size` bytes may go, where `spent_today` bytes went and came since local midnight."""
    refused = may_connect(limits, conditions, now_local)
    if not refused.allowed:
        return refused
    budget = limits.bytes_per_day
    if budget is None:
        if conditions.network == "metered":
            return Decision(False, "the network is metered and bytes_per_day does not say what may be spent")
        return ALLOWED
    if size > budget:
        return Decision(False, f"the update has {size} bytes, bytes_per_day is {budget}: raise it to at least {size}")
    if spent_today + size > budget:
        left = max(0, budget - spent_today)
        midnight = _DAY_SECONDS - _second(now_local)
        return Decision(False, f"{left} of {budget} bytes are left today, the update has {size}", midnight)
    return ALLOWED


def fit_bytes(examples: int, features: int, labels: int) -> int:
    """Working memory of one fit (`tasuki.sdk.solver`) of n `examples`, d `features` and C `labels`, in bytes.

    As float64: the inputs with a constant, n (d+1); scores, shares and their change, 3 n C; 4 matrices (d+1)^2 of the
    pull and the preconditioner; the tables of L-BFGS, 23 C (d+1). (What the solver keeps as float32 it keeps twice.)
    """
    width = features + 1
    return _FLOAT64 * (examples * (width + 3 * labels) + _MATRICES * width * width + _TABLES * labels * width)


def examples_within(ram: int, features: int, labels: int) -> int:
    """How many examples of d `features` and C `labels` one fit may take in `ram` bytes.

    Raises InputError where these are fewer than 16; it names the least.
    """
    least = fit_bytes(LEAST_EXAMPLES, features, labels)
    if ram < least:
        raise InputError(
            f"ram={ram} is too little: {LEAST_EXAMPLES} examples of {features} features and {labels} labels need"
            f" at least {least} bytes"
        )
    fixed = fit_bytes(0, features, labels)
    return (ram - fixed) // (fit_bytes(1, features, labels) - fixed)


def _within(value: object, highest: float) -> bool:
    """A finite number from 0 to `highest`, and no bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and 0 <= value <= highest


def _checked_hours(hours: object) -> tuple[tuple[float, float], ...]:
    advice = "give pairs (from, to) of hours from 0 to 24 that differ, e.g. [(22, 6)], or None for always"
    if not isinstance(hours, (list, tuple)) or not hours:
        raise InputError(f"hours={hours!r}: {advice}")
    for pair in hours:
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and all(_within(hour, 24.0) for hour in pair)):
            raise InputError(f"hours has {pair!r}: {advice}")
        if pair[0] == pair[1] or pair[0] == 24:
            raise InputError(f"hours has {pair!r}: {advice}")
    return tuple((first, last) for first, last in hours)


def _second(now_local: datetime) -> float:
    """Seconds since midnight by the wall clock."""
    midnight = now_local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return (now_local.replace(tzinfo=None) - midnight) / timedelta(seconds=1)


def _hours(limits: Limits, now_local: datetime) -> Decision | None:
    if limits.hours is None:
        return None
    hour = _second(now_local) / 3600
    for first, last in limits.hours:
        if first <= hour < last or (last < first and (hour >= first or hour < last)):
            return None
    # By the wall clock: on the two days a year when it is moved this is an hour off, and the next question mends it.
    wait = min((first - hour) % 24 for first, _ in limits.hours) * 3600
    said = ", ".join(f"{first:g} to {last:g}" for first, last in limits.hours)
    return Decision(False, f"outside the hours {said}", wait)


def _battery(limits: Limits, conditions: Conditions) -> Decision | None:
    if limits.min_battery is None or conditions.charging:
        return None
    if conditions.battery is None:
        return Decision(False, conditions.fault or "the battery is not known, and min_battery is set")
    if conditions.battery < limits.min_battery:
        return Decision(False, f"the battery is at {conditions.battery:.0%}, min_battery is {limits.min_battery:.0%}")
    return None
