"""MQTT topics. Names of fleets and devices are short and plain, so that no wildcard or level can be smuggled in."""

import re
from typing import Final, NamedTuple

from tasuki.sdk.errors import InputError, Refusal, Refused

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}")


def checked_name(name: str, what: str) -> str:
    """`name`, if it is 1 to 32 of a-z, 0-9, ``_`` and ``-``. Raises InputError."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{what} {name[:40]!r} is not a name: use 1 to 32 of a-z, 0-9, _ and -")
    return name


def up(fleet: str, device: str) -> str:
    """Where `device` sends its updates (``+`` for all devices)."""
    return f"tasuki/{fleet}/up/{device}"


def part_up(fleet: str, device: str, sequence: int, index: int) -> str:
    """Where `device` sends part `index` of its update `sequence`."""
    return f"{up(fleet, device)}/{sequence}/{index}"


def join(fleet: str, device: str) -> str:
    """Where a device that is to join sends its public key and its one-time token."""
    return f"tasuki/{fleet}/join/{device}"


def status(fleet: str, device: str) -> str:
    """Where is retained whether `device` is online; its last will says when it is not."""
    return f"tasuki/{fleet}/status/{device}"


def receipts(fleet: str, device: str) -> str:
    """Where `device` gets its receipts."""
    return f"tasuki/{fleet}/receipt/{device}"


def record(fleet: str) -> str:
    """Where the fleet record is retained."""
    return f"tasuki/{fleet}/record"


def adapter(fleet: str) -> str:
    """Where the announcement of the fleet's adapter is retained."""
    return f"tasuki/{fleet}/adapter"


def part_down(fleet: str, version: int, index: int | str) -> str:
    """Where part `index` of version `version` is retained (``+`` for all parts)."""
    return f"{adapter(fleet)}/{version}/{index}"


class Heard(NamedTuple):
    """What a topic says: `kind` is its third level; `device` is there where the topic is a device's, the numbers where
    it is a part's: `number` is a sequence or a version.
    """

    kind: str
    device: str = ""
    number: int = 0
    part: int | None = None


def read(topic: str, fleet: str) -> Heard:
    """Take apart what came on a topic of `fleet`. Raises Refused(MALFORMED) on any other."""
    match topic.split("/"):
        case ["tasuki", name, ("adapter" | "record") as kind] if name == fleet:
            return Heard(kind)
        case ["tasuki", name, "adapter", version, index] if name == fleet:
            return Heard("adapter", "", _number(version), _number(index))
        case ["tasuki", name, ("up" | "join" | "status" | "receipt") as kind, device] if name == fleet:
            return Heard(kind, _device(device))
        case ["tasuki", name, "up", device, sequence, index] if name == fleet:
            return Heard("up", _device(device), _number(sequence), _number(index))
    raise Refused(Refusal.MALFORMED, "topic")


def _device(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Refused(Refusal.MALFORMED, "topic")
    return name


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise Refused(Refusal.MALFORMED, "topic")
    return int(text)
