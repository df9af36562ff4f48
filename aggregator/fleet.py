"""A gateway's folder: what `tasuki gateway init` makes and `tasuki gateway enrol` adds to.

gateway.json          fleet, broker, limits
artifact.tflite       the body that the fleet runs
held-out.jsonl        texts that candidates are judged on
keys/                 signing and sealing keys (mode 0600)
tls/                  certificate authority, broker's and gateway's certificates
mosquitto/            settings and access list for Debian's Mosquitto
ledger.db             devices, updates, versions
"""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tasuki.aggregator import certificates, judge
from tasuki.aggregator.ledger import Ledger
from tasuki.sdk import artifact, enrolment, keys
from tasuki.sdk.enrolment import Enrolment, Tls
from tasuki.sdk.envelope import HYBRID
from tasuki.sdk.errors import InputError, KeyInvalid, StateCorrupt, StateMismatch, StateUnwritable
from tasuki.sdk.topics import checked_name

FORMAT: Final = 1
_MOSQUITTO: Final = """# Mosquitto for the fleet {fleet}: TLS with client certificates, one access list.
# Made by `tasuki gateway init`.
# Copy the folders tls/ and mosquitto/ to the broker; start it with: mosquitto -c mosquitto/mosquitto.conf
listener {tls_port}
cafile {folder}/tls/ca.crt
certfile {folder}/tls/broker.crt
keyfile {folder}/tls/broker.key
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {folder}/mosquitto/acl

persistence true
persistence_location {folder}/mosquitto/
# A device that is away for long must not lose what waits for it.
max_queued_messages 0
max_queued_bytes 67108864
persistent_client_expiration 2m
message_size_limit 1049600
"""
_ACL: Final = """# A device writes to its own topic only, and reads its own receipts and the fleet's adapter only.
pattern write tasuki/{fleet}/up/%u
pattern read tasuki/{fleet}/receipt/%u
pattern read tasuki/{fleet}/adapter

user gateway
topic read tasuki/{fleet}/up/+
topic write tasuki/{fleet}/receipt/+
topic write tasuki/{fleet}/adapter
"""


@dataclass(frozen=True)
class Limits:
    """Bounds that no claim of a device moves. `max_norm` is in logits (see `admission.norm`)."""

    weight_cap: int = 64
    max_norm: float = 20.0
    tolerance: float = 0.002
    max_devices: int = 10_000


@dataclass(frozen=True)
class Settings:
    """The content of gateway.json."""

    fleet: str
    host: str
    port: int
    tls: bool = False
    limits: Limits = field(default_factory=Limits)


def init(
    folder: Path, fleet: str, artifact_file: Path, held_out: Path, host: str = "127.0.0.1", port: int = 1883,
    tls: bool = False,
) -> Settings:  # fmt: skip
    """Make a gateway's folder. Raises InputError, ArtifactError, StateMismatch if there is one already."""
    checked_name(fleet, "fleet")
    if not 0 < port < 65536:
        raise InputError(f"port {port} is not 1 to 65535")
    if (folder / "gateway.json").exists():
        raise StateMismatch(f"{folder} is a gateway's folder already; choose another")
    parts = artifact.load(artifact_file)
    judge.read(held_out, parts.labels)
    settings = Settings(fleet, host, port, tls)
    try:
        for name in ("keys", "tls", "mosquitto"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(artifact_file, folder / "artifact.tflite")
        shutil.copyfile(held_out, folder / "held-out.jsonl")
        keys.signing_key(folder / "keys" / "signing.pem")
        keys.make_sealing(folder / "keys")
        certificates.make_authority(folder / "tls", fleet)
        for name, certificate_host in (("broker", host), ("gateway", None)):
            certificate, key = certificates.issue(folder / "tls", name, certificate_host)
            (folder / "tls" / f"{name}.crt").write_text(certificate)
            keys.write_private(folder / "tls" / f"{name}.key", key.encode())
        words = {"fleet": fleet, "folder": folder.resolve(), "tls_port": port if tls else 8883}
        (folder / "mosquitto" / "mosquitto.conf").write_text(_MOSQUITTO.format(**words))
        (folder / "mosquitto" / "acl").write_text(_ACL.format(**words))
        (folder / "mosquitto" / "acl").chmod(0o600)
        Ledger(folder / "ledger.db").close()
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
        if fields.pop("format") != FORMAT:
            raise ValueError("unknown format")
        return Settings(**{**fields, "limits": Limits(**fields["limits"])})
    except OSError:
        raise KeyInvalid(f"{folder} is no gateway's folder; make one with `tasuki gateway init {folder}`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StateCorrupt(f"{path} is damaged: {error}") from None


def enrol(folder: Path, device: str, key: bytes, suite: int = HYBRID, token: str | None = None) -> Enrolment:
    """Add a device by its public key; the result is what the device is given.

    With `token` the broker knows the device by its name and this password instead of a client certificate.
    Raises InputError, KeyInvalid.
    """
    settings = load(folder)
    if checked_name(device, "device") == "gateway":
        raise InputError("a device can't be called gateway")
    keys.verifying(key)
    parts = artifact.load(folder / "artifact.tflite")
    tls = None
    if settings.tls:
        certificate = (None, None) if token is not None else certificates.issue(folder / "tls", device)
        tls = Tls((folder / "tls" / "ca.crt").read_text(), *certificate)
    made = Enrolment(
        fleet=settings.fleet,
        device=device,
        host=settings.host,
        port=settings.port,
        artifact=parts.hash,
        gateway=keys.load_signing(folder / "keys" / "signing.pem").public_key().public_bytes_raw(),
        suite=suite,
        sealing=keys.sealing_public_bytes(folder / "keys")[suite],
        tls=tls,
        token=token,
    )
    enrolment.check_access(made)
    # Last: a name is bound to its key for ever, so it must not be spent on an enrolment that can't be used.
    ledger = Ledger(folder / "ledger.db")
    try:
        if len(ledger.devices()) >= settings.limits.max_devices:
            raise InputError(f"the fleet has {settings.limits.max_devices} devices already")
        ledger.enrol(device, key)
    finally:
        ledger.close()
    return made


def own_tls(folder: Path) -> Tls:
    """The gateway's own client certificate."""
    tls = folder / "tls"
    return Tls(*((tls / name).read_text() for name in ("ca.crt", "gateway.crt", "gateway.key")))


def write_enrolment(path: Path, made: Enrolment) -> None:
    """Write an enrolment file with mode 0600: it holds the client's private key or token."""
    try:
        keys.write_private(path, enrolment.encode(made))
    except OSError as error:
        raise StateUnwritable(f"{path} can't be written: {error.strerror}") from None
