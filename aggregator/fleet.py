"""A gateway's folder: what `tasuki gateway init` makes and `tasuki gateway enrol` adds to.

gateway.json          fleet, broker, limits, the maker's root key (public)
record.cbor           the fleet record as it is published, signed by root and gateway
artifact.tflite       the body that the fleet runs
held-out.jsonl        texts that candidates are judged on
keys/                 signing and sealing keys (mode 0600); those of later rotations in keys/2, keys/3, ...
root/                 a root key that `init` made because none was given: move it away
tls/                  certificate authority, broker's and gateway's certificates, revocation list
mosquitto/            settings and access list for Debian's Mosquitto
ledger.db             devices, updates, versions
"""

import hashlib
import json
import secrets
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tasuki.aggregator import broker_files, certificates, gateway_keys, judge
from tasuki.aggregator.gateway_keys import GatewayKeys
from tasuki.aggregator.ledger import Ledger
from tasuki.sdk import artifact, enrolment, fleet_record, join, keys, signing
from tasuki.sdk.enrolment import Enrolment, Tls
from tasuki.sdk.envelope import HYBRID
from tasuki.sdk.errors import InputError, KeyInvalid, StateCorrupt, StateMismatch, StateUnwritable
from tasuki.sdk.fleet_record import Record
from tasuki.sdk.keys import Password, from_environment
from tasuki.sdk.signing import Signer
from tasuki.sdk.topics import checked_name

FORMAT: Final = 2
_FIRST_FORMAT: Final = 1
_PLAIN_PORT, _TLS_PORT = 1883, 8883
DAY_SECONDS: Final = 24 * 3600


@dataclass(frozen=True)
class Limits:
    """Bounds that no claim of a device moves. `max_norm` is in logits (see `compression.norm`)."""

    weight_cap: int = 64
    max_norm: float = 20.0
    tolerance: float = 0.002
    max_devices: int = 10_000


@dataclass(frozen=True)
class Settings:
    """The content of gateway.json. `root` is the maker's raw public key in hex; a folder of format 1 has none."""

    fleet: str
    host: str
    port: int
    tls: bool = False
    limits: Limits = field(default_factory=Limits)
    root: str = ""


