"""MQTT topics. Names of fleets and devices are short and plain, so that no wildcard or level can be smuggled in."""

import re
from typing import Final

from tasuki.sdk.errors import InputError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


def checked_name(name: str, what: str) -> str:
    """`name`, if it is 1 to 32 of a-z, 0-9, ``_`` and ``-``. Raises InputError."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{what} {name[:40]!r} is not a name: use 1 to 32 of a-z, 0-9, _ and -")
    return name


def up(fleet: str, device: str) -> str:
    """Where `device` sends its updates (``+`` for all devices)."""
    return f"tasuki/{fleet}/up/{device}"


def receipts(fleet: str, device: str) -> str:
    """Where `device` gets its receipts."""
    return f"tasuki/{fleet}/receipt/{device}"


def adapter(fleet: str) -> str:
    """Where the fleet's adapter is retained."""
    return f"tasuki/{fleet}/adapter"


def sender(topic: str) -> str:
    """The device that `topic` (of `up`) names."""
    return topic.rsplit("/", 1)[-1]
