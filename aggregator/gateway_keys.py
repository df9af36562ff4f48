"""The gateway's keys and fleet record in its folder.

Keys come in generations: the first in `keys/`, those of later rotations in `keys/2`, `keys/3` and so on. Which one is
in use, and which comes next, says the fleet record alone, so that one whole write of one file changes both.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasuki.sdk import fleet_record, keys
from tasuki.sdk.envelope import SealingPrivateKey
from tasuki.sdk.errors import KeyInvalid, Refused, StateCorrupt, StateMismatch
from tasuki.sdk.fleet_record import Record
from tasuki.sdk.keys import Password, from_environment
from tasuki.sdk.signing import Signer

RECORD: Final = "record.cbor"
_SIGNING, _REFERENCE, _PARTIAL = "signing.pem", "signing.ref", ".partial"


@dataclass(frozen=True)
class Generation:
    """The keys of one folder; `public` are the raw public sealing keys by suite."""

    folder: Path
    signer: Signer
    sealing: dict[int, SealingPrivateKey]
    public: dict[int, bytes]


@dataclass(frozen=True)
class GatewayKeys:
    """What a gateway signs and opens with.

    `others` are the sealing keys that came before the present ones or come after them: devices that have not heard of
    a change, or have heard of it early, seal to them. `record` is the fleet record and `wire` what is published of it;
    both are None in a folder of format 1.
    """

    signer: Signer
    sealing: dict[int, SealingPrivateKey]
    public: dict[int, bytes]
    others: tuple[dict[int, SealingPrivateKey], ...] = ()
    record: Record | None = None
    wire: bytes | None = None

    @property
    def rings(self) -> tuple[dict[int, SealingPrivateKey], ...]:
        """Every set of sealing keys that still opens, the present ones first."""
        return (self.sealing, *self.others)


def make(folder: Path, password: Password = from_environment, signer: str | None = None) -> Generation:
    """New keys in `folder`; the signing key may live elsewhere, where the reference `signer` says."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if signer is not None:
        keys.open_signer(signer, password)
        keys.write_private(folder / _REFERENCE, signer.encode())
    else:
        (folder / _REFERENCE).unlink(missing_ok=True)
        keys.signing_key(folder / _SIGNING, password)
    keys.make_sealing(folder, password())
    return read(folder, password)


def read(folder: Path, password: Password = from_environment) -> Generation:
    """The keys in `folder`. Raises KeyInvalid."""
    reference = folder / _REFERENCE
    if reference.exists():
        signer = keys.open_signer(reference.read_text().strip(), password)
    else:
        signer = keys.load_signing(folder / _SIGNING, password)
    return Generation(folder, signer, keys.load_sealing(folder, password), keys.sealing_public_bytes(folder, password))


def generations(folder: Path, password: Password = from_environment) -> list[Generation]:
    """Every generation in the gateway's `folder`, oldest first. Raises KeyInvalid."""
    numbered = [path for path in (folder / "keys").iterdir() if path.is_dir() and path.name.isdecimal()]
    numbered.sort(key=lambda path: int(path.name))
    first = [folder / "keys"] if any((folder / "keys" / name).exists() for name in (_SIGNING, _REFERENCE)) else []
    return [read(path, password) for path in (*first, *numbered)]


def number(generation: Generation) -> int:
    """Its number: 1 for the first."""
    return 1 if generation.folder.name == "keys" else int(generation.folder.name)


def following(folder: Path, one: Generation, password: Password = from_environment, signer: str | None = None) -> None:
    """Make the generation after `one` in the gateway's `folder`, whole or not at all."""
    partial = folder / "keys" / _PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    make(partial, password, signer)
    partial.rename(folder / "keys" / str(number(one) + 1))


def drop(generation: Generation) -> None:
    """Delete keys that nothing is sealed to any more."""
    folder = generation.folder
    if number(generation) > 1:
        gone = folder.with_name(_PARTIAL)
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone)
        return
    # Without a signing key it is no generation, should this be cut short.
    for path in (folder / _SIGNING, folder / _REFERENCE, *folder.iterdir()):
        if not path.is_dir():
            path.unlink(missing_ok=True)


def load(folder: Path, fleet: str, root: bytes, password: Password = from_environment) -> GatewayKeys:
    """The keys that the record in `folder` names. `root` is empty for a folder of format 1, which has no record.

    Raises KeyInvalid, StateCorrupt, and StateMismatch if record and keys do not belong together.
    """
    if not root:
        only = read(folder / "keys", password)
        return GatewayKeys(only.signer, only.sealing, only.public)
    wire, record = load_record(folder, fleet, root)
    held = generations(folder, password)
    current = find(held, record.signing, record.sealing)
    place = held.index(current)
    former = [one.sealing for one in held[:place][-1:]]
    later = [one.sealing for one in held[place + 1 :] if one.signer.public == record.next_signing]
    return GatewayKeys(current.signer, current.sealing, current.public, (*former, *later), record, wire)


def load_record(folder: Path, fleet: str, root: bytes) -> tuple[bytes, Record]:
    """What is published, and the verified record in it. Raises StateCorrupt."""
    path = folder / RECORD
    try:
        wire = path.read_bytes()
        return wire, fleet_record.verify(fleet_record.inner(wire), root, fleet)
    except OSError as error:
        raise StateCorrupt(f"the fleet record {path} can't be read: {error.strerror}") from None
    except (Refused, KeyInvalid) as error:
        raise StateCorrupt(f"the fleet record {path} is damaged: {error}") from None


def find(held: list[Generation], signing: bytes, sealing: object) -> Generation:
    """The generation with these public keys. Raises StateMismatch."""
    for one in held:
        if one.signer.public == signing and one.public == sealing:
            return one
    raise StateMismatch("the fleet record names keys that are not in the folder keys/: restore it from its backup")