def init(
    folder: Path, fleet: str, artifact_file: Path, held_out: Path, host: str = "127.0.0.1", port: int = _PLAIN_PORT,
    tls: bool = False, *, root: Signer | None = None, signer: str | None = None, adapter: str = "head",
    valid_days: int = 0, password: Password = from_environment,
) -> Settings:  # fmt: skip
    """Make a gateway's folder, and fleet record 1, which is good for `valid_days` (0: for ever).

    `root` signs the record and is not kept; without one a new root key is made in `folder`/root. `signer` refers to
    the gateway's own signing key where that is no file of this folder (`keys.open_signer`). Keys are encrypted if
    there is a password, but for those that TLS reads.
    Raises InputError, ArtifactError, KeyInvalid, StateMismatch if there is a folder already.
    """
    checked_name(fleet, "fleet")
    if not 0 < port < 65536:
        raise InputError(f"port {port} is not 1 to 65535")
    if (folder / "gateway.json").exists():
        raise StateMismatch(f"{folder} is a gateway's folder already; choose another")
    parts = artifact.load(artifact_file)
    judge.read(held_out, parts.labels)
    limits = Limits()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("keys", "tls", "mosquitto"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(artifact_file, folder / "artifact.tflite")
        shutil.copyfile(held_out, folder / "held-out.jsonl")
        maker = root or _own_root(folder, password)
        made = gateway_keys.make(folder / "keys", password, signer)
        now = int(time.time())
        record = Record(
            fleet, 1, now, now + valid_days * DAY_SECONDS if valid_days else 0, (parts.hash,), made.signer.public,
            made.public, adapter, limits.max_norm,
        )  # fmt: skip
        wire = fleet_record.announce(fleet_record.issue(record, maker), made.signer)
        keys.write_private(folder / gateway_keys.RECORD, wire)
        _make_tls(folder, fleet, host, password)
        broker_files.write(folder, fleet, port if tls else _TLS_PORT)
        (folder / "ledger.db").touch(0o600)  # updates in the clear, and what sessions go on from
        Ledger(folder / "ledger.db").close()
        settings = Settings(fleet, host, port, tls, limits, maker.public.hex())
        # Last: a folder without this file is unfinished and may be made again.
        keys.write_private(
            folder / "gateway.json", json.dumps({"format": FORMAT, **asdict(settings)}, indent=2).encode()
        )
    except OSError as error:
        raise StateUnwritable(f"{folder} can't be written: {error.strerror}") from None
    return settings


def load(folder: Path) -> Settings:
    """The settings in `folder`. Raises KeyInvalid if it is no gateway's folder, StateCorrupt if it is damaged."""
    path = folder / "gateway.json"
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
        if fields.pop("format") not in (_FIRST_FORMAT, FORMAT):
            raise ValueError("unknown format")
        made = Settings(**{**fields, "limits": Limits(**fields["limits"])})
        if made.root:
            signing.check_public(bytes.fromhex(made.root))
    except OSError:
        raise KeyInvalid(f"{folder} is no gateway's folder; make one with `tasuki gateway init {folder}`") from None
    except (ValueError, KeyError, TypeError, KeyInvalid) as error:
        raise StateCorrupt(f"{path} is damaged: {error}") from None
    return made


def load_keys(folder: Path, password: Password = from_environment) -> GatewayKeys:
    """Keys and record as they are now; read again when `record.cbor` changes. Raises KeyInvalid, StateError."""
    settings = load(folder)
    return gateway_keys.load(folder, settings.fleet, bytes.fromhex(settings.root), password)


def enrol(
    folder: Path, device: str, key: bytes | None, suite: int = HYBRID, token: str | None = None, *,
    request: bytes | None = None, valid_seconds: float | None = None, password: Password = from_environment,
) -> Enrolment:  # fmt: skip
    """Add a device; the result is what it is given. One of these says how:

    - `key`, its raw public key;
    - `request`, a certificate request (PEM) that it made with its own key;
    - `valid_seconds`: it is given a one-time token, good for so long, and shows its key when it joins.

    With `token` the broker knows the device by its name and this password instead of a client certificate.
    Raises InputError, KeyInvalid.
    """
    settings = load(folder)
    if checked_name(device, "device") == "gateway":
        raise InputError("a device can't be called gateway")
    if [key is None, request is None, valid_seconds is None].count(False) != 1:
        raise InputError("give one of the device's key, its request, and a time to join in")
    ledger = Ledger(folder / "ledger.db")
    try:
        if ledger.revoked(device):
            raise InputError(f"{device} was revoked; choose another name")
        if len(ledger.devices()) >= settings.limits.max_devices:
            raise InputError(f"the fleet has {settings.limits.max_devices} devices already")
        made, key = _enrolment(
            folder, settings, device, key, suite, token, request, valid_seconds is not None, password
        )
        # Last: a name is bound to its key for ever, so it must not be spent on an enrolment that can't be used.
        if made.join is not None:
            ledger.add_token(device, hashlib.sha256(made.join).digest(), time.time() + (valid_seconds or 0))
        elif key is not None:
            ledger.enrol(device, key)
    finally:
        ledger.close()
    return made


def _enrolment(
    folder: Path, settings: Settings, device: str, key: bytes | None, suite: int, token: str | None,
    request: bytes | None, once: bool, password: Password,
) -> tuple[Enrolment, bytes | None]:  # fmt: skip
    """What `device` is given, and its public key if it is known."""
    held = load_keys(folder, password)
    if held.record is None and (request is not None or once):
        raise InputError(f"{folder} has no fleet record: a device can only be enrolled by its key")
    tls, key = _client_tls(folder, settings, device, key, request, token, password)
    made = Enrolment(
        fleet=settings.fleet,
        device=device,
        host=settings.host,
        port=settings.port,
        artifact=artifact.load(folder / "artifact.tflite").hash,
        gateway=held.signer.public,
        suite=suite,
        sealing=held.public[suite],
        tls=tls,
        token=token,
        root=bytes.fromhex(settings.root) or None,
        record=None if held.wire is None else fleet_record.inner(held.wire),
        join=secrets.token_bytes(join.TOKEN_BYTES) if once else None,
    )
    enrolment.check_access(made)
    return made, key


def revoke(folder: Path, device: str, password: Password = from_environment) -> int:
    """Believe `device` no more, from now on and for ever; how many TLS certificates the revocation list has now.

    Works while the gateway runs. Raises InputError if there is no such device, KeyInvalid.
    """
    load(folder)
    ledger = Ledger(folder / "ledger.db")
    try:
        if not ledger.revoke(checked_name(device, "device"), time.time()):
            raise InputError(f"no device {device} in this fleet; `tasuki gateway status` lists them")
        return certificates.revoke(folder / "tls", ledger.revoked, password)
    finally:
        ledger.close()


def own_tls(folder: Path) -> Tls:
    """The gateway's own client certificate."""
    tls = folder / "tls"
    return Tls(*((tls / name).read_text() for name in ("ca.crt", "gateway.crt", "gateway.key")))


def write_enrolment(path: Path, made: Enrolment) -> None:
    """Write an enrolment file with mode 0600: it holds the client's private key or a token."""
    try:
        keys.write_private(path, enrolment.encode(made))
    except OSError as error:
        raise StateUnwritable(f"{path} can't be written: {error.strerror}") from None


def _own_root(folder: Path, password: Password) -> Signer:
    (folder / "root").mkdir(mode=0o700, exist_ok=True)
    made = keys.signing_key(folder / "root" / "root.pem", password)
    public = made.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "root" / "root.pub").write_bytes(public)
    return made


def _make_tls(folder: Path, fleet: str, host: str, password: Password) -> None:
    tls = folder / "tls"
    certificates.make_authority(tls, fleet, password())
    for name, certificate_host in (("broker", host), ("gateway", None)):
        certificate, key = certificates.issue(tls, name, certificate_host, password)
        (tls / f"{name}.crt").write_text(certificate)
        keys.write_private(tls / f"{name}.key", key.encode())


def _client_tls(
    folder: Path, settings: Settings, device: str, key: bytes | None, request: bytes | None, token: str | None,
    password: Password,
) -> tuple[Tls | None, bytes | None]:  # fmt: skip
    """What TLS needs on the device, and its public key."""
    if key is not None:
        signing.check_public(key)
    if request is not None and (token is not None or not settings.tls):
        raise InputError("a request is for a TLS certificate: it goes with --tls at `init`, and without a token")
    if not settings.tls:
        return None, key
    tls = folder / "tls"
    authority = (tls / "ca.crt").read_text()
    if request is not None:
        certificate, public = certificates.certify(tls, request, device, password)
        return Tls(authority, certificate), public
    return Tls(
        authority, *((None, None) if token is not None else certificates.issue(tls, device, None, password))
    ), key
