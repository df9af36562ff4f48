"""The enrolment file: carried to the device out of band, it is what the device trusts the gateway by."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tasuki.sdk import keys
from tasuki.sdk.envelope import SUITES
from tasuki.sdk.errors import InputError, KeyInvalid
from tasuki.sdk.topics import checked_name

FORMAT: Final = 1
MAX_BYTES: Final = 64 << 10


@dataclass(frozen=True)
class Tls:
    """PEM texts: the fleet's CA, and the client's certificate and private key."""

    ca: str
    certificate: str
    key: str


@dataclass(frozen=True)
class Enrolment:
    """Fleet, name, broker, and the gateway's public keys (raw bytes); `sealing` is that of `suite`."""

    fleet: str
    device: str
    host: str
    port: int
    artifact: bytes
    gateway: bytes
    suite: int
    sealing: bytes
    tls: Tls | None = None


def encode(enrolment: Enrolment) -> bytes:
    """The file's content (JSON)."""
    tls = enrolment.tls
    fields: dict[str, Any] = {
        "format": FORMAT,
        "fleet": enrolment.fleet,
        "device": enrolment.device,
        "broker": {"host": enrolment.host, "port": enrolment.port},
        "artifact": enrolment.artifact.hex(),
        "gateway": b64encode(enrolment.gateway).decode(),
        "suite": enrolment.suite,
        "sealing": b64encode(enrolment.sealing).decode(),
        "tls": None if tls is None else {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key},
    }
    return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()


def decode(data: bytes) -> Enrolment:
    """Parse and check. Raises KeyInvalid."""
    if len(data) > MAX_BYTES:
        raise KeyInvalid(f"the enrolment has {len(data)} bytes, at most {MAX_BYTES}: not an enrolment file")
    try:
        return _checked(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError, KeyInvalid) as error:
        raise KeyInvalid(f"not an enrolment file ({error}); make one with `tasuki gateway enrol`") from None


def _checked(fields: Mapping[str, Any]) -> Enrolment:
    if fields["format"] != FORMAT:
        raise ValueError(f"format {fields['format']}")
    host, port, suite = fields["broker"]["host"], fields["broker"]["port"], fields["suite"]
    if not (isinstance(host, str) and host and type(port) is int and 0 < port < 65536):
        raise ValueError("broker")
    if type(suite) is not int or suite not in SUITES:
        raise ValueError(f"suite {suite}")
    artifact, gateway = bytes.fromhex(fields["artifact"]), b64decode(fields["gateway"], validate=True)
    if len(artifact) != 32:
        raise ValueError("artifact")
    keys.verifying(gateway)
    sealing = b64decode(fields["sealing"], validate=True)
    keys.sealing_public(suite, sealing)
    tls = fields["tls"]
    return Enrolment(
        fleet=checked_name(fields["fleet"], "fleet"),
        device=checked_name(fields["device"], "device"),
        host=host,
        port=port,
        artifact=artifact,
        gateway=gateway,
        suite=suite,
        sealing=sealing,
        tls=None if tls is None else Tls(str(tls["ca"]), str(tls["certificate"]), str(tls["key"])),
    )
