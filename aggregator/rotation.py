"""A fleet's next record: new keys are announced, then used; or only the record is renewed.

Each step has three parts, because the root key may be on another machine: `draft` says what the record should be,
`fleet_record.issue` signs it, `install` checks it and puts it in place.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from tasuki.aggregator import fleet, gateway_keys
from tasuki.aggregator.fleet import DAY_SECONDS
from tasuki.aggregator.gateway_keys import Generation
from tasuki.sdk import fleet_record, keys
from tasuki.sdk.errors import InputError, KeyInvalid
from tasuki.sdk.fleet_record import Record
from tasuki.sdk.keys import Password, from_environment

ANNOUNCE, FINISH, RENEW = "announce", "finish", "renew"
STEPS: Final = (ANNOUNCE, FINISH, RENEW)


def draft(
    folder: Path, step: str, *, valid_days: int = 0, signer: str | None = None, password: Password = from_environment
) -> Record:
    """The record that should follow the present one.

    `announce` makes the next keys, or takes those that an unfinished announcement made; `finish` makes them the
    present ones; `renew` changes neither. `signer` refers to a next signing key that is no file of this folder. The
    record is good for `valid_days` (0: for ever). Raises InputError, KeyInvalid, StateError.
    """
    record = _record(folder)
    now = int(time.time())
    fresh = replace(
        record,
        version=record.version + 1,
        issued=now,
        expires=now + valid_days * DAY_SECONDS if valid_days else 0,
    )
    if step == RENEW:
        return fresh
    if step == FINISH:
        if record.next_signing is None:
            raise InputError("no keys were announced: run `tasuki gateway rotate` without --finish first")
        return replace(
            fresh, signing=record.next_signing, sealing=record.next_sealing, next_signing=None, next_sealing={}
        )
    if record.next_signing is not None:
        raise InputError("the next keys are announced already: when devices have heard of them, --finish")
    made = _next(folder, record, signer, password)
    return replace(fresh, next_signing=made.signer.public, next_sealing=made.public)


def install(folder: Path, message: bytes, password: Password = from_environment) -> Record:
    """Put a record that the root signed in place; a running gateway takes it up by itself.

    It has to be one that every device of the present record will follow, and its keys have to be in `folder`. Keys
    that are older than the former ones are deleted when others are announced. Raises Refused, KeyInvalid, StateError.
    """
    settings = fleet.load(folder)
    root, before = bytes.fromhex(settings.root), _record(folder)
    now = time.time()
    record = fleet_record.accept(message, root, settings.fleet, now, before)
    held = gateway_keys.generations(folder, password)
    current = gateway_keys.find(held, record.signing, record.sealing)
    if record.next_signing is not None:
        gateway_keys.find(held, record.next_signing, record.next_sealing)
    if record.version == before.version:
        return record
    wire, _ = gateway_keys.load_record(folder, settings.fleet, root)
    announced = fleet_record.announce(message, current.signer, wire)
    fleet_record.advance(announced, root, before, now)
    keys.write_private(folder / gateway_keys.RECORD, announced)
    if record.next_signing is not None:
        for old in held[: held.index(current)]:
            gateway_keys.drop(old)
    return record


def _record(folder: Path) -> Record:
    settings = fleet.load(folder)
    if not settings.root:
        raise KeyInvalid(f"{folder} was made by an older version and has no fleet record; make a new folder")
    return gateway_keys.load_record(folder, settings.fleet, bytes.fromhex(settings.root))[1]


def _next(folder: Path, record: Record, signer: str | None, password: Password) -> Generation:
    """The generation after the present one."""
    held = gateway_keys.generations(folder, password)
    current = gateway_keys.find(held, record.signing, record.sealing)
    later = held[held.index(current) + 1 :]
    if signer is not None or not later:
        for one in later:
            gateway_keys.drop(one)
        gateway_keys.following(folder, current, password, signer)
        later = gateway_keys.generations(folder, password)[held.index(current) + 1 :]
    return later[0]
